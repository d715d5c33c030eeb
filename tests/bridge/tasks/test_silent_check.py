from __future__ import annotations

import math
import random

import pytest

from statebridge.errors import DatasetError, ResultError
from statebridge.records import DatasetRow
from statebridge.tasks import chance_level, countries_rows, silent_verdict, tip_sheets_rows
from tests.bridge.data.refusal import refused


def scored(right: int, n: int) -> dict[str, float]:
    return {f"row_{index}": float(index < right) for index in range(n)}


def tail(right: int, n: int, chance: float) -> float:
    return sum(math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(right, n + 1))


@pytest.mark.parametrize(
    ("right", "n", "chance"), [(27, 70, 1 / 3), (38, 70, 1 / 3), (2, 100, 0.01)]
)
def test_the_exact_tail(right: int, n: int, chance: float) -> None:
    verdict = silent_verdict(scored(right, n), chance)
    assert verdict.p_value == pytest.approx(tail(right, n, chance), rel=1e-9)
    assert verdict.share == right / n
    # The bound is the chance at which so few would come up one time in twenty.
    assert 1 - tail(right + 1, n, verdict.upper) == pytest.approx(0.05, rel=1e-6)


def test_the_published_silent_figures() -> None:
    """Tip Sheets, 70 items, silent 38.6 % and 54.3 % (arXiv 2501.14082), chance one in three."""
    assert silent_verdict(scored(27, 70), 1 / 3).at_chance
    assert not silent_verdict(scored(38, 70), 1 / 3).at_chance


def test_below_chance_is_not_above_it() -> None:
    verdict = silent_verdict(scored(0, 100), 1 / 3)
    assert verdict.at_chance
    assert verdict.p_value == 1


def test_no_chance_at_all() -> None:
    assert silent_verdict(scored(0, 10), 0).at_chance
    assert not silent_verdict(scored(1, 10), 0).at_chance


def test_the_level_holds() -> None:
    """Guessers are called above chance no more often than alpha says."""
    rng = random.Random(5)
    false = 0
    for _ in range(400):
        guesses = {str(row): float(rng.random() < 1 / 3) for row in range(60)}
        false += not silent_verdict(guesses, 1 / 3).at_chance
    # The exact test is conservative: at most 5 %, plus four standard errors of 400 runs.
    assert false / 400 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)


def test_the_tasks_own_levels() -> None:
    assert chance_level(tip_sheets_rows(50)) == pytest.approx(1 / 3)
    assert chance_level(countries_rows(100)) == 0.01
    assert chance_level(countries_rows(400)) == 4 / 400


def row(options: str | None) -> DatasetRow:
    attributes = {} if options is None else {"options": options}
    return DatasetRow(f"row_{options}", "", "q", "a", attributes)


def test_wrong_input() -> None:
    with refused(ResultError, "there is no scored row"):
        silent_verdict({}, 0.5)
    for chance in (-0.1, 1, math.nan):
        with refused(ResultError, f"chance is {chance}"):
            silent_verdict(scored(1, 2), chance)
    with refused(ResultError, "alpha is 0"):
        silent_verdict(scored(1, 2), 0.5, alpha=0)
    for score in (0.5, math.nan):
        with refused(ResultError, "row 'b'", f"score {score}", "0 or 1"):
            silent_verdict({"a": 1, "b": score}, 0.5)
    with refused(DatasetError, "there is no row"):
        chance_level([])
    with refused(DatasetError, "row 'row_None' has no 'options'"):
        chance_level([row("a|b"), row(None)])
