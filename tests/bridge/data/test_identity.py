from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.data import (
    DatasetRow,
    overlap,
    read_jsonl,
    row_identity,
    row_identity_sha256,
)
from tests.shared_data import SHARED, needs_shared

texts = st.text(st.characters(codec="utf-8"))


def row(row_id: str, context: str, answer: str = "a") -> DatasetRow:
    return DatasetRow(row_id, context, "q", answer)


def test_overlap_names_both_rows() -> None:
    a = [row("a0", "x"), row("a1", "y"), row("a2", "x")]
    b = [row("b0", "x", "other"), row("b1", "x"), row("b2", "x")]
    assert overlap(a, b) == [("a0", "b1"), ("a2", "b1")]
    assert overlap(b[:1], a) == []


@settings(deadline=None, max_examples=50)
@given(texts, texts, texts, texts)
def test_only_the_three_texts_count_and_each_in_its_place(c: str, q: str, a: str, i: str) -> None:
    identity = row_identity_sha256(c, q, a)
    assert row_identity(DatasetRow(i, c, q, a, {"hops": 2})) == identity
    assert (row_identity_sha256(q, c, a) == identity) == (q == c)
    assert (row_identity_sha256(c, a, q) == identity) == (q == a)


@needs_shared
def test_the_published_keys_and_that_the_set_is_clean() -> None:
    clean = read_jsonl(SHARED / "multihop" / "clean_eval.jsonl")
    assert [row_identity(r) for r in clean] == [r.attributes["dedup_key_sha256"] for r in clean]
    train = read_jsonl(SHARED / "multihop" / "train.jsonl")
    assert overlap(clean, train) == []
    enhanced = read_jsonl(SHARED / "multihop" / "test_enhanced.jsonl")
    assert len(overlap(enhanced, train)) == 110


def test_non_ascii_is_kept_in_the_hashed_text() -> None:
    # SHA-256 of {"answer": "é", "context": "", "question": ""} in UTF-8, by sha256sum
    assert json.dumps({"answer": "é"}, ensure_ascii=False) == '{"answer": "é"}'
    assert row_identity_sha256("", "", "é") == (
        "3b9317302aae52f38f8d0415238023da673e2489f7adea11f6f6053a30b704f4"
    )
