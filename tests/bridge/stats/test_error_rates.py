"""How often each test is wrong where nothing is there, alone and in families.

The cells are those of the audit of 2026-11-30 and others; in docs/verdicts.md is the table of
the large run: `pytest -n0 -s -m soak tests/bridge/stats/test_error_rates.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from statebridge.results.sender_checks import AnswerMeasure, CheckedRow, SenderCheck, SenderRow
from statebridge.stats import Settings, compare
from statebridge.stats.difference import _p_value
from statebridge.stats.inference.hypothesis_tests import exact_mcnemar, holm
from statebridge.stats.inference.intervals import Floats
from statebridge.stats.own_row import own_row_differences
from statebridge.stats.pairing import Pairing
from statebridge.stats.sender_effect import sender_effects
from statebridge.stats.setting import channel_settings
from statebridge.stats.strata import InteractionTest
from tests.bridge.results.made_checks import made_checks
from tests.bridge.stats.simulated import (
    SEED_NAMES,
    Draw,
    Shape,
    discordant_study,
    exponential,
    middle,
    normal,
    strata,
    student_3,
)
from tests.bridge.stats.tables import METRIC, cell, measured, results

QUICK = Settings(permutations=99, stratify_by=(), margins=(0.05,))
Drawn = Callable[[Draw], Floats]


def most(tries: int, alpha: float = 0.05, errors: float = 3.0) -> float:
    """The highest rate that `tries` samples allow at a true 5.5 %."""
    return alpha + 0.005 + errors * float(np.sqrt(alpha * (1 - alpha) / tries))


# --- The interaction of strata


def zero_one(sizes: Sequence[int], discordance: Sequence[float]) -> Drawn:
    """Strata of one mean (0) that differ in how many rows differ."""
    return lambda draw: strata(sizes, discordance, draw)[0]


def losing(sizes: Sequence[int], discordance: Sequence[float]) -> Drawn:
    """Strata that all lose as much as the smallest discordance, with more gains in some."""
    least = min(discordance)

    def deltas(draw: Draw) -> Floats:
        parts = []
        for size, share in zip(sizes, discordance, strict=True):
            place = draw.random(size)
            lost, gained = (share + least) / 2, (share - least) / 2
            parts.append(np.where(place < lost, -1.0, np.where(place < lost + gained, 1.0, 0.0)))
        return np.concatenate(parts)

    return deltas


def over_seeds(sizes: Sequence[int], discordance: Sequence[float], seeds: int) -> Drawn:
    """0/1 strata of several seeds, each row averaged over them."""

    def deltas(draw: Draw) -> Floats:
        shared = strata(sizes, discordance, draw)[0]
        return shared * (draw.random((len(shared), seeds)) < 0.8).mean(axis=1)

    return deltas


AUDIT = ((186, 139, 71), (0.05, 0.10, 0.30))
INTERACTIONS: dict[str, tuple[Sequence[int], Drawn]] = {
    "0/1, .05/.10/.30 (audit)": (AUDIT[0], zero_one(*AUDIT)),
    "0/1, .05/.30 (audit)": ((300, 96), zero_one((300, 96), (0.05, 0.30))),
    "0/1, .01/.30": ((300, 96), zero_one((300, 96), (0.01, 0.30))),
    "0/1, 3 seeds": (AUDIT[0], over_seeds(*AUDIT, 3)),
    "0/1, 5 seeds": ((300, 96), over_seeds((300, 96), (0.05, 0.30), 5)),
    "0/1, small": ((20, 12), zero_one((20, 12), (0.1, 0.5))),
    "0/1, four strata": ((99,) * 4, zero_one((99,) * 4, (0.02, 0.05, 0.1, 0.3))),
    "0/1, 1,000 rows": ((700, 200, 100), zero_one((700, 200, 100), (0.02, 0.1, 0.4))),
    "0/1, losses": (AUDIT[0], losing(*AUDIT)),
    "0/1, losses, small": ((20, 12), losing((20, 12), (0.1, 0.5))),
    "0/1, losses, 1,000 rows": ((700, 300), losing((700, 300), (0.02, 0.2))),
}


def interaction_rate(name: str, tries: int, permutations: int) -> tuple[float, float]:
    """Shares of samples with a p of at most 0.05, and with a p at all."""
    sizes, drawn = INTERACTIONS[name]
    labels = [str(place) for place, size in enumerate(sizes) for _ in range(size)]
    ids = [f"row{index:04}" for index in range(len(labels))]
    draw, found = np.random.default_rng(21), []
    for block in range(max(1, tries // 50)):
        test = InteractionTest(permutations)
        for _ in range(min(50, tries)):
            p, _ = test.p_value(f"a{block}", ids, labels, drawn(draw))
            found.append(p)
    shown = [p for p in found if p is not None]
    return sum(p <= 0.05 for p in shown) / len(found), len(shown) / len(found)


@pytest.mark.parametrize("name", ["0/1, .05/.30 (audit)", "0/1, losses, small"])
def test_unequal_variances_make_no_interaction(name: str) -> None:
    # The sum of squares alone called 21 % and up to 41 % of these different.
    assert interaction_rate(name, 100, 99)[0] <= most(100)


@pytest.mark.soak
@pytest.mark.parametrize("name", INTERACTIONS)
def test_interaction_over_many_cells(name: str) -> None:
    rate, shown = interaction_rate(name, 2000, 499)
    print(f"\n| interaction | {name} | {rate:.1%} | {shown:.0%} |", end="")
    assert rate <= most(2000)


# --- Several seeds


def seeds_rate(rows: int, seeds: int, lost: float, tries: int) -> float:
    """Rows are lost under all seeds, and as many gains are under one seed each: a mean of 0."""
    draw, wrong = np.random.default_rng(26), 0
    table = results(cell("no_inject", [1]), cell("replace", [0], 42))
    paired = Pairing(table).pair("fwd", "replace", "no_inject", METRIC)
    for _ in range(tries):
        place = draw.random(rows)
        sums = np.where(place < lost, -seeds, np.where(place < lost * (1 + seeds), 1, 0))
        p, _ = _p_value(paired, sums.astype(float), seeds)
        wrong += p is not None and p <= 0.05
    return wrong / tries


def test_losses_of_all_seeds_and_gains_of_one_cancel() -> None:
    # Sign flips alone: 13.6 %.
    assert seeds_rate(64, 5, 0.03, 100) <= most(100)


@pytest.mark.soak
@pytest.mark.parametrize("lost", [0.03, 0.1])
@pytest.mark.parametrize(("rows", "seeds"), [(32, 3), (32, 5), (64, 5), (200, 5), (396, 3)])
def test_several_seeds_over_many_cells(rows: int, seeds: int, lost: float) -> None:
    rate = seeds_rate(rows, seeds, lost, 1500)
    print(f"\n| seeds | {rows} rows, {seeds} seeds, {lost:.0%} lost | {rate:.1%} |", end="")
    assert rate <= most(1500)


# --- Families


def own_rows_rate(channels: int, rows: int, seeds: int, tries: int) -> float:
    """Share of experiments without any transfer in which some channel is above its control."""
    names = [f"private_last{i}" for i in range(channels)]
    draw = np.random.default_rng(22)
    study = discordant_study(rows, seeds, 0.05, 0.05)
    wrong = 0
    for _ in range(tries):
        cells = [cell("question_only", [0] * rows)]
        for name in names:
            sample = study.draw(draw)
            for place, values in enumerate(sample.condition.T):
                own = cell("private_last", [int(v) for v in values], SEED_NAMES[place])
                other = cell(
                    "private_last_shuffled", [int(v) for v in sample.baseline], SEED_NAMES[place]
                )
                for made, ending in ((own, ""), (other, "_shuffled")):
                    # Weights of their own keep the pairs apart.
                    weight = 1.0 - 0.01 * names.index(name)
                    made.condition = made.condition.model_copy(
                        update={"name": f"{name}{ending}", "weight": weight}
                    )
                    cells.append(made)
        table = results(*cells)
        found = own_row_differences(
            table, Pairing(table), channel_settings(table), [METRIC], QUICK, []
        )
        assert len(found) == channels
        wrong += any(d.is_better or d.is_worse for d in found)
    return wrong / tries


def test_eight_channels_find_no_transfer_by_chance() -> None:
    draw, tries = np.random.default_rng(22), 300
    families = []
    for _ in range(tries):
        gained, lost, _ = draw.multinomial(396, (0.1, 0.1, 0.8), size=8).T
        families.append([exact_mcnemar(*pair) for pair in zip(gained, lost, strict=True)])
    alone = sum(min(family) < 0.05 for family in families) / tries
    assert alone > 0.2
    assert sum(min(holm(family)) < 0.05 for family in families) / tries <= most(tries)


@pytest.mark.soak
@pytest.mark.parametrize("channels", [3, 5, 8])
@pytest.mark.parametrize(("rows", "seeds"), [(32, 1), (64, 3), (396, 1), (396, 5), (1000, 1)])
def test_own_rows_over_many_cells(channels: int, rows: int, seeds: int) -> None:
    rate = own_rows_rate(channels, rows, seeds, 400)
    print(f"\n| own row | {channels} channels, {rows} rows, {seeds} seeds | {rate:.1%} |", end="")
    assert rate <= most(400)


def equivalence_rate(
    baseline: float, kept: float, conditions: int, rows: int, seeds: int, tries: int
) -> float:
    """Share of families with a false "equivalent": all lose, to the edge of what is one."""
    draw = np.random.default_rng(23)
    wrong = 0
    for _ in range(tries):
        right = draw.random(rows) < baseline
        cells = [cell("no_inject", right.astype(int).tolist())]
        for number in range(conditions):
            stays = draw.random(rows) < kept
            for place in range(seeds):
                again = np.where(draw.random(rows) < 0.8, stays, draw.random(rows) < kept)
                cells.append(
                    cell(f"c{number}", (right & again).astype(int).tolist(), SEED_NAMES[place])
                )
        found = compare(results(*cells), metrics=[METRIC], settings=QUICK)
        wrong += any(d.equivalent_within is not None for d in found.differences)
    return wrong / tries


@pytest.mark.slow
def test_ten_conditions_at_the_margin_are_not_equivalent() -> None:
    assert equivalence_rate(0.5, 0.9, 10, 200, 1, 20) <= most(20)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("conditions", "rows", "seeds"),
    [(1, 64, 1), (1, 396, 1), (1, 396, 3), (1, 1000, 1), (10, 64, 1), (10, 396, 1)],
)
@pytest.mark.parametrize(
    ("baseline", "kept"),
    # A loss of exactly 0.05, and of exactly a fifth of a low baseline.
    [(0.9, 1 - 0.05 / 0.9), (0.2, 0.8)],
)
def test_equivalence_over_many_cells(
    conditions: int, rows: int, seeds: int, baseline: float, kept: float
) -> None:
    tries = 1000 if conditions == 1 else 200
    rate = equivalence_rate(baseline, kept, conditions, rows, seeds, tries)
    print(
        f"\n| equivalence | {conditions} conditions, {rows} rows, {seeds} seeds, baseline "
        f"{baseline:g}, {kept:.3f} kept | {rate:.1%} |",
        end="",
    )
    assert rate <= most(tries)


# --- Ranks


def rank_rates(rows: int, shift: float, sigma: float, tries: int) -> float:
    """How often ranks that are log-normal, of several sizes, are called different."""
    draw = np.random.default_rng(24)
    found = 0
    for _ in range(tries):
        # Both sides vary alike, so that rounding up to whole ranks moves neither more.
        shared = draw.normal(3.0, 2.0, rows)
        base, moved = np.exp(shared + sigma / np.sqrt(2) * draw.standard_normal((2, rows)))
        moved = moved * np.exp(shift)
        table = results(
            measured("no_inject", "gold_rank", np.ceil(base).tolist()),
            measured("replace", "gold_rank", np.ceil(moved).tolist(), 42),
        )
        (difference,) = compare(table, settings=QUICK).differences
        found += difference.is_better or difference.is_worse
    return found / tries


def test_a_shift_of_all_ranks_is_found() -> None:
    # The mean of the ranks found it in 34 to 68 %.
    assert rank_rates(200, -0.3, 0.8, 20) >= 0.9


@pytest.mark.soak
@pytest.mark.parametrize("rows", [32, 100, 396, 1000])
def test_ranks_over_many_cells(rows: int) -> None:
    rate = rank_rates(rows, 0.0, 0.8, 1000)
    print(f"\n| log rank | {rows} rows | {rate:.1%} |", end="")
    assert rate <= most(1000)


# --- Checks inside the sender


def sender_rate(checks: int, rows: int, shape: Shape, tries: int) -> float:
    """Share of runs in which some check, none of which does anything, falls or rises."""
    draw = np.random.default_rng(25)
    wrong = 0
    for _ in range(tries):
        before = draw.normal(-2.0, 1.0, rows)
        made = made_checks().model_copy(
            update={
                "rows": tuple(
                    SenderRow(row_id=f"row{i}", tokens=9, gold=_measure(before[i]))
                    for i in range(rows)
                ),
                "checks": tuple(
                    SenderCheck(
                        positions=f"{number}",
                        read_by=("private_last",),
                        replacement="mean",
                        rows=tuple(
                            CheckedRow(
                                row_id=f"row{i}",
                                replaced=1,
                                gold=_measure(before[i] + change),
                                donor_row_id=None,
                                donor_before=None,
                                donor_after=None,
                            )
                            for i, change in enumerate(shape(draw, rows) - middle(shape))
                        ),
                    )
                    for number in range(checks)
                ),
            }
        )
        effects = sender_effects(made)
        wrong += any(effect.gold.outcome in ("falls", "rises") for effect in effects)
    return wrong / tries


def _measure(logprob: float) -> AnswerMeasure:
    return AnswerMeasure(logprob=float(logprob), first_right=False, all_right=False)


def test_checks_of_a_sender_are_one_family() -> None:
    assert sender_rate(6, 32, normal, 16) <= most(16)


@pytest.mark.soak
@pytest.mark.parametrize("checks", [1, 6])
@pytest.mark.parametrize("rows", [32, 64, 200])
@pytest.mark.parametrize("shape", [normal, exponential, student_3])
def test_sender_checks_over_many_cells(checks: int, rows: int, shape: Shape) -> None:
    rate = sender_rate(checks, rows, shape, 400)
    name = shape.__name__
    print(f"\n| sender | {checks} checks, {rows} rows, {name} | {rate:.1%} |", end="")
    assert rate <= most(400)
