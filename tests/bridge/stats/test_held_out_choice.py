"""The choice is made on some rows, and its results hold on the others."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import replace
from typing import Any

import pytest

from statebridge.errors import ResultError
from statebridge.results.layer_search import (
    Layers,
    LayerSearchResults,
    Split,
    restricted,
    split_rows,
)
from statebridge.stats import Settings
from statebridge.stats.held_out_choice import choose, choose_held_out
from tests.bridge.layer_search.declared import LAYERS, made_search

QUICK = Settings(stratify_by=())
NAMES = ("private_last", "half")
METRIC = "gold_logprob"


def noise(*key: object) -> float:
    """A value in [0, 1) that is a function of its key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") / 2**32


def planted(at: Layers, condition: str, seed: int | None, row: str) -> float:
    """`half` at layers 2 and 1 is two nats above the floor, the skyline four; else noise."""
    bonus = {("half", (2, 1)): 2.0}.get((condition, at), 0.0)
    return -8 + bonus + 4.0 * (condition == "skyline") + noise(at, condition, seed, row)


def test_the_planted_cell_is_chosen_and_reported() -> None:
    search = made_search(planted)
    found = choose_held_out(search, QUICK)
    made = found.on_choosing
    assert (made.chosen.layers, made.chosen.condition) == ((2, 1), "half")
    assert (made.cells, made.n_rows, made.tied) == (8, len(search.plan.split.choosing), 0)
    assert made.chosen_again == 1.0
    difference = found.comparison.difference("half", "question_only", METRIC)
    assert difference is not None
    assert difference.n_rows == len(search.plan.split.reporting)
    # The mean of 30 rows of two seeds of uniform noise is right within 0.1 (four errors).
    assert difference.delta == pytest.approx(2.0, abs=0.25)
    (gap,) = [g for g in found.comparison.gaps_closed if g.condition == "half"]
    assert gap.closed / gap.gap == pytest.approx(0.5, abs=0.07)


def _altered(search: LayerSearchResults, rows: tuple[str, ...], change: Any) -> LayerSearchResults:
    """The layer search with the values of some rows changed."""
    runs = {}
    for at, results in search.runs.items():
        cells = [
            replace(
                cell,
                lanes=[
                    replace(row, gold_logprob=change(at, cell.condition.name, row.gold_logprob))
                    if row.row_id in rows
                    else row
                    for row in cell.lanes
                ],
            )
            for cell in results.cells
        ]
        runs[at] = replace(results, cells=cells)
    return replace(search, runs=runs)


def test_rows_that_are_reported_on_never_move_the_choice() -> None:
    search = made_search(planted)
    before = choose_held_out(search, QUICK)

    def against(at: Layers, condition: str, value: float) -> float:
        # Every cell but the chosen one is made to shine.
        return value if (condition, at) == ("half", (2, 1)) else value + 7

    after = choose_held_out(_altered(search, search.plan.split.reporting, against), QUICK)
    assert after.on_choosing == before.on_choosing
    assert after.comparison != before.comparison
    moved = choose_held_out(_altered(search, search.plan.split.choosing, against), QUICK)
    assert moved.on_choosing.chosen != before.on_choosing.chosen


def test_rows_that_were_chosen_on_never_move_what_is_reported() -> None:
    search = made_search(planted)
    before = choose_held_out(search, QUICK)

    def shifted(_at: Layers, _condition: str, value: float) -> float:
        return value - 3  # all alike: the same cell is chosen

    after = choose_held_out(_altered(search, search.plan.split.choosing, shifted), QUICK)
    assert after.on_choosing.chosen == before.on_choosing.chosen
    assert after.comparison == before.comparison


