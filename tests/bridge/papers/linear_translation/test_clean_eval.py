from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.data import row_identity_sha256
from statebridge.data.rows import answer_type
from statebridge.errors import DatasetError, EnvironmentFault
from statebridge.papers.linear_translation.clean_eval import (
    CLEAN_EVAL_SHA256,
    build_clean_eval,
    infer_domain,
)
from tests.bridge.data.refusal import refused
from tests.shared_data import SHARED, needs_shared


def record(name: str, **more: Any) -> dict[str, Any]:
    return {"context": f"{name} is here.", "question": "Who is here?", "answer": name, **more}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path / "train.jsonl", record("Tom"))


@pytest.fixture
def enhanced(tmp_path: Path) -> Path:
    return tmp_path / "test_enhanced.jsonl"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@needs_shared
def test_the_frozen_hash(out: Path) -> None:
    folder = SHARED / "multihop"
    summary = build_clean_eval(folder / "train.jsonl", folder / "test_enhanced.jsonl", out)
    assert summary.sha256 == CLEAN_EVAL_SHA256
    assert hashlib.sha256(out.read_bytes()).hexdigest() == CLEAN_EVAL_SHA256
    assert (summary.kept, summary.dropped_overlap, summary.dropped_duplicates) == (396, 110, 8)
    assert out.read_bytes() == (folder / "clean_eval.jsonl").read_bytes()


def test_what_is_kept_dropped_and_added(train: Path, enhanced: Path, out: Path) -> None:
    write(
        enhanced,
        record("Tom", hops=4),  # in train, whatever else differs
        record("Ann", hops=2, batch="v2"),
        record("Ann", hops=3),  # seen before
        record("Tom"),
        record("Zoë Two", batch="v1", answer_type="given", domain_inferred="given too"),
        record("44", batch=None),
    )
    summary = build_clean_eval(train, enhanced, out)
    assert (summary.kept, summary.dropped_overlap, summary.dropped_duplicates) == (3, 2, 1)
    lines = out.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    ann, zoe, number = (json.loads(line) for line in lines)
    assert list(ann) == sorted(ann)
    assert "Zoë" in lines[1]
    assert ann == {
        **record("Ann", hops=2, batch="v2"),
        "answer_type": "entity",
        "clean_eval_id": "mh_clean_000000",
        "clean_eval_version": "h1-clean-eval-v1",
        "dedup_key_sha256": row_identity_sha256("Ann is here.", "Who is here?", "Ann"),
        "domain_inferred": "unspecified",
        "source_component_file": "test_v2.jsonl",
        "source_eval_file": "data\\tasks\\multi_hop_reasoning\\test_enhanced.jsonl",
        "source_eval_index": 1,
    }
    assert (zoe["answer_type"], zoe["domain_inferred"]) == ("given", "given too")
    assert zoe["source_component_file"] == "test.jsonl"
    assert (number["answer_type"], number["clean_eval_id"]) == ("number", "mh_clean_000002")
    assert number["source_component_file"] == "test_enhanced.jsonl"
    assert number["source_eval_index"] == 5


@pytest.mark.parametrize(
    ("context", "question", "batch", "domain"),
    [
        ("a framework of the century", "", "v1", "geography"),
        ("In that CENTURY", "which framework?", "v2", "technology_heuristic"),
        ("iron is a metal", "after the WAR?", None, "history_heuristic"),
        ("A semiconductor", "", None, "science_heuristic"),
        ("software", "", None, "history_heuristic"),  # "war" inside a word, as frozen
        ("Bob", "who?", "v2", "unspecified"),
    ],
)
def test_domains(context: str, question: str, batch: str | None, domain: str) -> None:
    assert infer_domain(context, question, batch) == domain


def test_answer_types() -> None:
    assert [answer_type(a) for a in ("44", "4.4", "New York", "Rome")] == [
        "number",
        "entity",
        "phrase",
        "entity",
    ]


def test_bad_sources_write_nothing(train: Path, enhanced: Path, out: Path) -> None:
    with refused(DatasetError, enhanced, "no such file"):
        build_clean_eval(train, enhanced, out)
    write(enhanced, record("Ann"), {"context": "", "question": "q"})
    with refused(DatasetError, f"{enhanced}, line 2", "'answer' is missing"):
        build_clean_eval(train, enhanced, out)
    write(enhanced, record("Ann", answer="\ud800"))
    with refused(DatasetError, f"{enhanced}, line 1", "surrogate"):
        build_clean_eval(train, enhanced, out)
    write(enhanced, record("Tom"))
    with refused(DatasetError, enhanced, "no row is left"):
        build_clean_eval(train, enhanced, out)
    with refused(DatasetError, "holds no row"):
        build_clean_eval(write(train), enhanced, out)
    assert not out.exists()


def test_bad_targets(train: Path, enhanced: Path, tmp_path: Path) -> None:
    write(enhanced, record("Ann"))
    before = enhanced.read_bytes()
    with refused(DatasetError, "one of the two sources"):
        build_clean_eval(train, enhanced, enhanced)
    with refused(EnvironmentFault, "cannot be written"):
        build_clean_eval(train, enhanced, tmp_path / "no" / "out.jsonl")
    assert enhanced.read_bytes() == before
