"""GSM8K, MMLU and Biographies-style files."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.data import DatasetRow, FieldMap, read_dataset, read_jsonl, write_jsonl
from statebridge.data.answers import (
    as_number,
    attribute_names,
    first_number,
    join_names,
    last_number,
    split_names,
)
from statebridge.data.rows import encodable
from statebridge.errors import DatasetError
from statebridge.scoring.conventions import CONVENTIONS, row_correct
from tests.bridge.data.refusal import refused

GSM8K: dict[str, Any] = {
    "question": "Natalia sold 48 clips in April and half as many in May. How many altogether?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = 72.\n#### 72",
}
MMLU: dict[str, Any] = {
    "question": "Which planet is the largest?",
    "subject": "astronomy",
    "choices": ["Mars", "Venus", "Jupiter", "Saturn"],
    "answer": 2,
}
MMLU_CSV = (
    "Which planet is the largest?,Mars,Venus,Jupiter,Saturn,C\n"
    '"Which of these, if any,\nis a star?","the ""Sun""",the Moon,"a, b",Mars,A\n'
)
BIOGRAPHY: dict[str, Any] = {
    "context": "Ada Lovelace was born in London.",
    "question": "Where was Ada Lovelace born?",
    "answer": "London",
    "aliases": ["London, England", "Greater London"],
    "person": "Ada Lovelace",
    "facts": ["a", "list"],
}


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def without(record: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != field}


def test_gsm8k(tmp_path: Path) -> None:
    path = lines(tmp_path / "test.jsonl", GSM8K, {"question": "q", "answer": "#### -1,234.5"})
    first, second = read_dataset(path, "gsm8k")
    assert first == DatasetRow(
        "test-00000",
        "",
        GSM8K["question"],
        "72",
        {"answer_type": "number", "steps": 2, "scoring": "final_number"},
    )
    assert (second.row_id, second.answer, second.attributes["steps"]) == (
        "test-00001",
        "-1234.5",
        0,
    )
    assert row_correct("So she sold 72 clips.", first)
    assert not row_correct("So she sold 48 clips.", first)


def test_a_set_without_contexts_can_show_the_question_there(tmp_path: Path) -> None:
    for name, record in (("gsm8k", GSM8K), ("mmlu", MMLU)):
        path = lines(tmp_path / f"{name}.jsonl", record)
        (bare,) = read_dataset(path, name, context="none")
        (shown,) = read_dataset(path, name, context="question")
        assert read_dataset(path, name) == [bare]
        assert bare.context == ""
        assert shown.context == shown.question == bare.question
        with refused(DatasetError, "option context: 'gold'", "known: none, question"):
            read_dataset(path, name, context="gold")
    with refused(DatasetError, "format biographies: unknown option 'context'"):
        read_dataset(path, "biographies", context="none")
    with refused(DatasetError, "format gsm8k", "field names are fixed"):
        read_dataset(path, "gsm8k", FieldMap(question="q"))


def test_mmlu_in_both_forms(tmp_path: Path) -> None:
    question = "Which planet is the largest?\nA. Mars\nB. Venus\nC. Jupiter\nD. Saturn"
    attributes = {"options": "A|B|C|D", "answer_type": "letter", "scoring": "choice_letter"}
    hub = lines(tmp_path / "test.jsonl", MMLU, {**MMLU, "answer": "C"})
    for index, row in enumerate(read_dataset(hub, "mmlu")):
        assert row == DatasetRow(
            f"test-{index:05d}", "", question, "C", {"subject": "astronomy", **attributes}
        )
    distributed = tmp_path / "high_school_physics_test.csv"
    distributed.write_text(MMLU_CSV, encoding="utf-8")
    first, second = read_dataset(distributed, "mmlu")
    assert first == DatasetRow(
        "high_school_physics_test-00000",
        "",
        question,
        "C",
        {"subject": "high_school_physics", **attributes},
    )
    assert second.question == (
        'Which of these, if any,\nis a star?\nA. the "Sun"\nB. the Moon\nC. a, b\nD. Mars'
    )
    assert row_correct("A) the Sun", second)
    assert not row_correct("A planet.", second)