@pytest.mark.slow
def test_choosing_on_noise_finds_nothing_on_the_other_rows() -> None:
    """Over many searches of pure noise the chosen mean is too high, the reported one is not."""
    chosen, reported = [], []
    for draw in range(60):
        search = made_search(
            lambda at, c, s, r, draw=draw: noise(draw, at, c, s, r),  # type: ignore[misc]
            rows=40,
            seeds=(42,),
        )
        split = search.plan.split
        made = choose(
            {at: restricted(run, split.choosing) for at, run in search.runs.items()}, NAMES, METRIC
        )
        cell = restricted(search.runs[made.chosen.layers], split.reporting).cell(
            made.chosen.condition, 42
        )
        assert cell is not None
        chosen.append(made.mean)
        reported.append(statistics.fmean(row.gold_logprob or 0.0 for row in cell.lanes))
    # One cell's mean over 20 rows has an error of 0.065; that of 60 such of 0.0083.
    assert statistics.fmean(reported) == pytest.approx(0.5, abs=4 * 0.0083)
    assert statistics.fmean(chosen) > 0.5 + 8 * 0.0083


def _choosing(value: Any, **settings: Any) -> Any:
    search = made_search(value, **settings)
    return {at: restricted(run, search.plan.split.choosing) for at, run in search.runs.items()}


def test_of_equal_cells_the_first_is_taken_others_counted() -> None:
    made = choose(_choosing(lambda *_: 0.25), NAMES, METRIC)
    assert (made.chosen.layers, made.chosen.condition) == (LAYERS[0], "private_last")
    assert made.tied == 7
    assert made.chosen_again == 1.0
    assert made.rank_correlation is None


def test_seeds_that_disagree_are_told() -> None:
    def value(at: Layers, condition: str, seed: int | None, _row: str) -> float:
        # Seed 42 has its highest at (2, 3), seed 123 the other way round; 42 weighs more.
        place = LAYERS.index(at)
        if condition != "private_last":
            return -100.0
        return 2.0 * place if seed == 42 else -1.0 * place

    made = choose(_choosing(value), ["private_last"], METRIC)
    assert made.chosen.layers == (2, 3)
    assert [(s.seed, s.choice.layers) for s in made.by_seed] == [(42, (2, 3)), (123, (0, 1))]
    assert made.seeds_agreeing == 1
    assert made.rank_correlation == pytest.approx(-1.0)


def test_a_choice_that_hangs_on_few_rows_is_not_firm() -> None:
    def value(at: Layers, condition: str, _seed: int | None, row: str) -> float:
        return noise(at, condition, row) - 100.0 * (condition != "private_last")

    made = choose(_choosing(value), NAMES, METRIC)
    assert 0.2 < made.chosen_again < 0.95


def test_a_cell_without_some_row_is_not_chosen_among() -> None:
    search = made_search(planted)
    first = search.plan.split.choosing[0]
    short = _altered(search, (first,), lambda _at, c, v: None if c == "half" else v)
    with pytest.raises(ResultError, match=f"half/seed42 has no gold_logprob of row {first}"):
        choose_held_out(short, QUICK)


def test_a_split_is_a_function_of_seed_and_row_id() -> None:
    ids = [f"row{i}" for i in range(400)]
    split = split_rows(ids, 0.25, 7)
    assert sorted([*split.choosing, *split.reporting]) == sorted(ids)
    # 400 draws with probability 0.25 are 100 within four errors of 8.7.
    assert len(split.choosing) == pytest.approx(100, abs=35)
    fewer = split_rows(ids[100:], 0.25, 7)
    assert set(fewer.choosing) == set(split.choosing) & set(ids[100:])
    assert split_rows(ids, 0.25, 8) != split
    assert isinstance(split, Split)


@pytest.mark.parametrize(("rows", "share"), [(12, 0.5), (60, 0.02), (60, 0.98)])
def test_a_part_of_few_rows_is_refused(rows: int, share: float) -> None:
    with pytest.raises(ResultError, match="each needs 10; run more rows, or give another share"):
        split_rows([f"row{i}" for i in range(rows)], share, 0)
