"""Effects of the checks inside the sender, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from statebridge.stats.sender_effect import sender_effects
from tests.bridge.results.made_checks import ROWS, check, gold, made_checks, measure


def test_means_before_and_after_are_those_of_the_rows() -> None:
    effects = {(e.positions, e.replacement): e for e in sender_effects(made_checks())}
    found = effects["last", "mean"]
    before = sum(gold(i) for i in range(ROWS)) / ROWS
    # 0.01 · (i mod 3) has mean and median 0.01 over twelve rows.
    assert found.gold.logprob_before == pytest.approx(before)
    assert found.gold.logprob_after == pytest.approx(before - 3.01)
    assert found.gold.difference == pytest.approx(-3.01)
    assert found.gold.interval is not None
    # Five checks at 99 %: all but the lowest and the highest row.
    assert found.gold.interval.low == pytest.approx(-3.02)
    assert found.gold.interval.high == pytest.approx(-3.0)
    assert (found.gold.right_before, found.gold.right_after) == (pytest.approx(10 / 12), 0.0)
    assert (found.gold.first_before, found.gold.first_after) == (pytest.approx(10 / 12), 0.0)
    assert found.n_rows == ROWS
    assert found.donor is None


def test_a_patch_also_has_its_donors_answer() -> None:
    donor = sender_effects(made_checks(check("last", "patch", 5.0)))[0].donor
    assert donor is not None
    # 0.01 · (i mod 4) has mean 0.015 over twelve rows.
    assert donor.difference == pytest.approx(8.0 - 0.5 - 0.015)
    assert (donor.right_before, donor.right_after) == (0.0, 0.5)


def test_rows_before_are_those_of_the_check() -> None:
    (found,) = sender_effects(made_checks(check("last", "mean", 3.0, rows=2)))
    assert found.gold.logprob_before == pytest.approx((gold(0) + gold(1)) / 2)
    assert found.gold.right_before == 0.0


@pytest.mark.parametrize(
    ("fall", "outcome"),
    [(3.0, "falls"), (-3.0, "rises"), (0.0, "unchanged"), (0.05, "unchanged"), (0.1, "falls")],
)
def test_the_outcome_follows_the_interval(fall: float, outcome: str) -> None:
    (found,) = sender_effects(made_checks(check("last", "mean", fall)))
    assert found.gold.outcome == outcome


def test_rows_that_disagree_leave_it_open() -> None:
    one, other = check("last", "mean", 3.0), check("last", "mean", -3.0)
    mixed = one.model_copy(update={"rows": one.rows[::2] + other.rows[1::2]})
    (found,) = sender_effects(made_checks(mixed))
    assert found.gold.outcome == "open"


def test_a_single_row_shows_nothing() -> None:
    (found,) = sender_effects(made_checks(check("last", "mean", 3.0, rows=1)))
    assert found.gold.interval is None
    assert found.gold.outcome == "open"


def test_a_check_without_rows_has_no_effect() -> None:
    assert sender_effects(made_checks(check("last", "patch", 1.0, rows=0))) == []


def test_all_intervals_together_have_the_level() -> None:
    alone = sender_effects(made_checks(check("last", "mean", 3.0)))
    assert alone[0].gold.interval is not None
    assert alone[0].gold.interval.level == pytest.approx(0.95)
    # Four checks, one of which has the donor's answer too: five intervals.
    for effect in sender_effects(made_checks()):
        assert effect.gold.interval is not None
        assert effect.gold.interval.level == pytest.approx(0.99)


def test_more_checks_ask_for_more_of_each() -> None:
    one = check("last", "mean", 0.0)
    rows = tuple(
        row.model_copy(update={"gold": measure(gold(i) - 0.3 * (i % 6 - 0.35))})
        for i, row in enumerate(one.rows)
    )
    weak = one.model_copy(update={"rows": rows})
    outcomes = [sender_effects(made_checks(*[weak] * count))[0].gold.outcome for count in (1, 40)]
    assert outcomes == ["falls", "open"]
