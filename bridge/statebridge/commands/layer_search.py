"""`statebridge layer-search`: carry an experiment out at many pairs of layers, and choose one."""

from __future__ import annotations

import json
import sys
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
    Set,
    Workers,
    executor_changes,
    read_declared,
)
from statebridge.progress import print_caution, show_progress


def layer_search(
    file: ExperimentFile,
    out: Annotated[Path, typer.Option(help="Directory; an earlier layer search there goes on.")],
    limit: Limit = None,
    device: Device = None,
    max_lanes: MaxLanes = None,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
    no_decode: NoDecode = False,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment at each pair of layers, and choose one on rows that are not reported on.

    The same command again goes on where it stopped; `statebridge report` draws the map.
    """
    from statebridge.errors import ExperimentError

    given = {
        "limit": limit,
        "execution.device": device,
        "execution.max_lanes": max_lanes,
        "decode": False if no_decode else None,
        **executor_changes(executor, workers, address),
    }
    experiment = read_declared(file, changes, given)
    if experiment.layer_search is None:
        raise ExperimentError(
            f"{file}: layer_search: missing; declare the layers to search, or use `statebridge run`"
        )
    need_engine()
    from statebridge.engine.layer_search.search import run_layer_search
    from statebridge.report.layer_search import (
        choice_headline,
        firmness,
        reported_findings,
    )
    from statebridge.results.layer_search import read_layer_search
    from statebridge.stats.held_out_choice import choose_held_out

    try:
        with show_progress(quiet=as_json) as progress:
            summary = run_layer_search(
                experiment, out, progress=progress, show_caution=print_caution
            )
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    choice = choose_held_out(read_layer_search(out))
    findings = reported_findings(choice)
    if as_json:
        print(
            json.dumps(
                {
                    "directory": str(summary.directory),
                    "pairs": summary.runs,
                    "lanes": summary.lanes,
                    "resumed_lanes": summary.resumed_lanes,
                    "reused_lanes": summary.reused_lanes,
                    "seconds": round(summary.seconds, 3),
                    "choice": choice.on_choosing.model_dump(mode="json"),
                    "reported": findings,
                }
            )
        )
        return
    console = Console()
    for line in (choice_headline(choice), *findings, *firmness(choice)):
        console.print(line, highlight=False, markup=False)
    resumed = f", {summary.resumed_lanes} were there already" if summary.resumed_lanes else ""
    console.print(
        f"\n{summary.lanes} lanes at {summary.runs} pairs of layers ({summary.reused_lanes} taken "
        f"from another pair{resumed}) in {summary.seconds:.1f} s, written to {summary.directory}",
        soft_wrap=True,
        highlight=False,
    )
