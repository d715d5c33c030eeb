"""The engine's tokens equal the one-row oracle's: every condition, both directions.

The oracle (tests/reference) shares no code with the engine. Tokens must be equal in every
row. Log-probabilities and norms are float32 sums taken in another order; they are held to
a tolerance a hundred times the rounding of one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.records import LaneResult
from tests.bridge.engine.tiny_experiment import (
    SEEDS,
    dataset_rows,
    engine_pair,
    llama_pair,
    mixed_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import DETERMINISTIC, OraclePair, OracleRow, run_cell
from tests.tiny_models import mixed_rows

SEEDED = (
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "same_norm_random",
    "shuffled_translation",
    "shuffled_translation_strict_matched",
)
ROWS = mixed_rows(14, seed=5)
DECODING = {"max_new_tokens": 12, "relay_max_new_tokens": 16}
PAIRS: Mapping[str, Callable[[], OraclePair]] = {
    "neox": neox_pair,
    "llama": llama_pair,
    "neox-to-llama": mixed_pair,
}

# One float32 operation rounds by 6e-8; sums over a few hundred terms of size ten.
CLOSE = {"rel": 1e-5, "abs": 2e-5}


def _pair(family: str, direction: str) -> OraclePair:
    pair = PAIRS[family]()
    return pair if direction == "fwd" else pair.reversed()


def _seeds(family: str, direction: str) -> tuple[int, ...]:
    """Two seeds on one pair: how a seed draws does not depend on the models."""
    return SEEDS if (family, direction) == ("neox", "fwd") else SEEDS[:1]


def _rows(family: str, direction: str) -> list[dict[str, str]]:
    """All rows on one pair; for the others as many as make two groups of seven."""
    return ROWS if (family, direction) == ("neox", "fwd") else ROWS[:8]


def _translators(pair: OraclePair, seeds: tuple[int, ...]) -> dict[int, torch.nn.Module]:
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    return {seed: random_translator(*widths, seed=seed) for seed in seeds}


@cache
def _expected(family: str, direction: str) -> dict[tuple[str, str], OracleRow]:
    pair, seeds = _pair(family, direction), _seeds(family, direction)
    rows = _rows(family, direction)
    translators = _translators(pair, seeds)
    cells: list[tuple[str, int | None]] = [(name, None) for name in DETERMINISTIC]
    cells += [(name, seed) for name in SEEDED for seed in seeds]
    expected = {}
    for condition, seed in cells:
        name = condition if seed is None else f"{condition}/seed{seed}"
        translate = None if seed is None else translators[seed]
        for row in run_cell(pair, rows, condition, seed, translate, **DECODING):
            expected[name, row.row_id] = row
    return expected


def _same(found: LaneResult, oracle: OracleRow, cell: str) -> None:
    assert found.token_ids == oracle.token_ids, (cell, oracle.row_id)
    assert found.prediction == oracle.prediction
    assert found.gold == oracle.gold
    assert found.prompt_len_receiver == oracle.prompt_len_receiver
    assert found.donor_row_id == oracle.donor_row_id
    assert found.donor_self_fallback == oracle.donor_self_fallback
    assert found.relay == oracle.relay
    assert found.relay_prompt_len == oracle.relay_prompt_len
    assert found.gold_token_count == oracle.gold_token_count
    assert found.gold_rank == oracle.gold_rank
    assert found.gold_logprob == pytest.approx(oracle.gold_logprob, **CLOSE)
    assert found.kl_from_no_inject == pytest.approx(oracle.kl_from_no_inject, **CLOSE)
    assert found.prompt_len_sender == oracle.prompt_len_sender
    assert found.token_ids_match == oracle.token_ids_match
    assert found.seq_len_match == oracle.seq_len_match
    for norm in ("translated_norm_mean", "receiver_norm_mean", "injected_norm_mean"):
        theirs = getattr(oracle, norm)
        expected = None if theirs is None else pytest.approx(theirs, **CLOSE)
        assert getattr(found, norm) == expected, norm


# Every model is on either side; every way of running meets more than one of them.
WAYS: Mapping[tuple[str, str], tuple[int | str, ...]] = {
    ("neox", "fwd"): (1, 7, 64, "plain"),
    ("llama", "rev"): (1, "plain"),
    ("neox-to-llama", "fwd"): (7, "plain"),
    ("neox-to-llama", "rev"): (64,),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "direction", "way"), [(*pair, way) for pair, ways in WAYS.items() for way in ways]
)
def test_both_paths_equal_the_oracle(family: str, direction: str, way: int | str) -> None:
    expected = _expected(family, direction)
    pair = _pair(family, direction)
    fields: dict[str, Any] = (
        {"execution": {"path": "plain"}} if way == "plain" else {"rows_together": way}
    )
    run = run_engine(
        engine_pair(pair),
        dataset_rows(_rows(family, direction)),
        _translators(pair, _seeds(family, direction)),
        conditions="published-strict",
        rng="published",
        decoding=DECODING,
        direction=direction,
        **fields,
    )
    assert run.rows.keys() == expected.keys()
    for key, found in run.rows.items():
        _same(found, expected[key], key[0])


def test_some_rows_end_and_some_reach_the_limit() -> None:
    # Otherwise the parity above would say nothing about retired lanes.
    lengths = [len(row.token_ids or ()) for row in _expected("neox", "fwd").values()]
    assert min(lengths) < DECODING["max_new_tokens"] == max(lengths)


@pytest.mark.slow
def test_full_length_texts_equal_the_oracle() -> None:
    pair = neox_pair()
    translators = _translators(pair, (42,))
    rows = ROWS[2:6]
    run = run_engine(
        engine_pair(pair),
        dataset_rows(rows),
        translators,
        conditions=["no_inject", "nl_relay", "best_alpha", "same_norm_random"],
        rng="published",
    )
    for condition, seed in (
        ("no_inject", None),
        ("nl_relay", None),
        ("best_alpha", 42),
        ("same_norm_random", 42),
    ):
        name = condition if seed is None else f"{condition}/seed{seed}"
        for row in run_cell(pair, rows, condition, seed, translators[42]):
            _same(run.rows[name, row.row_id], row, name)


def test_self_injection_equals_no_injection_bit_for_bit() -> None:
    pair = engine_pair(neox_pair())
    run = run_engine(
        pair,
        dataset_rows(ROWS),
        {},
        conditions=["no_inject", "b_to_b_self_inject"],
        decoding=DECODING,
    )
    for row in ROWS:
        plain = run.rows["no_inject", row["id"]]
        own = run.rows["b_to_b_self_inject", row["id"]]
        assert own.token_ids == plain.token_ids
        assert own.gold_logprob == plain.gold_logprob
        assert own.kl_from_no_inject == 0.0
