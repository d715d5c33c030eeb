"""`statebridge datasets ...`: rows on a server."""

# A command imports what it needs when it runs, so that --help stays quick.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.commands.options import AsJson
from statebridge_client.commands.options import KeyFile, Url, open_client

if TYPE_CHECKING:
    from statebridge_client import DatasetInfo

app = typer.Typer(name="datasets", help="Datasets on a server.", no_args_is_help=True)

Sha256 = Annotated[
    str, typer.Argument(metavar="SHA256", help="Of the dataset's bytes.", show_default=False)
]
Field = Annotated[
    str | None, typer.Option(metavar="FIELD", help="Its name in the file.", show_default=False)
]


@app.command("list")
def show(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the datasets that this key has uploaded."""
    with open_client(url, key_file) as client:
        found = client.datasets.list()
    if as_json:
        print(json.dumps([item.model_dump(mode="json") for item in found]))
        return
    for item in found:
        print(_line(item))


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines.", show_default=False)],
    id: Field = None,
    context: Field = None,
    question: Field = None,
    answer: Field = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Upload rows, each checked by the server; print their SHA-256 first."""
    from statebridge.data import FieldMap

    given = {"id": id, "context": context, "question": question, "answer": answer}
    fields = FieldMap(**{name: value for name, value in given.items() if value is not None})
    with open_client(url, key_file) as client:
        item = client.datasets.upload(file, fields)
    print(item.model_dump_json() if as_json else _line(item))


@app.command()
def delete(sha256: Sha256, url: Url = None, key_file: KeyFile = None) -> None:
    """Delete a dataset; runs keep the rows that they ran over."""
    with open_client(url, key_file) as client:
        client.datasets.delete(sha256)


def _line(item: DatasetInfo) -> str:
    return f"{item.sha256}  {item.rows} rows  {item.bytes} bytes  {item.created_at:%Y-%m-%d}"