def test_biographies(tmp_path: Path) -> None:
    path = lines(tmp_path / "people.jsonl", BIOGRAPHY, without(BIOGRAPHY, "aliases"))
    first, second = read_dataset(path, "biographies")
    assert first == DatasetRow(
        "people-00000",
        BIOGRAPHY["context"],
        BIOGRAPHY["question"],
        "London",
        {
            "answer_type": "entity",
            "scoring": "exact",
            "person": "Ada Lovelace",
            "aliases": "London, England|Greater London",
        },
    )
    assert attribute_names(second, "aliases") == ()
    assert row_correct(" greater london.", first)
    assert not row_correct(" greater london.", second)
    own = lines(tmp_path / "own.jsonl", {**BIOGRAPHY, "id": 7, "scoring": "first_line"})
    (row,) = read_dataset(own, "biographies")
    assert (row.row_id, row.attributes["scoring"]) == ("7", "first_line")


def test_rows_survive_being_written(tmp_path: Path) -> None:
    rows = []
    for name, record in (("gsm8k", GSM8K), ("mmlu", MMLU), ("biographies", BIOGRAPHY)):
        rows += read_dataset(lines(tmp_path / f"{name}.jsonl", record), name)
    write_jsonl(rows, tmp_path / "rows.jsonl")
    assert read_jsonl(tmp_path / "rows.jsonl", FieldMap(id="id")) == rows
    assert {row.attributes["scoring"] for row in rows} <= set(CONVENTIONS.names())


@pytest.mark.parametrize(
    ("format", "record", "problem"),
    [
        ("gsm8k", without(GSM8K, "answer"), "field 'answer' is missing (row id 'd-00001')"),
        ("gsm8k", without(GSM8K, "question"), "field 'question' is missing"),
        ("gsm8k", {**GSM8K, "question": " "}, "field 'question' is empty"),
        ("gsm8k", {**GSM8K, "answer": "72"}, "field 'answer' has no ####"),
        ("gsm8k", {**GSM8K, "answer": "so\n#### many"}, "field 'answer' ends 'many'"),
        ("gsm8k", {**GSM8K, "answer": "so\n#### "}, "must end in '#### ' and a number"),
        ("gsm8k", {**GSM8K, "answer": 72}, "field 'answer' is a number"),
        ("mmlu", without(MMLU, "choices"), "field 'choices' is missing (row id 'd-00001')"),
        ("mmlu", without(MMLU, "answer"), "field 'answer' is missing"),
        ("mmlu", without(MMLU, "question"), "field 'question' is missing"),
        ("mmlu", {**MMLU, "question": ""}, "field 'question' is empty"),
        ("mmlu", {**MMLU, "choices": "ABCD"}, "field 'choices' has another shape"),
        ("mmlu", {**MMLU, "choices": ["a", " "]}, "field 'choices' has another shape"),
        ("mmlu", {**MMLU, "choices": ["a"]}, "field 'choices' holds 1"),
        ("mmlu", {**MMLU, "answer": 4}, "'answer' is 4 (row id 'd-00001'); it must be a letter"),
        ("mmlu", {**MMLU, "answer": -1}, "or an index from 0 to 3"),
        ("mmlu", {**MMLU, "answer": "E"}, "'answer' is 'E'"),
        ("mmlu", {**MMLU, "answer": "AB"}, "'answer' is 'AB'"),
        ("mmlu", {**MMLU, "answer": True}, "'answer' is true or false"),
        ("mmlu", {**MMLU, "subject": 3}, "field 'subject' is a number"),
        ("biographies", without(BIOGRAPHY, "context"), "field 'context' is missing"),
        ("biographies", without(BIOGRAPHY, "answer"), "field 'answer' is missing"),
        ("biographies", {**BIOGRAPHY, "aliases": "London"}, "it must be a list of texts"),
        ("biographies", {**BIOGRAPHY, "aliases": [1]}, "field 'aliases' (row id"),
        ("biographies", {**BIOGRAPHY, "aliases": [""]}, "name '': must not be empty"),
    ],
)
def test_wrong_records(tmp_path: Path, format: str, record: Any, problem: str) -> None:
    good = {"gsm8k": GSM8K, "mmlu": MMLU, "biographies": BIOGRAPHY}[format]
    path = lines(tmp_path / "d.jsonl", good, record)
    with refused(DatasetError, f"{path}, line 2: ", problem):
        read_dataset(path, format)


