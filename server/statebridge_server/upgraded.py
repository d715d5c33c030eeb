"""Work that was accepted or begun before the server was upgraded, and cannot go on as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from statebridge.errors import ExperimentError, ResultError
from statebridge.experiment.experiment import Experiment
from statebridge.runs.same_run import OtherRunError
from statebridge_server.store.tables import Job


def stored_experiment(job: Job) -> Experiment:
    """Return the experiment of a job as it was accepted.

    Raises:
        ExperimentError: An earlier version accepted what this one does not.
    """
    try:
        return Experiment.model_validate(job.experiment)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "experiment"
        raise ExperimentError(
            f"{field}: accepted by another version of this server and refused by this one "
            f"({first['msg']}); submit the experiment again as this version reads it"
        ) from None


@contextmanager
def carried_on() -> Iterator[None]:
    """Say of a run that was begun differently what its owner can do about it.

    Raises:
        ResultError: In the place of `OtherRunError`, whose words are for a command line.
    """
    try:
        yield
    except OtherRunError as error:
        raise ResultError(
            f"this experiment was begun with another {error.what}: the server, its libraries or "
            "its machine changed before it had ended; submit it again, which runs it from the "
            "start"
        ) from None
