from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statebridge.data import (
    DatasetRow,
    FieldMap,
    iter_jsonl,
    read_jsonl,
    rows_sha256,
    write_jsonl,
)
from statebridge.errors import DatasetError
from tests.bridge.data.refusal import refused
from tests.shared_data import SHARED, needs_shared

ROW = {"context": "Bob is in Rome.", "question": "Where is Bob?", "answer": "Rome"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_ids_are_made_up_where_there_are_none(path: Path) -> None:
    rows = read_jsonl(write(path, ROW, ROW))
    assert [row.row_id for row in rows] == ["row_000000", "row_000001"]
    assert rows[0] == DatasetRow("row_000000", "Bob is in Rome.", "Where is Bob?", "Rome", {})


def test_clean_eval_id_goes_before_id(path: Path) -> None:
    (row,) = read_jsonl(write(path, {**ROW, "id": "b", "clean_eval_id": "a"}))
    assert row.row_id == "a"
    assert row.attributes == {"id": "b"}
    (row,) = read_jsonl(write(path, {**ROW, "id": "b"}))
    assert row.row_id == "b"
    assert row.attributes == {}


def test_fields_are_mapped_and_scalars_become_attributes(path: Path) -> None:
    record = {
        "key": 7,
        "passage": "",
        "query": "Q?",
        "label": "A",
        "hops": 2,
        "share": 0.5,
        "easy": True,
        "note": None,
        "aliases": ["B", " C|D "],
        "options": [],
        "more": {"x": 1},
    }
    (row,) = read_jsonl(write(path, record), FieldMap("key", "passage", "query", "label"))
    assert row == DatasetRow(
        "7",
        "",
        "Q?",
        "A",
        {"hops": 2, "share": 0.5, "easy": True, "note": None, "aliases": '["B", "C|D"]'},
    )


def test_blank_lines_and_crlf_and_unicode_line_separators(path: Path) -> None:
    line = json.dumps({**ROW, "answer": "a\u2028b\x85c"}, ensure_ascii=False)
    path.write_bytes(f"\r\n{line}\r\n\r\n{line}".encode())
    assert [row.answer for row in iter_jsonl(path)] == ["a\u2028b\x85c"] * 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", ", column 2: not JSON"),
        ("[1]", "is a list; each line must be one JSON object"),
        ("3", "is a number"),
        ('"x"', "is text"),
        ('{"context": NaN}', "holds NaN"),
        ('{"context": -Infinity}', "holds -Infinity"),
        ('{"context": 1e999}', "holds 1e999"),
        ('{"context": "a", "context": "b"}', "field 'context' is given twice"),
        ('{"context": ' + "9" * 5000 + "}", "too many digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"context": ' + "[" * 100 + "]" * 100 + "}", "nested too deeply"),
    ],
)
def test_a_line_that_is_not_one_strict_object(path: Path, line: str, problem: str) -> None:
    path.write_text(json.dumps(ROW) + "\n" + line + "\n", encoding="utf-8")
    with refused(DatasetError, f"{path}, line 2", problem):
        read_jsonl(path)


def test_brackets_in_text_are_no_nesting(path: Path) -> None:
    text = '[{"\\' * 500
    path.write_text(json.dumps({**ROW, "context": text}) + "\n", encoding="utf-8")
    (row,) = read_jsonl(path)
    assert row.context == text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": None}, "field 'question' is null (row id 'x'); it must be text"),
        ({"answer": 44}, "field 'answer' is a number (row id 'x'); it must be text"),
        ({"context": ["a"]}, "field 'context' is a list (row id 'x'); it must be text"),
        ({"aliases": ["b", 5]}, "field 'aliases' (row id 'x') has another shape; it must be a"),
        ({"options": {"b": 1}}, "field 'options' (row id 'x') has another shape"),
        ({"aliases": ["b", " "]}, "field 'aliases' (row id 'x'): name '': must not be empty"),
        ({"answer": {}}, "field 'answer' is an object"),
        ({"answer": " \n"}, "field 'answer' is empty (row id 'x')"),
        ({"question": ""}, "field 'question' is empty (row id 'x')"),
        ({"id": ""}, "field 'id' is empty"),
        ({"id": True}, "field 'id' is true or false"),
        ({"id": 1.5}, "field 'id' is a number"),
        ({"answer": "\ud800"}, "field 'answer' holds half of a surrogate pair (row id 'x')"),
        ({"note": "\udfff"}, "field 'note' holds half of a surrogate pair"),
        ({"no\ud800te": 1}, "holds half of a surrogate pair"),
        ({"id": "first"}, "row id 'first' was already given in line 1"),
    ],
)
def test_a_row_that_is_wrong(path: Path, change: dict[str, Any], problem: str) -> None:
    write(path, {**ROW, "id": "first"}, {**ROW, "id": "x", **change})
    with refused(DatasetError, f"{path}, line 2: ", problem):
        read_jsonl(path)


