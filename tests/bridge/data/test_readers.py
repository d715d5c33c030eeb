from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.data import FORMATS, DatasetRow, FieldMap, read_dataset
from statebridge.errors import DatasetError
from statebridge.scoring.gold import gold_of
from tests.bridge.data.refusal import refused

# Tiny records in the form in which each set is distributed.
HOTPOT: dict[str, Any] = {
    "_id": "5a8b57f25542995d1e6f1371",
    "answer": "yes",
    "question": "Were Scott Derrickson and Ed Wood of the same nationality?",
    "supporting_facts": [["Scott Derrickson", 0], ["Ed Wood", 0]],
    "context": [
        ["Ed Wood (film)", ["Ed Wood is a 1994 film.", " It was directed by Tim Burton."]],
        ["Scott Derrickson", ["Scott Derrickson is an American director.", " He lives in LA."]],
        ["Ed Wood", ["Edward Davis Wood Jr. was an American filmmaker."]],
    ],
    "type": "comparison",
    "level": "hard",
}
HOTPOT_COLUMNS: dict[str, Any] = {
    **{k: v for k, v in HOTPOT.items() if k != "_id"},
    "id": HOTPOT["_id"],
    "supporting_facts": {"title": ["Scott Derrickson", "Ed Wood"], "sent_id": [0, 0]},
    "context": {
        "title": [title for title, _ in HOTPOT["context"]],
        "sentences": [sentences for _, sentences in HOTPOT["context"]],
    },
}
TWOWIKI: dict[str, Any] = {
    "_id": "8813f87c0bdd11eba7f7acde48001122",
    "type": "compositional",
    "question": "Who is the mother of the director of film Polish-Russian War?",
    "context": [
        ["Xawery Żuławski", ["Xawery Żuławski is a Polish director.", "He is her son."]],
        ["Viktor Yeliseyev", ["Viktor Yeliseyev is a general."]],
        ["Polish-Russian War (film)", ["Polish-Russian War is a 2009 film."]],
    ],
    "supporting_facts": [["Polish-Russian War (film)", 0], ["Xawery Żuławski", 1]],
    "evidences": [
        ["Polish-Russian War", "director", "Xawery Żuławski"],
        ["Xawery Żuławski", "mother", "Małgorzata Braunek"],
    ],
    "answer": "Małgorzata Braunek",
    "evidences_id": [],
    "answer_id": "Q274277",
}
MUSIQUE: dict[str, Any] = {
    "id": "2hop__482757_12019",
    "paragraphs": [
        {
            "idx": 0,
            "title": "Hana Mandlikova",
            "paragraph_text": "Hana won in 1985. ",
            "is_supporting": True,
        },
        {"idx": 1, "title": "Noise", "paragraph_text": "Noise.", "is_supporting": False},
        {"idx": 2, "title": "Prague", "paragraph_text": "Prague is.", "is_supporting": True},
    ],
    "question": "Where was the winner of 1985 born?",
    "question_decomposition": [
        {"id": 482757, "question": "who?", "answer": "Hana", "paragraph_support_idx": 0},
        {"id": 12019, "question": "#1 born?", "answer": "Prague", "paragraph_support_idx": 2},
    ],
    "answer": "Prague",
    "answer_aliases": ["Praha"],
    "answerable": True,
}
BABI = (
    "1 Mary got the milk there.\n"
    "2 John moved to the bedroom.\n"
    "3 Sandra went back to the kitchen.\n"
    "4 Mary travelled to the hallway.\n"
    "5 Where is the milk? \thallway\t4 1\n"
    "6 John got the football there.\n"
    "7 Where is the football? \tbedroom\t2 6\n"
    "1 John went to the office.\n"
    "2 Where is John? \toffice\t1\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qa2_two-supporting-facts_test.txt"


def array(path: Path, *records: object) -> Path:
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def test_hotpotqa_as_distributed_and_as_exported(path: Path) -> None:
    gold = DatasetRow(
        "5a8b57f25542995d1e6f1371",
        "Scott Derrickson: Scott Derrickson is an American director. He lives in LA.\n"
        "Ed Wood: Edward Davis Wood Jr. was an American filmmaker.",
        "Were Scott Derrickson and Ed Wood of the same nationality?",
        "yes",
        {
            "type": "comparison",
            "level": "hard",
            "hops": 2,
            "answer_type": "entity",
            "scoring": "squad_exact_match",
        },
    )
    assert read_dataset(array(path, HOTPOT), "hotpotqa") == [gold]
    assert read_dataset(array(path, HOTPOT_COLUMNS), "hotpotqa") == [gold]
    assert read_dataset(lines(path, HOTPOT_COLUMNS), "hotpotqa", context="gold") == [gold]
    (everything,) = read_dataset(path, "hotpotqa", context="all")
    assert everything.context == (
        "Ed Wood (film): Ed Wood is a 1994 film. It was directed by Tim Burton.\n" + gold.context
    )


def test_2wikimultihopqa(path: Path) -> None:
    (row,) = read_dataset(array(path, TWOWIKI), "2wikimultihopqa")
    assert row == DatasetRow(
        "8813f87c0bdd11eba7f7acde48001122",
        "Xawery Żuławski: Xawery Żuławski is a Polish director. He is her son.\n"
        "Polish-Russian War (film): Polish-Russian War is a 2009 film.",
        "Who is the mother of the director of film Polish-Russian War?",
        "Małgorzata Braunek",
        {
            "type": "compositional",
            "hops": 2,
            "answer_type": "phrase",
            "scoring": "squad_exact_match",
        },
    )
    (row,) = read_dataset(array(path, {**TWOWIKI, "evidences": [[]] * 4}), "2wikimultihopqa")
    assert row.attributes["hops"] == 4
    (row,) = read_dataset(array(path, {**TWOWIKI, "evidences": []}), "2wikimultihopqa")
    assert row.attributes["hops"] == 2


def test_2wikimultihopqa_with_its_file_of_aliases(path: Path) -> None:
    names = {"Q_id": "Q274277", "aliases": ["M. Braunek", "A|B"], "demonyms": ["M. Braunek"]}
    lines(path.with_name("id_aliases.json"), names, {"Q_id": "Q1", "aliases": []})
    array(path, TWOWIKI, {**TWOWIKI, "_id": "other", "answer_id": None})
    first, second = read_dataset(path, "2wikimultihopqa", aliases="id_aliases.json")
    assert gold_of(first).aliases == ("M. Braunek", "A|B")
    assert "aliases" not in second.attributes
    with refused(DatasetError, "option aliases: '../id_aliases.json': give the name of a file"):
        read_dataset(path, "2wikimultihopqa", aliases="../id_aliases.json")
    lines(path.with_name("wrong.json"), {**names, "demonyms": "Polish"})
    with refused(DatasetError, "field 'demonyms' (row id 'Q274277') has another shape"):
        read_dataset(path, "2wikimultihopqa", aliases="wrong.json")


def test_musique(path: Path) -> None:
    unanswerable = {**MUSIQUE, "answerable": False}
    (row,) = read_dataset(lines(path, MUSIQUE, unanswerable), "musique")
    assert row == DatasetRow(
        "2hop__482757_12019",
        "Hana Mandlikova: Hana won in 1985.\nPrague: Prague is.",
        "Where was the winner of 1985 born?",
        "Prague",
        {
            "aliases": "Praha",
            "hops": 2,
            "answerable": True,
            "answer_type": "entity",
            "scoring": "squad_exact_match",
        },
    )
    both = read_dataset(path, "musique", unanswerable="keep", context="all")
    assert [r.row_id for r in both] == [row.row_id, "2hop__482757_12019__unanswerable"]
    assert [r.attributes["answerable"] for r in both] == [True, False]
    assert both[0].context == (
        "Hana Mandlikova: Hana won in 1985.\nNoise: Noise.\nPrague: Prague is."
    )


def test_babi(path: Path) -> None:
    path.write_text(BABI, encoding="utf-8")
    milk, football, john = read_dataset(path, "babi")
    assert milk == DatasetRow(
        "qa2_two-supporting-facts_test-0000-000",
        "Mary got the milk there. Mary travelled to the hallway.",
        "Where is the milk?",
        "hallway",
        {
            "task": "qa2_two-supporting-facts_test",
            "story": 0,
            "hops": 2,
            "answer_type": "entity",
            "scoring": "babi",
        },
    )
    assert football.row_id.endswith("-0000-001")
    assert football.context == "John moved to the bedroom. John got the football there."
    assert (john.row_id[-8:], john.attributes["hops"]) == ("0001-000", 1)
    _, football, john = read_dataset(path, "babi", context="all")
    assert football.context == (
        "Mary got the milk there. John moved to the bedroom. Sandra went back to the kitchen. "
        "Mary travelled to the hallway. John got the football there."
    )
    assert john.context == "John went to the office."


def test_jsonl_is_the_default(path: Path) -> None:
    lines(path, {"c": "", "question": "q", "answer": "a"})
    assert read_dataset(path, fields=FieldMap(context="c"))[0].row_id == "row_000000"


def test_formats() -> None:
    assert FORMATS == (
        "jsonl",
        "hotpotqa",
        "musique",
        "2wikimultihopqa",
        "lm-eval",
        "squad",
        "babi",
        "gsm8k",
        "mmlu",
        "biographies",
    )


def test_unknown_formats_and_options(path: Path) -> None:
    with refused(DatasetError, "'hotpot'", "did you mean hotpotqa?"):
        read_dataset(path, "hotpot")
    with refused(DatasetError, "unknown option 'contxt'", "did you mean context?"):
        read_dataset(path, "babi", contxt="all")
    with refused(DatasetError, "format jsonl: unknown option 'context'", "it takes none"):
        read_dataset(path, context="all")
    array(path, HOTPOT)
    with refused(DatasetError, "option context: 'golden'", "did you mean gold?"):
        read_dataset(path, "hotpotqa", context="golden")
    with refused(DatasetError, "option unanswerable: 'kep'", "did you mean keep?"):
        read_dataset(path, "musique", unanswerable="kep")
    with refused(DatasetError, "format hotpotqa", "field names are fixed"):
        read_dataset(path, "hotpotqa", FieldMap(context="c"))


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "jsonl"])
def test_missing_and_empty_files(path: Path, format: str) -> None:
    with refused(DatasetError, path, "no such file"):
        read_dataset(path, format)
    path.write_text("\n", encoding="utf-8")
    with refused(DatasetError, path, "holds no row"):
        read_dataset(path, format)


