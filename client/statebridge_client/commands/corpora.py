"""`statebridge corpora ...`: texts on a server that translators are fitted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.commands.options import AsJson
from statebridge_client.commands.options import KeyFile, Url, open_client

if TYPE_CHECKING:
    from statebridge_client import CorpusInfo

app = typer.Typer(
    name="corpora", help="Texts on a server to fit translators on.", no_args_is_help=True
)

Sha256 = Annotated[
    str, typer.Argument(metavar="SHA256", help="Of the text's bytes.", show_default=False)
]


@app.command("list")
def show(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the texts that this key has uploaded."""
    with open_client(url, key_file) as client:
        found = client.corpora.list()
    if as_json:
        print(json.dumps([item.model_dump(mode="json") for item in found]))
        return
    for item in found:
        print(_line(item))


@app.command()
def upload(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="UTF-8, a passage a line.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option(help="What translators' cards call it; the file's own if not given."),
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Upload a text, checked by the server; print its SHA-256 first."""
    with open_client(url, key_file) as client:
        item = client.corpora.upload(file, name=name)
    print(item.model_dump_json() if as_json else _line(item))


@app.command()
def delete(sha256: Sha256, url: Url = None, key_file: KeyFile = None) -> None:
    """Delete a text; translators that were fitted on it stay."""
    with open_client(url, key_file) as client:
        client.corpora.delete(sha256)


def _line(item: CorpusInfo) -> str:
    size = f"{item.passages} passages  {item.bytes} bytes"
    return f"{item.sha256}  {size}  {item.created_at:%Y-%m-%d}  {item.name}"
