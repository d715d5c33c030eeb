"""`statebridge datasets ...` and `statebridge corpora ...`: uploads on a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.commands.options import AsJson
from statebridge_client.commands.options import KeyFile, Url, open_client

if TYPE_CHECKING:
    from statebridge_client import CorpusInfo, DatasetInfo

datasets = typer.Typer(name="datasets", help="Datasets on a server.", no_args_is_help=True)
corpora = typer.Typer(
    name="corpora", help="Texts on a server to fit translators on.", no_args_is_help=True
)

Sha256 = Annotated[
    str, typer.Argument(metavar="SHA256", help="Of the uploaded bytes.", show_default=False)
]
Field = Annotated[
    str | None, typer.Option(metavar="FIELD", help="Its name in the file.", show_default=False)
]


@datasets.command("list")
def list_datasets(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the datasets that this key has uploaded."""
    with open_client(url, key_file) as client:
        _print(client.datasets.list(), as_json)


@datasets.command("upload")
def upload_dataset(
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


@datasets.command("delete")
def delete_dataset(sha256: Sha256, url: Url = None, key_file: KeyFile = None) -> None:
    """Delete a dataset; runs keep the rows that they ran over."""
    with open_client(url, key_file) as client:
        client.datasets.delete(sha256)


@corpora.command("list")
def list_corpora(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the texts that this key has uploaded."""
    with open_client(url, key_file) as client:
        _print(client.corpora.list(), as_json)


@corpora.command("upload")
def upload_corpus(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="UTF-8, a passage a line.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Its name in the translators' cards; the file's own if not given."),
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Upload a text, checked by the server; print its SHA-256 first."""
    with open_client(url, key_file) as client:
        item = client.corpora.upload(file, name=name)
    print(item.model_dump_json() if as_json else _line(item))


@corpora.command("delete")
def delete_corpus(sha256: Sha256, url: Url = None, key_file: KeyFile = None) -> None:
    """Delete a text; translators that were fitted on it stay."""
    with open_client(url, key_file) as client:
        client.corpora.delete(sha256)


def _print(found: Sequence[DatasetInfo | CorpusInfo], as_json: bool) -> None:
    if as_json:
        print(json.dumps([item.model_dump(mode="json") for item in found]))
        return
    for item in found:
        print(_line(item))


def _line(item: DatasetInfo | CorpusInfo) -> str:
    # Which of the two it is, without loading their module: one has rows, the other a name.
    held = item.model_dump()
    size = f"{held['rows']} rows" if "rows" in held else f"{held['passages']} passages"
    line = f"{item.sha256}  {size}  {item.bytes} bytes  {item.created_at:%Y-%m-%d}"
    return f"{line}  {held['name']}" if "name" in held else line
