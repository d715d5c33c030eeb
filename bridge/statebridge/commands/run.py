"""`statebridge run`: carry an experiment out."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from statebridge.actions import need_engine
from statebridge.commands.options import (
    Address,
    AsJson,
    Device,
    Executor,
    ExperimentFile,
    Limit,
    MaxLanes,
    NoDecode,
    Remote,
    Set,
    Workers,
    executor_changes,
    read_declared,
)
from statebridge.commands.printing import print_empty_cells, print_scores
from statebridge.errors import StatebridgeError
from statebridge.progress import print_caution, show_progress


def run(
    file: ExperimentFile,
    out: Annotated[Path, typer.Option(help="Run directory; an earlier run there goes on.")],
    limit: Limit = None,
    device: Device = None,
    path: Annotated[
        str | None, typer.Option(help="shared (the default here) or plain.", show_default=False)
    ] = None,
    max_lanes: MaxLanes = None,
    rng: Annotated[
        str | None, typer.Option(help="derangement, per-row or published draws.")
    ] = None,
    remote: Remote = None,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
    no_decode: NoDecode = False,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Carry an experiment out; the same command again goes on where it stopped."""
    given = {
        "limit": limit,
        "rng": rng,
        "remote": remote,
        "execution.device": device,
        "execution.path": path,
        "execution.max_lanes": max_lanes,
        "decode": False if no_decode else None,
        **executor_changes(executor, workers, address),
    }
    experiment = read_declared(file, changes, given)
    need_engine()
    from statebridge.engine.run_experiment import run_experiment
    from statebridge.run import Run

    try:
        with show_progress(quiet=as_json) as progress:
            summary = run_experiment(experiment, out, progress=progress, show_caution=print_caution)
    except KeyboardInterrupt:
        print(f"interrupted; {_left(out)}", file=sys.stderr)
        raise typer.Exit(130) from None
    found = Run(out)
    if as_json:
        print(
            json.dumps(
                {
                    "directory": str(summary.directory),
                    "lanes": summary.lanes,
                    "resumed_lanes": summary.resumed_lanes,
                    "reused_lanes": summary.reused_lanes,
                    "seconds": round(summary.seconds, 3),
                    "cautions": summary.cautions,
                    "conditions": {
                        f"{score.condition}/{score.direction}": {
                            measure: mean.mean for measure, mean in score.means.items()
                        }
                        for score in found.scores()
                    },
                }
            )
        )
        return
    console = Console()
    print_scores(found, console)
    print_empty_cells(found.results(), console)
    resumed = f" ({summary.resumed_lanes} were there already)" if summary.resumed_lanes else ""
    console.print(
        f"\n{summary.lanes} lanes{resumed} in {summary.seconds:.1f} s, written to "
        f"{summary.directory}",
        soft_wrap=True,
        highlight=False,
    )


def _left(out: Path) -> str:
    """Return what an interrupted run left, and what the same command does with it."""
    from statebridge.run import Run

    with suppress(StatebridgeError):
        done, total = Run(out).progress
        if done:
            return f"{done} of {total} lanes are committed, and the same command goes on from there"
    # A card is written last: its translator is whole.
    fitted = len(list((out / "translators").rglob("*.json")))
    kept = f"; the {fitted} translators that are fitted are kept" if fitted else ""
    return f"no lane is committed yet, and the same command begins again{kept}"
