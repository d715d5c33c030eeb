"""Reading UTF-8 text as users have it on disk, every fault named with file and line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from statebridge.errors import DatasetError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an operating-system error on `path` into a one-line `DatasetError`."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; give the path of a data file") from None
    except IsADirectoryError:
        raise DatasetError(f"{path}: is a folder; give the path of a data file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None


def iter_lines(path: Path, longest: int | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, streaming.

    Only LF, or CR LF, ends a line: the other characters that Unicode calls line ends may
    stand inside a JSON string.

    Raises:
        DatasetError: The file is missing, unreadable, starts with a byte-order mark, or
            holds bytes that are not UTF-8 (the line and byte are named), or a line of more than
            `longest` bytes.
    """
    limit = -1 if longest is None else longest + 1
    with readable(path), path.open("rb") as stream:
        for number, line in enumerate(iter(partial(stream.readline, limit), b""), start=1):
            if longest is not None and len(line) > longest:
                raise DatasetError(f"{path}, line {number}: more than {longest} bytes; break it up")
            yield number, _decode(line.rstrip(b"\r\n"), path, number)


def read_text(path: Path) -> str:
    """Return the whole of a UTF-8 file; raises as `iter_lines` does."""
    return "\n".join(line for _, line in iter_lines(path))


def _decode(line: bytes, path: Path, number: int) -> str:
    if number == 1:
        if line.startswith(codecs.BOM_UTF8):
            raise DatasetError(
                f"{path}, line 1: starts with a byte-order mark; save it as UTF-8 without one"
            )
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DatasetError(f"{path}, line 1: is UTF-16 text; save it as UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None
