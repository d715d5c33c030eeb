"""`statebridge serve` and `statebridge keys ...`."""

# A command imports what it needs when it runs, so that --help stays quick.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from statebridge_server.store.database import Database

Config = Annotated[
    Path | None,
    typer.Option(help="Settings file, YAML or JSON; STATEBRIDGE_CONFIG if not given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]

keys = typer.Typer(
    name="keys", help="Bearer keys of the server, on its own machine.", no_args_is_help=True
)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", min=1, max=65535)] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory.")] = None,
) -> None:
    """Serve experiments over HTTP; the models live in a worker process of their own."""
    from statebridge_server.serve import serve as serve_until_stopped
    from statebridge_server.settings import load_settings

    serve_until_stopped(load_settings(config, host=host, port=port, data=data))


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    role: Annotated[str, typer.Option(help="read, submit or admin.")] = "submit",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from statebridge_server.store.keys import create_key

    token, key = create_key(_database(config), name, role)
    if as_json:
        print(json.dumps({"id": key.id, "name": key.name, "role": key.role, "token": token}))
        return
    print(token)


@keys.command("list")
def show(config: Config = None, as_json: AsJson = False) -> None:
    """List all keys, revoked ones too."""
    from statebridge_server.store.keys import list_keys

    found = [
        {
            "id": key.id,
            "name": key.name,
            "role": key.role,
            "created_at": _day(key.created_at),
            "revoked_at": None if key.revoked_at is None else _day(key.revoked_at),
        }
        for key in list_keys(_database(config))
    ]
    if as_json:
        print(json.dumps(found))
        return
    for key in found:
        revoked = f"revoked {key['revoked_at']}" if key["revoked_at"] else ""
        print(
            f"{key['id']}  {key['role']:6}  {key['created_at']}  {key['name']}  {revoked}".rstrip()
        )


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")], config: Config = None
) -> None:
    """Revoke a key; a running server refuses it from then on."""
    from statebridge_server.store.keys import revoke_key

    key = revoke_key(_database(config), key_id)
    print(f"revoked {key.id} ({key.name})")


def _database(config: Path | None) -> Database:
    from statebridge_server.layout import make_layout
    from statebridge_server.settings import load_settings
    from statebridge_server.store.database import Database

    settings = load_settings(config)
    make_layout(settings.data)
    return Database(settings.url)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
