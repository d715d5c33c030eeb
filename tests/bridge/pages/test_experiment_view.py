"""The facts of an experiment that a page opens with."""

from __future__ import annotations

import pytest

from statebridge.pages import experiment_facts


@pytest.mark.parametrize(("limit", "rows"), [(None, 200), (4, 4), (900, 200)])
def test_the_rows_are_those_that_run(limit: int | None, rows: int) -> None:
    side = {"model": "hub/model", "layer": 1}
    generate = {"rows": 200, "task": "multihop"}
    experiment = {"sender": side, "receiver": side, "seeds": [1], "limit": limit}
    facts = dict(experiment_facts(experiment | {"dataset": {"generate": generate}}))
    assert facts["dataset"] == f"{rows} rows of the task multihop, generated"
