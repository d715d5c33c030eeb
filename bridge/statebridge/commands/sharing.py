"""`statebridge track`, `push` and `pull`: runs and translators in other places."""

from __future__ import annotations

import sys
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


def push(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A run directory, or a folder of translators.",
            show_default=False,
        ),
    ],
    to: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository; made if needed.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let anyone read a repository that is made.")
    ] = False,
) -> None:
    """Send a run or translators to the Hugging Face Hub; a new repository is private."""
    from statebridge.sharing import hub

    done = hub.push(folder, to, public=public)
    for name in done.files:
        print(name)
    for name in done.left_out:
        print(f"note: {name} left out; only {', '.join(hub.ENDINGS)} are sent", file=sys.stderr)
    print(f"{len(done.files)} files sent to {done.address}")


def pull(
    name: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="New folder for the files.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; main if not given.")
    ] = None,
) -> None:
    """Take a run or translators from the Hugging Face Hub."""
    from statebridge.sharing import hub

    done = hub.pull(name, out, revision=revision)
    print(f"{done.kind} of {len(done.files)} files in {out}, commit {done.commit}")