@pytest.mark.parametrize("field", ["id", "context", "question", "answer"])
def test_a_row_without_a_field(path: Path, field: str) -> None:
    complete = {**ROW, "id": "1"}
    write(path, complete, {k: v for k, v in complete.items() if k != field} | {"hops": 2})
    with refused(DatasetError, f"{path}, line 2: field {field!r} is missing"):
        read_jsonl(path)


def test_a_mapped_field_that_is_not_there_names_the_nearest(path: Path) -> None:
    write(path, ROW)
    with refused(DatasetError, "field 'contexts' is missing", "did you mean context?"):
        read_jsonl(path, FieldMap(context="contexts"))
    write(path, {})
    with refused(DatasetError, "line 1: field 'context' is missing", "no field at all"):
        read_jsonl(path)


def test_a_file_that_is_not_there_or_not_utf8(tmp_path: Path, path: Path) -> None:
    with refused(DatasetError, path, "no such file"):
        read_jsonl(path)
    with refused(DatasetError, tmp_path, "is a folder"):
        read_jsonl(tmp_path)
    good = json.dumps(ROW).encode() + b"\n"
    path.write_bytes(b"\xef\xbb\xbf" + good)
    assert len(read_jsonl(path)) == 1  # a byte-order mark is no text
    path.write_text(json.dumps(ROW), encoding="utf-16")
    with refused(DatasetError, f"{path}, line 1", "UTF-16"):
        read_jsonl(path)
    path.write_bytes(good + b'{"answer": "caf\xe9"}\n')
    with refused(DatasetError, f"{path}, line 2: byte 16 is not UTF-8"):
        read_jsonl(path)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_dataset(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    with refused(DatasetError, path, "holds no row"):
        read_jsonl(path)


texts = st.text(st.characters(codec="utf-8"))
filled = texts.filter(lambda text: bool(text.strip()))
attribute_names = st.text(string.ascii_lowercase, min_size=1).filter(
    lambda name: name not in ("id", "context", "question", "answer")
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
datasets = st.lists(
    st.builds(DatasetRow, filled, texts, filled, filled, st.dictionaries(attribute_names, scalars)),
    min_size=1,
    max_size=4,
    unique_by=lambda row: row.row_id,
)


# The file is written anew by each example, so the folder may be shared between them.
@pytest.mark.slow
@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(rows=datasets)
def test_what_is_written_is_read_back(path: Path, rows: list[DatasetRow]) -> None:
    digest = write_jsonl(rows, path)
    assert read_jsonl(path, FieldMap(id="id")) == rows
    assert digest == rows_sha256(rows) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_canonical_form_is_this(path: Path) -> None:
    write_jsonl([DatasetRow("ä", "c", "q", "a", {"z": 1, "b": None})], path)
    assert (
        path.read_bytes()
        == (
            '{"answer": "a", "b": null, "context": "c", "id": "ä", "question": "q", "z": 1}\n'
        ).encode()
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (DatasetRow("r", "c", "q", "a", {"answer": "b"}), "attribute 'answer' has the name"),
        (DatasetRow("r", "c", "q", "a", {"x": float("nan")}), "not finite"),
        (DatasetRow("r", "c\ud800", "q", "a"), "'context' holds half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_written_leaves_no_file(
    path: Path, row: DatasetRow, problem: str
) -> None:
    with refused(DatasetError, "'r'", problem):
        write_jsonl([DatasetRow("ok", "c", "q", "a"), row], path)
    with refused(DatasetError, path, "no row to write"):
        write_jsonl([], path)
    assert list(path.parent.iterdir()) == []


@needs_shared
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("multihop/clean_eval", 396),
        ("multihop/train", 560),
        ("qa/babi_qa2_396", 396),
        ("qa/hotpotqa_gold", 397),
        ("qa/musique_gold", 300),
    ],
)
def test_real_files(name: str, rows: int) -> None:
    found = read_jsonl(SHARED / f"{name}.jsonl")
    assert len(found) == rows
    if name == "multihop/clean_eval":
        assert found[0].row_id == "mh_clean_000000"
        assert found[0].attributes["hops"] == 4
        assert found[0].attributes["domain_inferred"] == "geography"
