"""The command line: its commands, and errors as one line with an exit code."""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from statebridge.commands import (
    capacity,
    dataset,
    doctor,
    fit,
    init,
    layer_profile,
    layer_search,
    ls,
    run,
    sharing,
    similarity,
)
from statebridge.commands.reading import audit, compare, report, results, site, view
from statebridge.errors import StatebridgeError

app = typer.Typer(
    name="statebridge",
    help="Test whether one language model can tell another something through its hidden states.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Boxes take half a second's loading, and text in square brackets is lost.
    rich_markup_mode=None,
)
app.command()(init.init)
app.command()(run.run)
app.command("layer-search")(layer_search.layer_search)
app.command("sweep", hidden=True)(layer_search.layer_search)  # its earlier name
app.command()(capacity.capacity)
app.command()(fit.fit)
app.command()(similarity.similarity)
app.command("layer-profile")(layer_profile.layer_profile)
app.command()(doctor.doctor)
app.command()(results.score)
app.command()(compare.compare)
app.command()(results.validate)
app.command()(audit.audit)
app.command()(report.report)
app.command()(results.export)
app.command()(sharing.track)
app.command()(sharing.push)
app.command()(sharing.pull)
app.command()(view.view)
app.command()(site.site)
app.command()(doctor.schema)
app.command()(ls.ls)
app.add_typer(dataset.app, name="dataset")


def add_commands() -> None:
    """Add the commands of other packages, such as the client's and the server's.

    Each is an entry point of the group `statebridge.commands`: a function, or a `typer.Typer`
    whose commands follow the entry point's name.
    """
    for entry in entry_points(group="statebridge.commands"):
        found = entry.load()
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=entry.name)
        else:
            app.command(entry.name)(found)


add_commands()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"statebridge {version('statebridge')}")
        raise typer.Exit


def _load_plugins(files: list[Path] | None) -> None:
    for file in files or ():
        from statebridge.plugins import load_plugin

        load_plugin(file)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE",
            callback=_load_plugins,
            help="Python file that adds channels, sources, tasks or other parts of your own; given "
            "before the command; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None: ...


# Typer carries a click of its own from some release on; this is its ClickException, either way.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line; an error is one line and an exit code that means something.

    Of an experiment file all mistakes are printed, a line each.

    Exit codes: 1 a check that did not pass or an experiment that failed, 2 wrong input, 3 the
    machine lacks something, 4 numbers that are not finite, 5 a remote back end or server, 6 a
    key that is missing or refused, 7 no room at present, 130 interrupted.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        # Windows gives a pipe the system's code page, which lacks signs such as the minus.
        stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False, prog_name="statebridge")
        stdout.flush()
        if code:
            sys.exit(code)
    except SystemExit as stop:
        # Typer has put another stream there: the reader of a pipe (`| head`) has gone.
        sys.exit(stop.code if sys.stdout is stdout else 0)
    except _CommandLineError as error:
        _refuse_usage(error)
    except StatebridgeError as error:
        mistakes = getattr(error, "mistakes", ())
        for one in mistakes if len(mistakes) > 1 else (error,):
            print(f"error: {one}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        from statebridge.plugins import plugin_fault

        fault = plugin_fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)


def _refuse_usage(error: Any) -> NoReturn:
    """Print wrong usage on one line; the help, where no command was given at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    cause = error.__cause__
    if cause is not None and type(cause).__module__.startswith("pydantic"):
        from statebridge.experiment.reading.mistakes import problem_in_words

        error.message = problem_in_words(cause.errors()[0])
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    where = "statebridge" if context is None else context.command_path
    if "--plugin" in message:
        message = "--plugin FILE comes before the command: statebridge --plugin FILE run"
    print(f"error: {message.rstrip('.')}; see {where} --help", file=sys.stderr)
    sys.exit(error.exit_code)