def without(record: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
    ("format", "record", "problem"),
    [
        ("hotpotqa", without(HOTPOT, "answer"), "field 'answer' is missing (row id '5a8b57"),
        ("hotpotqa", without(HOTPOT, "_id"), "field 'id' is missing"),
        ("hotpotqa", without(HOTPOT, "context"), "field 'context' is missing"),
        ("hotpotqa", without(HOTPOT, "supporting_facts"), "no gold paragraph"),
        ("hotpotqa", {**HOTPOT, "supporting_facts": [["Nobody", 0]]}, "option context: all"),
        ("hotpotqa", {**HOTPOT, "supporting_facts": ["Ed Wood"]}, "has another shape"),
        ("hotpotqa", {**HOTPOT, "context": "text"}, "[title, sentences] pairs"),
        ("hotpotqa", {**HOTPOT, "context": [["T", "text"]]}, "sentences of 'T'"),
        ("hotpotqa", {**HOTPOT, "context": {"title": ["T"], "sentences": []}}, "another shape"),
        ("hotpotqa", {**HOTPOT, "question": " "}, "field 'question' is empty"),
        ("hotpotqa", [HOTPOT], "is a list; each row must be an object"),
        ("2wikimultihopqa", {**TWOWIKI, "evidences": "none"}, "'evidences' is text"),
        ("2wikimultihopqa", {**TWOWIKI, "answer": None}, "field 'answer' is null"),
        ("musique", without(MUSIQUE, "paragraphs"), "field 'paragraphs' is missing"),
        ("musique", {**MUSIQUE, "paragraphs": ["text"]}, "'paragraphs' has another shape"),
        ("musique", {**MUSIQUE, "paragraphs": [{"title": "T"}]}, "'paragraph_text' is missing"),
        ("musique", {**MUSIQUE, "paragraphs": []}, "no gold paragraph"),
        ("musique", {**MUSIQUE, "answerable": "yes"}, "it must be true or false"),
        ("musique", without(MUSIQUE, "answer"), "field 'answer' is missing"),
    ],
)
def test_wrong_records(path: Path, format: str, record: Any, problem: str) -> None:
    good = {"hotpotqa": HOTPOT, "musique": MUSIQUE, "2wikimultihopqa": TWOWIKI}[format]
    array(path, {**good, "_id": "first", "id": "first"}, record)
    with refused(DatasetError, f"{path}, row 2: ", problem):
        read_dataset(path, format)


