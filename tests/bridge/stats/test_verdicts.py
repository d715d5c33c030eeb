"""Verdicts on differences, and where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from statebridge.errors import ResultError
from statebridge.records import CellResult, ResultSet
from statebridge.stats import Comparison, Difference, Settings, compare
from statebridge.stats.inference.hypothesis_tests import holm
from tests.bridge.stats.tables import METRIC, SEEDS, cell, measured, results

QUICK = Settings(permutations=99, stratify_by=())


def only(found: Comparison, condition: str) -> Difference:
    (difference,) = [d for d in found.differences if d.condition == condition]
    return difference


def right(count: int, rows: int = 396) -> list[int]:
    return [1] * count + [0] * (rows - count)


def test_a_divergence_from_its_own_baseline_has_no_verdict() -> None:
    tiny = (1e-6 * (1 + np.arange(64) % 5)).tolist()
    table = results(
        measured("no_inject", "kl_from_no_inject", [0.0] * 64),
        measured("replace", "kl_from_no_inject", tiny, 42),
        measured("additive", "kl_from_no_inject", [10 * value for value in tiny], 42),
    )
    found = only(compare(table, settings=QUICK), "replace")
    assert (found.p, found.p_holm, found.verdict, found.by_seed[0].p) == (None, None, None, None)
    assert found.no_verdict_because == "kl_from_no_inject is 0 under no_inject by definition"
    assert found.interval is not None
    # Against another condition there is something to test, and nearer to the baseline is better.
    other = only(compare(table, "additive", settings=QUICK), "replace")
    assert (other.verdict, other.counts.gained, other.counts.lost) == ("better", 64, 0)


def test_whether_texts_changed_is_not_tested_against_no_change() -> None:
    def changed(name: str, count: int) -> CellResult:
        made = cell(name, right(30, 60), 42)
        lanes = [replace(lane, prediction_changed=i < count) for i, lane in enumerate(made.lanes)]
        return replace(made, lanes=lanes)

    base = replace(changed("no_inject", 0), seed=None)
    found = compare(results(base, changed("replace", 50)), metrics=["prediction_changed"])
    assert found.differences[0].verdict is None
    assert found.differences[0].p is None


def private_divergences() -> ResultSet:
    metric = "kl_from_no_inject"
    return results(
        measured("question_only", metric, [0.0] * 20),
        measured("skyline", metric, [0.0] * 20),
        measured("private_relay", metric, [4.69] * 20),
        measured("private_last", metric, np.linspace(1, 2, 20).tolist(), 42),
    )


def test_a_divergence_from_another_prompt_is_left_out() -> None:
    found = compare(private_divergences(), settings=QUICK)
    assert [d.condition for d in found.differences] == ["private_last"]
    (warning,) = [w for w in found.warnings if "divergence of private_relay, skyline" in w]
    assert "a divergence from question_only was not measured there" in warning


def test_a_channel_that_improves_every_rank_is_better() -> None:
    ranks = [float(10 + i) for i in range(192)]
    table = results(
        measured("no_inject", "gold_rank", ranks),
        measured("replace", "gold_rank", [rank / 2 + i % 2 for i, rank in enumerate(ranks)], 42),
    )
    found = only(compare(table, settings=QUICK), "replace")
    assert (found.counts.gained, found.counts.lost, found.verdict) == (192, 0, "better")
    assert found.baseline_mean == pytest.approx(np.log(ranks).mean())
    published = compare(table, metrics=["gold_rank"], mode="published").differences[0]
    assert published.baseline_mean == pytest.approx(np.mean(ranks))
    assert (published.counts.gained, published.counts.lost) == (0, 192)


def test_a_rank_below_one_is_refused() -> None:
    table = results(
        measured("no_inject", "gold_rank", [1.0, 2.0]),
        measured("replace", "gold_rank", [0.0, 2.0], 42),
    )
    with pytest.raises(ResultError, match="has a rank below 1"):
        compare(table, settings=QUICK)


def test_losing_most_of_a_low_score_is_not_equivalent() -> None:
    # The audit's case: 0.0034 of 0.0202 kept, the interval excludes zero.
    table = results(cell("no_inject", right(8)), cell("replace", right(1), 42))
    found = only(compare(table, metrics=[METRIC], settings=QUICK), "replace")
    assert found.equivalence is not None
    assert found.equivalence.margins[0].equivalent
    assert not found.equivalence.within_relative
    assert found.verdict != "equivalent"


def test_nothing_right_under_both_has_no_verdict() -> None:
    table = results(cell("no_inject", right(0)), cell("replace", right(0), 42))
    found = only(compare(table, metrics=[METRIC], settings=QUICK), "replace")
    assert (found.verdict, found.no_verdict_because) == (None, "both at the floor")
    # One row is enough for a difference to have been possible.
    other = results(cell("no_inject", right(1)), cell("replace", right(0), 42))
    assert only(compare(other, metrics=[METRIC], settings=QUICK), "replace").verdict == (
        "inconclusive"
    )


def test_a_clear_difference_within_the_margin_is_both() -> None:
    base = right(900, 1000)
    lost = results(cell("no_inject", base), cell("replace", [0] * 8 + base[8:], 42))
    found = only(compare(lost, metrics=[METRIC], settings=QUICK), "replace")
    assert found.verdict == "different_within"
    assert found.is_worse
    assert not found.is_better


def test_what_only_the_correction_leaves_open_is_not_equivalent() -> None:
    base = right(200, 400)
    lost = [0] * 6 + base[6:]  # six rows lost and none gained: p = 0.031
    alone = results(cell("no_inject", base), cell("replace", lost, 42))
    same = [cell(f"c{i}", base) for i in range(4)]
    one = only(compare(alone, metrics=[METRIC], settings=QUICK), "replace")
    assert one.verdict == "different_within"
    many = only(compare(results(*alone.cells, *same), metrics=[METRIC], settings=QUICK), "replace")
    assert many.equivalent_within == 0.03
    assert many.verdict == "inconclusive"


def test_equivalence_is_corrected_over_the_family_too() -> None:
    base = right(200, 400)
    others = [cell(f"c{i}", [*base[i:], *base[:i]]) for i in range(1, 6)]
    found = compare(results(cell("no_inject", base), *others), metrics=[METRIC], settings=QUICK)
    for at in range(2):
        margins = [d.equivalence.margins[at] for d in found.differences if d.equivalence]
        assert [m.p_holm for m in margins] == holm([m.p for m in margins])
        assert [m.equivalent for m in margins] == [(m.p_holm or 0) < 0.05 for m in margins]


CHANNELS = ("private_last", "private_last_matched")


def twins(own: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> ResultSet:
    cells = [cell("question_only", right(0, 100))]
    for name, mine, theirs in zip(CHANNELS, own, others, strict=True):
        cells += [cell(name, mine, seed) for seed in SEEDS]
        cells += [cell(f"{name}_shuffled", theirs, seed) for seed in SEEDS]
    return results(*cells)


def test_own_rows_are_one_family_of_a_setting_and_metric() -> None:
    low = right(0, 100)
    table = twins([right(7, 100), right(6, 100)], [low, low])
    found = compare(table, metrics=[METRIC], settings=QUICK)
    assert [(d.condition, d.baseline) for d in found.own_rows] == [
        (name, f"{name}_shuffled") for name in CHANNELS
    ]
    assert [d.family for d in found.own_rows] == [2, 2]
    p_values = [d.p for d in found.own_rows if d.p is not None]
    assert [d.p_holm for d in found.own_rows] == holm(p_values)
    assert all(d.is_better for d in found.own_rows)


def test_own_rows_alone_clear_are_not_so_in_a_family() -> None:
    # Six rows above none: p = 0.031 alone, twice that of two.
    low = right(0, 100)
    found = compare(twins([right(6, 100), low], [low, low]), metrics=[METRIC], settings=QUICK)
    first = found.own_rows[0]
    assert first.p is not None
    assert first.p < 0.05 < (first.p_holm or 0)
    assert first.verdict == "inconclusive"


def test_rows_that_got_their_own_state_are_no_control() -> None:
    table = twins([right(9, 100)] * 2, [right(0, 100)] * 2)
    control = table.cell("private_last_shuffled", 42)
    assert control is not None
    control.lanes = [
        replace(lane, donor_self_fallback=i < 9) for i, lane in enumerate(control.lanes)
    ]
    first = compare(table, metrics=[METRIC], settings=QUICK).own_rows[0]
    assert (first.n_rows, first.delta) == (91, 0.0)


def test_distances_are_no_measure_of_the_rows_own_content() -> None:
    found = compare(private_divergences(), settings=QUICK)
    assert found.own_rows == ()