def test_an_id_for_one_row_is_an_id_for_all(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {**BIOGRAPHY, "id": "a"}, BIOGRAPHY)
    with refused(DatasetError, f"{path}, line 2: field 'id' is missing"):
        read_dataset(path, "biographies")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("q,a,b,c,d,A\nq,a,b,c,A\n", 2, "has 5 fields; it must have 6"),
        ("q,a,b,c,d,E\n", 1, "field 'answer' is 'E' (row id 'x-00000'); it must be a letter from"),
        ("question,A,B,C,D,answer\n", 1, "field 'answer' is 'answer'"),
        ("q,a,b,c,d,2\n", 1, "field 'answer' is '2'"),
        ('"q\nr",a,b,c,d,A\n\nq,a,,c,d,A\n', 4, "field 'choices' has another shape"),
        ('q,a,b,c,d,A\n"q,a,b,c,d,A\n', 2, "not CSV: unexpected end of data"),
        ('"q"r,a,b,c,d,A\n', 1, "not CSV: ',' expected after '\"'"),
        (" ,a,b,c,d,A\n", 1, "field 'question' is empty"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    with refused(DatasetError, f"{path}, line {line}: ", problem):
        read_dataset(path, "mmlu")


def test_empty_files_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with refused(DatasetError, path, "no such file"):
        read_dataset(path, "mmlu")
    path.write_text("\n\n", encoding="utf-8")
    with refused(DatasetError, path, "holds no row"):
        read_dataset(path, "mmlu")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", 72),
        (" 1,234 ", 1234),
        ("$18.00", 18),
        ("-5", -5),
        ("−0.5", Decimal("-0.5")),
        (".5", Decimal("0.5")),
        ("-$3", -3),
        ("12,34", None),
        ("1e5", None),
        ("72 clips", None),
        ("", None),
        ("٣", None),
    ],
)
def test_numbers(text: str, value: int | Decimal | None) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("5-3 = 2", 5, 2),
        ("from 10-12", 10, 12),
        ("it is -7.", -7, -7),
        ("1,000,000 and 1,2", 1_000_000, 2),
        ("2024.", 2024, 2024),
        ("v1.2.3", Decimal("1.2"), 3),
        ("50% of $40", 50, 40),
        ("none", None, None),
    ],
)
def test_numbers_in_text(text: str, first: int | Decimal | None, last: int | None) -> None:
    assert first_number(text) == first
    assert last_number(text) == last


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_any_number_reads_back(value: Decimal) -> None:
    plain = f"{value:f}"
    assert as_number(plain) == value
    assert as_number(f"{value:,.3f}") == value
    assert last_number(f"so it is {plain}.") == value


@given(st.lists(st.text(min_size=1).filter(lambda t: t == t.strip() and encodable(t))))
def test_names_survive_being_joined(names: list[str]) -> None:
    assert split_names(join_names(names)) == tuple(names)


def test_names_written_by_hand() -> None:
    assert split_names(" UK | Britain |") == ("UK", "Britain")
    assert split_names("") == ()
    row = DatasetRow("r", "", "q", "a", {"aliases": 3, "options": None})
    assert attribute_names(row, "options") == ()
    with refused(DatasetError, "row 'r': attribute 'aliases' is 3"):
        attribute_names(row, "aliases")