def test_a_repeated_id_and_a_broken_array(path: Path) -> None:
    array(path, HOTPOT, HOTPOT)
    with refused(DatasetError, f"{path}, row 2", "was already given in row 1"):
        read_dataset(path, "hotpotqa")
    path.write_text('[\n{"a": 1},\n{"b" 2}]', encoding="utf-8")
    with refused(DatasetError, f"{path}, line 3, column 6: not JSON"):
        read_dataset(path, "hotpotqa")
    path.write_text("[NaN]", encoding="utf-8")
    with refused(DatasetError, f"{path}: holds NaN"):
        read_dataset(path, "hotpotqa")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("Mary is here.\n", 1, "does not start with a number"),
        ("1 Mary is here.\n3 John is there.\n", 2, "numbered 3 after 1"),
        ("2 Mary is here.\n", 1, "numbered 2 after 0"),
        ("1 A.\n2 Q?\ta\t5\n", 2, "supporting statement 5 does not stand before"),
        ("1 A.\n2 Q?\ta\tone\n", 2, "separated by tabs"),
        ("1 A.\n2 Q?\ta\t1\tmore\n", 2, "separated by tabs"),
        ("1 A.\n2 Q?\t\t1\n", 2, "field 'answer' is empty"),
        ("1 A.\n2 Q?\ta\n", 2, "names no supporting statement"),
    ],
)
def test_wrong_babi_lines(path: Path, text: str, line: int, problem: str) -> None:
    path.write_text(text, encoding="utf-8")
    with refused(DatasetError, f"{path}, line {line}: ", problem):
        read_dataset(path, "babi")
