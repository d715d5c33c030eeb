"""`statebridge translators ...`: translators on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.commands.options import AsJson, ExperimentFile, Set, read_changes
from statebridge_client.commands.options import (
    IdempotencyKey,
    KeyFile,
    Shared,
    TranslatorId,
    Url,
    open_client,
)

if TYPE_CHECKING:
    from statebridge_client import TranslatorInfo

app = typer.Typer(name="translators", help="Translators on a server.", no_args_is_help=True)


@app.command("list")
def show(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the translators that this key may use."""
    with open_client(url, key_file) as client:
        found = client.translators.list()
    _print(found, as_json)


@app.command()
def fit(
    file: ExperimentFile,
    changes: Set = None,
    shared: Shared = False,
    idempotency_key: IdempotencyKey = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit what an experiment file declares (translators: {fit: ...}); wait, and list them."""
    with open_client(url, key_file) as client:
        run = client.translators.fit(
            file, read_changes(changes), shared=shared, idempotency_key=idempotency_key
        )
        run.wait(progress=not as_json)
        fitted = client.translators.fitted(run)
    _print(fitted, as_json)


@app.command()
def upload(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Written by Statebridge.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="The file's name if not given.")] = None,
    shared: Shared = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Upload a translator (safetensors); print its id first."""
    with open_client(url, key_file) as client:
        item = client.translators.upload(file, name=name, shared=shared)
    print(item.model_dump_json() if as_json else _line(item))


@app.command()
def download(
    translator_id: TranslatorId,
    out: Annotated[Path, typer.Option(help="File to write, or a folder that exists.")],
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Write a translator's weights to a file (safetensors)."""
    with open_client(url, key_file) as client:
        print(client.translators.download(translator_id, out))


@app.command()
def card(translator_id: TranslatorId, url: Url = None, key_file: KeyFile = None) -> None:
    """Print a translator's card as JSON: models, layers, corpus, training record, quality."""
    with open_client(url, key_file) as client:
        print(json.dumps(client.translators.card(translator_id), indent=2))


@app.command()
def delete(translator_id: TranslatorId, url: Url = None, key_file: KeyFile = None) -> None:
    """Delete a translator; rows made with it stay."""
    with open_client(url, key_file) as client:
        client.translators.delete(translator_id)


def _print(found: list[TranslatorInfo], as_json: bool) -> None:
    if as_json:
        print(json.dumps([item.model_dump(mode="json") for item in found]))
        return
    for item in found:
        print(_line(item))


def _line(item: TranslatorInfo) -> str:
    return f"{item.id}  {item.kind:11}  {item.width_in} to {item.width_out}  {item.name}"
