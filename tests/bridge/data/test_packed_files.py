"""Files as data sets are distributed: gzip and Parquet."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from statebridge.data import read_dataset, read_jsonl
from statebridge.data.text_corpus import TextCorpus
from statebridge.errors import DatasetError

ROWS = [
    {"id": name, "context": "Zoë is in 東京.", "question": "Where?", "answer": "東京", "hops": hops}
    for name, hops in (("a", 2), ("b", None))
]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_a_gzip_file_has_the_rows_of_the_plain_one(plain: Path) -> None:
    packed = plain.with_name("rows.jsonl.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_jsonl(packed) == read_jsonl(plain)
    text = plain.with_name("text.txt.gz")
    text.write_bytes(gzip.compress(b"One passage of text.\n\nAnother passage of text.\n"))
    assert len(list(TextCorpus(text))) > 0


def test_a_parquet_file_has_the_rows_of_the_plain_one(plain: Path) -> None:
    packed = plain.with_name("rows.parquet")
    parquet.write_table(arrow.Table.from_pylist(ROWS), packed)
    assert read_jsonl(packed) == read_jsonl(plain)
    records = [{"question": "1 + 1?", "answer": "So it is.\n#### 2"}]
    parquet.write_table(arrow.Table.from_pylist(records), packed)
    (row,) = read_dataset(packed, "gsm8k")
    assert row.answer == "2"


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.parquet"])
@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b\x08\x00cut", b"PAR1cut"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_wrong_row_of_a_parquet_file_has_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.Table.from_pylist([ROWS[0], {"id": "c", "answer": "x"}]), path)
    with pytest.raises(DatasetError, match=r"rows\.parquet, row 2: field 'context'"):
        read_jsonl(path)
