"""Rows of files as others have them: columns, nested fields, several answers, hub forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import ipc, parquet

from statebridge.data import FieldMap, read_dataset, read_jsonl
from statebridge.errors import DatasetError
from tests.bridge.data.refusal import refused

ROWS = [
    {"id": "a", "context": "Zoë, in 東京", "question": "Where?", "answer": "東京"},
    {"id": "b", "context": "two\nlines", "question": "Who?", "answer": "042"},
]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.csv.zst", "rows.jsonl.zst"])
def test_text_files_have_the_rows_of_the_plain_one(name: str, plain: Path) -> None:
    mark = "\t" if "tsv" in name else ","
    table = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    quoted = "".join(mark.join(f'"{value}"' for value in line) + "\r\n" for line in table)
    content = plain.read_bytes() if "jsonl" in name else quoted.encode()
    path = plain.with_name(name)
    path.write_bytes(arrow.compress(content, "zstd", asbytes=True) if "zst" in name else content)
    assert read_jsonl(path) == read_jsonl(plain)


def test_arrow_files_and_streams_have_the_same_rows(plain: Path) -> None:
    table = arrow.Table.from_pylist(ROWS)
    for new in (ipc.new_file, ipc.new_stream):
        path = plain.with_name("rows.arrow")
        with new(str(path), table.schema) as target:
            target.write_table(table)
        assert read_jsonl(path) == read_jsonl(plain)


@pytest.mark.parametrize("name", ["rows.arrow", "rows.jsonl.zst", "rows.csv.zst"])
@pytest.mark.parametrize("content", [b"", b"x", b"(\xb5/\xfd\x04"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_csv_row_of_another_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("context,question,answer\na,b,c\n\nNew York, NY,b,c\n", encoding="utf-8")
    with refused(DatasetError, f"{path}, line 4", "has 4 values, but the first row names 3"):
        read_jsonl(path)
    path.write_text("question,question,answer\na,b,c\n", encoding="utf-8")
    with refused(DatasetError, "two columns are called 'question'"):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ('"a\n2",b,c\n"d"e,b,c\n', 4, "not CSV: ',' expected after '\"'"),
        ('a,b,c\n\n"d,b,c\ne,b,c\n', 4, "not CSV: unexpected end of data"),
        ('a,b,c\n"d\n2",b\n', 3, "has 2 values, but the first row names 3"),
    ],
)
def test_a_wrong_csv_row_is_named_by_its_first_line(
    tmp_path: Path, rows: str, line: int, problem: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"context,question,answer\n{rows}", encoding="utf-8")
    with refused(DatasetError, f"{path}, line {line}: {problem}"):
        read_jsonl(path)


def test_fields_are_paths_and_templates(tmp_path: Path) -> None:
    record = {
        "title": "Peru",
        "passages": [{"text": "Lima is big."}, {"text": "It is old."}],
        "asked": {"text": "Where?"},
        "answers": {"text": ["Lima", "Lima ", "Ciudad de los Reyes"], "start": [0, 0, 3]},
        "year": 1535,
    }
    fields = FieldMap(
        context="{title} ({year}):\n{passages.text}", question="asked.text", answer="answers.text"
    )
    (row,) = read_jsonl(written(tmp_path / "rows.jsonl", record), fields)
    assert row.context == "Peru (1535):\nLima is big.\nIt is old."
    assert (row.question, row.answer) == ("Where?", "Lima")
    assert row.attributes == {"aliases": "Ciudad de los Reyes"}


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("answers.txt", "field 'answers.txt' is missing (row id 'row_000000'); did you mean text"),
        ("context.text", "field 'context.text' is missing"),
        ("{context.__class__}", "field 'context.__class__' is missing"),
        ("{context!r}", "write a field as {name}, with nothing more"),
        ("{}", "write a field as {name}"),
        ("{context", "not a template"),
        ("{none}", "field 'none' is null"),
        ("{question}" * 17, "more than 16 fields"),
    ],
)
def test_a_field_that_is_not_there_is_named(tmp_path: Path, field: str, problem: str) -> None:
    record = {"context": "c", "question": "q", "answer": "a", "answers": {"text": []}, "none": None}
    path = written(tmp_path / "rows.jsonl", record)
    with refused(DatasetError, problem):
        read_jsonl(path, FieldMap(context=field))
    with refused(DatasetError, "field 'answers.text' holds no answer"):
        read_jsonl(path, FieldMap(answer="answers.text"))


def test_unusable_rows_are_left_out_where_that_is_declared(tmp_path: Path) -> None:
    good = {"context": "c", "question": "q", "answer": ["a", "b"]}
    path = written(tmp_path / "rows.jsonl", good, good | {"answer": []}, good | {"question": ""})
    with refused(DatasetError, "line 2: field 'answer' holds no answer"):
        read_dataset(path)
    reasons: list[str] = []
    (row,) = read_dataset(path, unusable=reasons)
    assert (row.answer, row.attributes["aliases"]) == ("a", "b")
    assert [reason.split(": ")[0] for reason in reasons] == [f"{path}, line 2", f"{path}, line 3"]


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    row = {"context": "c", "question": "q", "answer": "a"}
    files = [written(tmp_path / name, row, row) for name in ("1.jsonl", "2.jsonl")]
    assert [row.row_id for row in read_dataset(files)] == [f"row_{n:06d}" for n in range(4)]


def test_squad_has_one_set_of_rows_in_both_forms(tmp_path: Path) -> None:
    asked = [
        {"id": "1", "question": "Where?", "answers": [{"text": "Lima", "answer_start": 3}] * 2},
        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
        {"id": "3", "question": "When?", "answers": [{"text": "1535"}, {"text": "in 1535"}]},
    ]
    original = {"version": "v2.0", "data": [
        {"title": "Peru", "paragraphs": [{"context": "Lima, since 1535.", "qas": asked}]}
    ]}  # fmt: skip
    file = tmp_path / "dev-v2.0.json"
    file.write_text(json.dumps(original), encoding="utf-8")
    hub = tmp_path / "validation-00000-of-00001.parquet"
    records = [
        {
            "id": one["id"],
            "title": "Peru",
            "context": "Lima, since 1535.",
            "question": one["question"],
            "answers": {
                "text": [answer["text"] for answer in one["answers"]],
                "answer_start": [0 for _ in one["answers"]],
            },
        }
        for one in asked
    ]
    parquet.write_table(arrow.Table.from_pylist(records), hub)
    rows = read_dataset(file, "squad")
    assert read_dataset(hub, "squad") == rows
    assert [(row.row_id, row.answer) for row in rows] == [("1", "Lima"), ("3", "1535")]
    assert [row.attributes.get("aliases") for row in rows] == [None, "in 1535"]
    assert rows[0].attributes["scoring"] == "squad_exact_match"
    file.write_text('{"data": [{"title": "Peru"}]}', encoding="utf-8")
    with refused(DatasetError, f"{file}, after question 0", "has another shape"):
        read_dataset(file, "squad")


def test_multihop_sets_have_one_set_of_rows_in_both_forms(tmp_path: Path) -> None:
    context = [["A", ["One. ", "Two."]], ["B", ["Three."]]]
    facts = [["B", 0]]
    evidences = [["A", "is", "B"], ["B", "is", "C"]]
    shared = {"question": "Which?", "answer": "C", "type": "bridge"}
    original = {"_id": "x", **shared, "context": context, "supporting_facts": facts}
    columns = {
        "id": "x",
        **shared,
        "context": {"title": ["A", "B"], "sentences": [one[1] for one in context]},
        "supporting_facts": {"title": ["B"], "sent_id": [0]},
    }
    texts = {"context": context, "supporting_facts": facts, "evidences": evidences}
    as_text = {"_id": "x", **shared, **{name: json.dumps(held) for name, held in texts.items()}}
    for format, extra in (("hotpotqa", {}), ("2wikimultihopqa", {"evidences": evidences})):
        file = written(tmp_path / "original.jsonl", original | extra)
        rows = read_dataset(file, format)
        packed = tmp_path / "hub.parquet"
        parquet.write_table(arrow.Table.from_pylist([columns | extra]), packed)
        assert read_dataset(packed, format) == rows
        assert rows[0].context == "B: Three."
        if extra:
            parquet.write_table(arrow.Table.from_pylist([as_text]), packed)
            assert read_dataset(packed, format) == rows


def test_musique_is_the_same_in_parquet(tmp_path: Path) -> None:
    record = {
        "id": "2hop__1",
        "paragraphs": [
            {"idx": 0, "title": "A", "paragraph_text": "One.", "is_supporting": True},
            {"idx": 1, "title": "B", "paragraph_text": "Two.", "is_supporting": False},
        ],
        "question": "Which?",
        "question_decomposition": [{"id": 1, "question": "q", "answer": "C"}] * 2,
        "answer": "C",
        "answer_aliases": ["Sea"],
        "answerable": True,
    }
    packed = tmp_path / "validation.parquet"
    parquet.write_table(arrow.Table.from_pylist([record]), packed)
    rows = read_dataset(packed, "musique")
    assert rows == read_dataset(written(tmp_path / "dev.jsonl", record), "musique")
    assert rows[0].attributes["aliases"] == "Sea"
