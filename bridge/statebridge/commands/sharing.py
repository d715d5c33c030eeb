"""`statebridge track`: runs in other places."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)
]


def track(
    run: RunFolder,
    to: Annotated[str, typer.Option(help="mlflow, wandb, trackio, or one that a plug-in adds.")],
    project: Annotated[
        str, typer.Option(help="Project of the tracker; MLflow calls it an experiment.")
    ] = "statebridge",
) -> None:
    """Log a run's settings, scores, report and manifest to an experiment tracker."""
    from statebridge.run import Run

    print(f"logged to {to}: {Run(run).track(to, project=project)}")
