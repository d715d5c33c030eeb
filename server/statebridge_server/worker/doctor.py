"""The doctor's process: checks one accepted experiment, without weights, and ends.

The server starts it as `python -m statebridge_server.worker.doctor` and writes one JSON object to
its standard input; its standard output is another. A process of its own answers while the workers
are busy, and what goes wrong in it ends no experiment. It uses no memory of an accelerator.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any, Literal

from statebridge.actions import need_engine
from statebridge.errors import StatebridgeError
from statebridge.experiment.experiment import Execution, Experiment, ModelAtLayer
from statebridge_server.logs import configure_logs, log
from statebridge_server.settings import ListedPair, Settings, fixed_settings
from statebridge_server.worker.job_run import placed

_log = logging.getLogger("statebridge.doctor")


def main() -> int:
    """Answer the question on standard input; return the exit code."""
    asked = json.loads(sys.stdin.read())
    settings = fixed_settings(asked["settings"])
    configure_logs(settings)
    # The system ends it at its time, whatever it is doing and whether or not the server lives.
    signal.alarm(int(asked["seconds"]))
    os.nice(5)  # the workers go first
    os.chdir(settings.data)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no part of the answer
    try:
        need_engine()
        found: dict[str, Any] = {"checks": _findings(settings, asked)}
    except StatebridgeError as error:
        found = {"error": str(error)}
    except Exception as error:
        # As with a job, a traceback may quote text of the data.
        log(_log, logging.ERROR, "the doctor failed", kind=type(error).__name__)
        _log.debug("traceback of the doctor", exc_info=error)
        return 1
    answer.write(json.dumps(found))
    answer.flush()
    return 0


def _findings(settings: Settings, asked: dict[str, Any]) -> list[dict[str, Any]]:
    from statebridge.engine.doctor.readiness import (  # noqa: PLC0415 - loads torch
        Holder,
        check_readiness,
    )
    from statebridge.engine.doctor.structure import Structure, structure_of  # noqa: PLC0415

    pair = settings.pairs[asked["pair"]]
    on = settings.copies[0]

    def structure(side: ModelAtLayer, name: Literal["sender", "receiver"]) -> Structure:
        listed = getattr(pair, name)
        held = {name: getattr(listed, name) for name in ("model", "revision", "adapter", "weights")}
        declared = side.model_copy(update=held)
        return structure_of(declared, needed=listed.remote is None)

    accepted = Experiment.model_validate(asked["experiment"])
    here = Execution(device=on.device, sender_device=on.sender_device)
    execution = placed(accepted.execution, here)
    experiment = accepted.model_copy(update={"execution": execution})
    holder = Holder(structure, asked["loaded"], asked["operations_per_second"])
    return [
        check.model_dump() | {"detail": _public(check.detail, settings, pair)}
        for check in check_readiness(experiment, holder=holder)
    ]


def _public(text: str, settings: Settings, pair: ListedPair) -> str:
    """Return a finding without the places where the operator keeps data, models and adapters."""
    for model in (pair.sender, pair.receiver):
        text = text.replace(model.model, model.public_name)
        if model.adapter is not None:
            text = text.replace(model.adapter, "of the operator")
    return text.replace(f"{settings.data}/", "").replace(str(settings.data), "the data directory")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of the libraries underneath must not hold the process.
    os._exit(code)
