"""The `statebridge` command."""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import entry_points
from typing import Annotated, Any, NoReturn

import typer

from statebridge.commands import (
    audit,
    compare,
    dataset,
    doctor,
    export,
    fit,
    layer_search,
    report,
    run,
    schema,
    score,
    similarity,
    validate,
)
from statebridge.errors import StatebridgeError
from statebridge_client.commands import corpora, datasets, demo, experiments, translators

app = typer.Typer(
    name="statebridge",
    help="Test whether one language model can tell another something through its hidden states.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Boxes take half a second's loading, and what stands in square brackets goes missing.
    rich_markup_mode=None,
)
app.command()(run.run)
app.command()(layer_search.sweep)
app.command()(fit.fit)
app.command()(similarity.similarity)
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
app.command()(experiments.submit)
app.command()(experiments.status)
app.command()(experiments.watch)
app.command()(experiments.results)
app.command()(experiments.cancel)
app.command()(experiments.resume)
app.add_typer(translators.app, name="translators")
app.add_typer(datasets.app, name="datasets")
app.add_typer(corpora.app, name="corpora")

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


# Typer carries a click of its own from some release on; this is its ClickException, either way.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line; an error is one line and an exit code that means something.

    Exit codes: 1 a check that did not pass or an experiment that failed, 2 wrong input, 3 the
    machine lacks something, 4 numbers that are not finite, 5 a remote back end or server, 6 a
    key that is missing or refused, 7 no room at present, 130 interrupted.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        # Windows gives a pipe the system's code page, which lacks signs such as the minus.
        stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        stdout.flush()
        if code:
            sys.exit(code)
    except SystemExit as stop:
        # Typer has put another stream there: the reader of a pipe (`| head`) has gone.
        sys.exit(stop.code if sys.stdout is stdout else 0)
    except _CommandLineError as error:
        _refuse_usage(error)
    except StatebridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _refuse_usage(error: Any) -> NoReturn:
    """Print wrong usage on one line; the help, where no command was given at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    said = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    where = "statebridge" if context is None else context.command_path
    print(f"error: {said.rstrip('.')}; see {where} --help", file=sys.stderr)
    sys.exit(error.exit_code)
