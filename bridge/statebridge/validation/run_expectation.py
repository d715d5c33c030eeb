"""What a run directory must hold: what its own manifest declares."""

from __future__ import annotations

from typing import Any

from statebridge.errors import ResultError
from statebridge.records import ResultSet
from statebridge.validation.expectation import Expectation


def run_expectation(results: ResultSet) -> Expectation:
    """Return the expectation that a run's manifest amounts to.

    It is the experiment's own `expect`, where it declares one; else every cell of the plan
    with its rows, the dataset's hash and the decoding settings.

    Raises:
        ResultError: The results are not those of one run directory.
    """
    manifest = results.manifest
    if manifest is None:
        raise ResultError(
            "the sources are not one run directory, so nothing declares what must be there; "
            "give --expect published, published-strict, or an experiment file"
        )
    experiment: dict[str, Any] = manifest["experiment"]
    if experiment.get("expect") is not None:
        return Expectation.model_validate(experiment["expect"])
    cells = [cell for cell in manifest["cells"] if cell["rows"] > 0]
    return Expectation.from_cells(
        [(cell["condition"]["name"], cell["seed"]) for cell in cells],
        {cell["condition"]["name"]: cell["rows"] for cell in cells},
        manifest["dataset"]["sha256"],
        source_rows=len(results.dataset),
        name=experiment["name"],
        direction=experiment["direction"],
        decoded=experiment["decode"],
        row_ids=tuple(results.dataset),
    )
