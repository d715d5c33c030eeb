"""`statebridge submit`, `status`, `watch`, `results`, `cancel`, `resume`."""

# A command imports what it needs when it runs, so that --help stays quick.

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.commands.options import AsJson, ExperimentFile, Set, read_changes
from statebridge_client.commands.options import (
    ExperimentId,
    IdempotencyKey,
    KeyFile,
    Shared,
    Url,
    open_client,
)

if TYPE_CHECKING:
    from statebridge_client import ExperimentStatus, RemoteRun


def submit(
    file: ExperimentFile,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for it; print its scores.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Print what the server's doctor finds; submit nothing."),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Run the first rows only.", min=1)] = None,
    changes: Set = None,
    priority: Annotated[
        int, typer.Option(help="Among this key's own experiments.", min=-100, max=100)
    ] = 0,
    shared: Shared = False,
    idempotency_key: IdempotencyKey = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Submit an experiment to a server; print its id."""
    overrides = read_changes(changes, {"limit": limit})
    with open_client(url, key_file) as client:
        if check:
            from statebridge.commands.printing import print_checks

            print_checks(client.doctor(file, overrides), as_json)
            return
        run = client.submit(
            file, overrides, priority=priority, shared=shared, idempotency_key=idempotency_key
        )
        if not as_json:
            print(run.id, flush=True)
        if wait:
            _wait(run, quiet=as_json)
        if as_json:
            print(run.status().model_dump_json())
        elif wait:
            _print_scores(run)


def status(
    experiment_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="One experiment; the last ones if not given."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Experiments listed at most.", min=1)] = 20,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the state of experiments on a server."""
    with open_client(url, key_file) as client:
        if experiment_id is None:
            found = list(client.experiments(limit=limit))
        else:
            found = [client.get(experiment_id).status()]
    if as_json:
        shown = [item.model_dump(mode="json") for item in found]
        print(json.dumps(shown if experiment_id is None else shown[0]))
        return
    for item in found:
        print(_line(item))


def watch(experiment_id: ExperimentId, url: Url = None, key_file: KeyFile = None) -> None:
    """Show an experiment's progress until it has ended; exit 1 unless it is done."""
    with open_client(url, key_file) as client:
        run = client.get(experiment_id)
        _wait(run)
        print(_line(run.status()))


def results(
    experiment_id: ExperimentId,
    out: Annotated[Path, typer.Option(help="Run directory to write; it goes on where it is.")],
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an experiment's committed rows into a run directory: for score, compare, report."""
    from statebridge.run import Run

    with open_client(url, key_file) as client:
        run = client.get(experiment_id)
        run.download(out)
        status = run.status()
    held = Run(out).progress.done
    if as_json:
        answer = {"directory": str(out), "rows": held, "state": status.state}
        print(json.dumps(answer | {"rows_total": status.rows_total}))
        return
    print(f"{held} of {status.rows_total} rows in {out}; the experiment is {status.state}")


def cancel(
    experiment_id: ExperimentId, url: Url = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Cancel an experiment: at once where it waits, after its group of rows where it runs."""
    with open_client(url, key_file) as client:
        _answer(client.get(experiment_id).cancel(), as_json)


def resume(
    experiment_id: ExperimentId, url: Url = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Queue a failed or cancelled experiment again; it goes on after its last rows."""
    with open_client(url, key_file) as client:
        _answer(client.get(experiment_id).resume(), as_json)


def _answer(item: ExperimentStatus, as_json: bool) -> None:
    print(item.model_dump_json() if as_json else _line(item))


def _wait(run: RemoteRun, *, quiet: bool = False) -> None:
    try:
        run.wait(progress=not quiet)
    except KeyboardInterrupt:
        again = f"the experiment goes on: statebridge watch {run.id}"
        print(f"interrupted; {again}", file=sys.stderr)
        raise typer.Exit(130) from None


def _print_scores(run: RemoteRun) -> None:
    from rich.console import Console

    from statebridge.commands.printing import print_scores

    print_scores(run, Console())


def _line(item: ExperimentStatus) -> str:
    state = "cancelling" if item.cancelling else item.state
    reused = f" ({item.rows_reused} reused)" if item.rows_reused else ""
    line = f"{item.id}  {state:10}  {item.rows_done}/{item.rows_total} rows{reused}  {item.name}"
    return f"{line}  ({item.error})" if item.error else line
