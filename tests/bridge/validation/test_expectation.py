from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from statebridge.errors import ExperimentError
from statebridge.papers.linear_translation.expectation import published_expectation
from statebridge.validation import Expectation
from tests.bridge.validation.made_results import SHA


def test_cells_of_a_run() -> None:
    expectation = Expectation.from_cells(
        [("no_inject", None), ("replace", 42), ("replace", 7)], 5, SHA, name="mine"
    )
    assert expectation.cells == (("no_inject", None), ("replace", 42), ("replace", 7))
    assert expectation.name == "mine"
    one = expectation.condition("replace")
    assert one is not None
    assert (one.rows, one.excluded_rows, one.self_fallback) == (5, None, "warning")
    assert Expectation.model_validate_json(expectation.model_dump_json()) == expectation


def test_fewer_rows_than_the_source_are_exclusions() -> None:
    expectation = Expectation.from_cells(
        [("no_inject", None), ("strict", 1)], {"no_inject": 30, "strict": 17}, source_rows=30
    )
    one, other = expectation.conditions
    assert (one.source_rows, one.excluded_rows) == (None, None)
    assert (other.excluded_rows, other.self_fallback) == (13, "blocking")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": [], "rows": 3}, "conditions"),
        ({"cells": [("a", None), ("a", 1)], "rows": 3}, "a has a cell without a seed beside"),
        ({"cells": [("a", None), ("a", None)], "rows": 3}, "a has a cell without a seed beside"),
        ({"cells": [("a", 1), ("a", 1)], "rows": 3}, "a seed is listed twice in [1, 1]"),
        ({"cells": [("replace", 1)], "rows": {"replase": 3}}, "did you mean replase?"),
        ({"cells": [("a", 1)], "rows": 0}, "greater than or equal to 1, not 0"),
        ({"cells": [("a", 1)], "rows": 3, "dataset_sha256": "abc"}, "dataset_sha256"),
        ({"cells": [("a", 1)], "rows": 3, "direction": "up"}, "direction"),
        ({"cells": [("a", 1)], "rows": 3, "no_such": 1}, "no_such"),
    ],
)
def test_wrong_cells_are_refused_in_one_line(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        Expectation.from_cells(**arguments)
    assert str(caught.value).startswith("expect: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "declared",
    [
        {"conditions": [{"condition": "a", "rows": 4, "source_rows": 3}]},
        {"conditions": [{"condition": "a", "seeds": []}]},
        {"conditions": [{"condition": "a"}, {"condition": "a", "seeds": [1]}]},
        {"conditions": [{"condition": "a"}], "surprise": 1},
    ],
)
def test_wrong_declarations(declared: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Expectation.model_validate(declared)


def test_published_set_is_21_files_24_with_the_strict_control() -> None:
    assert len(set(published_expectation().cells)) == 21
    strict = published_expectation(strict=True)
    assert len(set(strict.cells)) == 24
    control = strict.condition("shuffled_translation_strict_matched")
    assert control is not None
    assert (control.rows, control.source_rows, control.excluded_rows) == (383, 396, 13)
    assert control.self_fallback == "blocking"
    assert strict.condition("zero_replacement") is None
