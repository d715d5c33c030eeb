"""`statebridge doctor`: whether a run can succeed, before it is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.engine_extra import need_engine
from statebridge.commands.options import AsJson, Device, ExperimentFile, Set, read_changes


def doctor(
    file: ExperimentFile,
    out: Annotated[
        Path | None, typer.Option(help="Where the run would be written.", show_default=False)
    ] = None,
    device: Device = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a run can succeed: data, models in the cache, translators, device, sizes, time.

    Exit code 1 with one line for each thing that is missing.
    """
    from statebridge.experiment import load_experiment

    overrides = read_changes(changes) | ({"execution.device": device} if device else {})
    experiment = load_experiment(file, overrides)
    need_engine()
    from statebridge.engine.doctor.readiness import check_readiness

    checks = []
    for check in check_readiness(experiment, out):
        checks.append(check)
        if not as_json:
            print(f"{'ready  ' if check.ready else 'MISSING'}  {check.what:12} {check.detail}")
    if as_json:
        print(
            json.dumps(
                [
                    {"what": check.what, "ready": check.ready, "detail": check.detail}
                    for check in checks
                ]
            )
        )
    if not all(check.ready for check in checks):
        raise typer.Exit(1)
