"""Where the server is: options that every command of this room takes."""

# The client is imported when a command runs, so that --help stays quick.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from statebridge_client import Client

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Of the server. [default: STATEBRIDGE_URL, else http://127.0.0.1:8000]",
        show_default=False,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Holds the key. [default: STATEBRIDGE_API_KEY, or the file STATEBRIDGE_API_KEY_FILE]",
        show_default=False,
    ),
]
ExperimentId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the experiment, `exp_...`.", show_default=False)
]
TranslatorId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the translator, `tr_...`.", show_default=False)
]
Shared = Annotated[bool, typer.Option("--shared", help="Let every key of the server read it.")]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="The same word with the same file gives the same experiment.",
        show_default=False,
    ),
]


def open_client(url: str | None, key_file: Path | None) -> Client:
    """Return a client; a key is never taken from the command line, where others see it."""
    from statebridge_client import Client

    return Client(url, key_file=key_file)
