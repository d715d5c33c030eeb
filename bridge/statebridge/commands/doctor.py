"""`statebridge doctor` and `schema`: an experiment file before it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Device, ExperimentFile, Limit, Set, read_changes
from statebridge.commands.printing import print_checks


def doctor(
    file: ExperimentFile,
    out: Annotated[
        Path | None, typer.Option(help="Where the run would be written.", show_default=False)
    ] = None,
    limit: Limit = None,
    device: Device = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a run can succeed: data, models in the cache, translators, device, sizes, time.

    Exit code 1 with one line for each thing that is missing.
    """
    from statebridge.actions import doctor as checks_of

    overrides = read_changes(changes, {"limit": limit, "execution.device": device})
    print_checks(checks_of(file, out, overrides), as_json)


def schema() -> None:
    """Print the JSON Schema of an experiment file."""
    from statebridge.experiment import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))
