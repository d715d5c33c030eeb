"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from statebridge.errors import EnvironmentFault


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary stream that becomes `path` only when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are
    then renamed over `path`: a reader, or a crash, sees the old file or the new one.

    Raises:
        EnvironmentFault: The folder is missing or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise EnvironmentFault(
                f"{path}: cannot be written: {error.strerror}; "
                "give a path in a folder that exists, is writable and has room"
            ) from None
        raise


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost when the machine stops.
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
