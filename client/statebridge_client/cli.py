"""The `statebridge` command."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from statebridge.commands import (
    audit,
    compare,
    dataset,
    demo,
    doctor,
    export,
    fit,
    report,
    run,
    schema,
    score,
    validate,
)
from statebridge.errors import StatebridgeError

app = typer.Typer(
    name="statebridge",
    help="Test whether one language model can tell another something through its hidden states.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(fit.fit)
app.command()(doctor.doctor)
app.command()(score.score)
app.command()(compare.compare)
app.command()(validate.validate)
app.command()(audit.audit)
app.command()(report.report)
app.command()(export.export)
app.command()(schema.schema)
app.command()(demo.demo)
app.add_typer(dataset.app, name="dataset")

for _entry in entry_points(group="statebridge.commands"):
    # Commands of rooms that this one knows nothing of, such as the server's.
    _found = _entry.load()
    if isinstance(_found, typer.Typer):
        app.add_typer(_found, name=_entry.name)
    else:
        app.command(_entry.name)(_found)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"statebridge {version('statebridge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; an error of ours is one line and an exit code that means something.

    Exit codes: 1 a check that did not pass, 2 wrong input, 3 the machine lacks something,
    4 numbers that are not finite, 5 a remote back end, 130 interrupted.
    """
    try:
        app()
    except StatebridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
