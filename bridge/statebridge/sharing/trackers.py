"""The trackers: MLflow, Weights & Biases, Trackio. Where each keeps its runs is its own setting."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from statebridge.sharing.tracking import TRACKERS, LoggedRun, needed

_BATCH = 100
"""Parameters that a server of MLflow takes in one request."""


@TRACKERS.add("mlflow")
def mlflow(run: LoggedRun, project: str) -> str:
    """MLflow: a run of the experiment PROJECT, in the store that MLFLOW_TRACKING_URI names."""
    library = needed("mlflow")
    # Not the run that a notebook may have open.
    client = library.MlflowClient()
    found = client.get_experiment_by_name(project)
    experiment = client.create_experiment(project) if found is None else found.experiment_id
    made = client.create_run(experiment, run_name=run.name).info
    entities, settings = library.entities, iter(run.settings.items())
    try:
        while batch := list(islice(settings, _BATCH)):
            params = [entities.Param(name, str(value)) for name, value in batch]
            client.log_batch(made.run_id, params=params)
        metrics = [
            entities.Metric(n, value, made.start_time, 0) for n, value in run.metrics.items()
        ]
        client.log_batch(made.run_id, metrics=metrics)
        for file in run.files:
            client.log_artifact(made.run_id, str(file))
    except BaseException:
        client.set_terminated(made.run_id, "FAILED")
        raise
    client.set_terminated(made.run_id)
    return f"run {made.run_id} of experiment {project} at {library.get_tracking_uri()}"


@TRACKERS.add("wandb")
def wandb(run: LoggedRun, project: str) -> str:
    """Weights & Biases: a run of the project PROJECT; WANDB_MODE=offline keeps it here."""
    library = needed("wandb")
    # Beside the run that a notebook may have open.
    with library.init(
        project=project, name=run.name, config=dict(run.settings), reinit="create_new"
    ) as made:
        made.log(dict(run.metrics))
        made.log_artifact(_filled(library.Artifact(f"run-{made.id}", "statebridge-run"), run))
        return str(made.url or f"{Path(made.dir).parent}, which `wandb sync` sends")


@TRACKERS.add("trackio")
def trackio(run: LoggedRun, project: str) -> str:
    """Trackio: a run of the project PROJECT, on this machine or where TRACKIO_SPACE_ID says."""
    library = needed("trackio")
    quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    made = library.init(project=project, name=run.name, config=dict(run.settings), **quiet)
    try:
        made.log(dict(run.metrics))
        made.log_artifact(_filled(library.Artifact(f"run-{made.id}", "statebridge-run"), run))
    finally:
        made.finish()
    return f"run {made.name} of project {project}; `trackio show --project {project}` shows it"


def _filled(artifact: Any, run: LoggedRun) -> Any:
    for file in run.files:
        artifact.add_file(str(file), name=file.name)
    return artifact
