"""Address of the server, and the key: arguments, then the environment, then the default."""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from statebridge.errors import InputError

URL, API_KEY, API_KEY_FILE = (
    "STATEBRIDGE_URL",
    "STATEBRIDGE_API_KEY",
    "STATEBRIDGE_API_KEY_FILE",
)
DEFAULT_URL = "http://127.0.0.1:8000"
"""Address on which `statebridge serve` listens by default."""

KEY_BYTES = 10_000
"""A key file is one short line; anything larger is a mistake."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, without a slash at its end, and the key to send, if any."""

    url: str
    key: str | None = field(repr=False)
    key_from: str = API_KEY
    """Where the key was found, for messages."""


def resolve_connection(
    url: str | None = None, api_key: str | None = None, key_file: str | Path | None = None
) -> Connection:
    """Return the server to connect to; arguments win over the environment.

    Raises:
        InputError: The URL is not one, or the key or its file does not hold one.
    """
    return Connection(_checked_url(url), *_key(api_key, key_file))


def _checked_url(given: str | None) -> str:
    source = "url" if given else URL
    url = given or os.environ.get(URL) or DEFAULT_URL
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url or parts.query or parts.fragment:
        raise InputError(f"{source}: {url!r} is no server's address; give such as {DEFAULT_URL}")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"{source}: holds a user name or password, which this server does not use; put the "
            f"key into {API_KEY}"
        )
    return url.rstrip("/")


def _key(api_key: str | None, key_file: str | Path | None) -> tuple[str | None, str]:
    """Return the key and where it was found."""
    if api_key is not None:
        return _checked_key(api_key, "api_key"), "api_key"
    if key_file is not None:
        return _read_key(Path(key_file))
    if os.environ.get(API_KEY):
        return _checked_key(os.environ[API_KEY], API_KEY), API_KEY
    if os.environ.get(API_KEY_FILE):
        return _read_key(Path(os.environ[API_KEY_FILE]))
    return None, API_KEY


def _read_key(path: Path) -> tuple[str, str]:
    where = f"key file {path}"
    try:
        with path.expanduser().open("rb") as stream:
            content = stream.read(KEY_BYTES)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: is UTF-16 text; save it as UTF-8")
    # Some editors begin every file with a mark.
    text = content.removeprefix(codecs.BOM_UTF8).decode("latin-1")
    return _checked_key(text, where), where


def _checked_key(text: str, where: str) -> str:
    """Return a key that an HTTP header can hold; no message repeats it."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{where}: does not hold a key; a key is one word such as sb_...")
    return key
