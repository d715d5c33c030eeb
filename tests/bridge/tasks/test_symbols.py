from __future__ import annotations

import re
from collections import Counter

import pytest

from statebridge.data import row_identity, rows_sha256
from statebridge.data.multihop_domains import NAMES
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import Dataset, GeneratedRows
from statebridge.scoring.conventions import row_correct
from statebridge.tasks.declared_rows import generated_rows
from statebridge.tasks.symbols import WORDS, symbol_dataset, symbol_rows

FROZEN = "ec0e2616026185aacab7527927921b7de490d9ef7ce89d4bcd1bf5545bd03d5d"
"""SHA-256 of 400 rows of seed 0; a change of it breaks every experiment that declares them."""
WORLD = {"hops": (2,), "distractors": 4, "domains": ("geography", "work"), "wording": "plain"}


def test_the_frozen_hash() -> None:
    assert rows_sha256(symbol_rows(400)) == FROZEN


def test_no_symbol_can_be_taken_for_another() -> None:
    assert len(set(WORDS)) == 1024
    words = [word for pair in zip(*map(str.split, WORDS), strict=True) for word in set(pair)]
    assert len(words) == len(set(words)) == 64
    assert not [a for a in words for b in words if a != b and a.lower() in b.lower()]


def test_each_symbol_comes_equally_often_and_sets_are_nested() -> None:
    rows = symbol_rows(600, (2, 8, 64))
    found = {k: Counter(r.answer for r in rows if r.attributes["symbols"] == k) for k in (2, 8, 64)}
    assert [len(counts) for counts in found.values()] == [2, 8, 64]
    assert all(max(c.values()) - min(c.values()) <= 1 for c in found.values())
    assert found[2].keys() < found[8].keys() < found[64].keys()
    assert symbol_rows(50, (2, 8, 64)) == rows[:50]
    assert symbol_rows(50, (2, 8, 64), seed=1) != rows[:50]
    for row in rows:
        assert row.answer in row.context
        assert row.answer not in row.question
        assert row_correct(f"{row.answer}.\nQ: Which", row)


@pytest.mark.parametrize("names", [(0.0, 1.0), (0.5, 1.0)])
def test_multihop_rows_of_k_names_are_rows_of_their_world(names: tuple[float, float]) -> None:
    settings = GeneratedRows(rows=300, symbols=(4, 32), names=names, **WORLD)
    rows = generated_rows(settings)
    for count in (4, 32):
        answers = Counter(r.answer for r in rows if r.attributes["symbols"] == count)
        assert len(answers) == count
        assert max(answers.values()) - min(answers.values()) <= 1
        assert answers.keys() <= set(NAMES["places"])
    for row in rows:
        assert len(re.findall(rf"\b{row.answer}\b", row.context)) == 1
        assert row.answer not in row.question
        # Six facts about nine things, as before the names were exchanged.
        words = set(re.findall(r"[A-Z]\w+", row.context))
        assert len(words & {name for kind in NAMES.values() for name in kind}) == 9
    assert len({row_identity(row) for row in rows}) == 300


def test_the_parts_of_the_names_share_none() -> None:
    seen, unseen = (
        {row.answer for row in generated_rows(GeneratedRows(rows=400, names=part, **WORLD))}
        for part in ((0, 0.8), (0.8, 1))
    )
    assert not seen & unseen
    assert len(seen) > 100
    assert len(unseen) > 25


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(DatasetError, match="1025 symbols; give numbers from 2 to 1024"):
        symbol_rows(4, (1025,))
    with pytest.raises(DatasetError, match="symbols is 500; these rows have 120 answers"):
        generated_rows(GeneratedRows(rows=4, symbols=(500,), **WORLD))
    with pytest.raises(DatasetError, match="leaves 2 names of a list, and a row needs 3"):
        generated_rows(GeneratedRows(rows=4, names=(0, 0.02), **WORLD))
    with pytest.raises(DatasetError, match="rows is 0"):
        symbol_rows(0)
    with pytest.raises(ValueError, match="has no symbols"):
        GeneratedRows(rows=4, task="countries", symbols=(4,))


def test_an_experiment_over_multihop_rows_keeps_their_settings() -> None:
    own = Dataset(generate=GeneratedRows(rows=200, seed=3, **WORLD))
    found = Dataset.model_validate(symbol_dataset(own, (2, 64), 50)).generate
    assert found is not None
    assert (found.task, found.symbols, found.rows, found.seed) == ("multihop", (2, 64), 128, 3)
    assert found.domains == WORLD["domains"]
    other = symbol_dataset(Dataset.model_validate({"path": "rows.jsonl"}), (2,), 50)
    assert other == {"generate": {"task": "symbols", "symbols": [2], "rows": 50}}
