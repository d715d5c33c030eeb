"""Files: UTF-8 text read line by line, files written whole or not at all, and their SHA-256."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from statebridge.errors import DatasetError, EnvironmentFault


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

    A file whose name ends in `.gz` or `.zst` is decompressed as it is read.

    Only LF, or CR LF, ends a line: the other characters that Unicode calls line ends may
    occur inside a JSON string.

    Raises:
        DatasetError: The file is missing, unreadable, or holds bytes that are not UTF-8
            (the line and byte are named), or a line of more than `longest` bytes.
    """
    limit = -1 if longest is None else longest + 1
    with readable(path), _opened(path) as stream:
        for number, line in enumerate(iter(partial(stream.readline, limit), b""), start=1):
            if longest is not None and len(line) > longest:
                raise DatasetError(f"{path}, line {number}: more than {longest} bytes; break it up")
            yield number, _decode(line.rstrip(b"\r\n"), path, number)


PACKED = (".gz", ".zst")
"""Ends of the names of compressed files."""


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.suffix not in PACKED:
        with path.open("rb") as stream:
            yield stream
        return
    name = {".gz": "gzip", ".zst": "zstd"}[path.suffix]
    try:
        with path.open("rb") as stream, _unpacked(stream, name) as unpacked:
            yield unpacked
    except (gzip.BadGzipFile, EOFError, zlib.error, _NotWholeError) as error:
        raise DatasetError(
            f"{path}: not a whole {name} file ({error}); copy it again, or take {path.suffix} off "
            "its name"
        ) from None


class _NotWholeError(Exception):
    """A compressed file is cut or damaged."""


@contextmanager
def _unpacked(stream: BinaryIO, name: str) -> Iterator[BinaryIO]:
    if name == "gzip":
        with gzip.open(stream, "rb") as unpacked:
            yield cast("BinaryIO", unpacked)
        return
    from pyarrow import input_stream  # noqa: PLC0415 - slow to load, and seldom needed

    try:
        with io.BufferedReader(input_stream(stream, compression=name)) as unpacked:
            yield cast("BinaryIO", unpacked)
    except OSError as error:
        raise _NotWholeError(" ".join(str(error).split())[:120]) from None


def read_text(path: Path) -> str:
    """Return the whole of a UTF-8 file; raises as `iter_lines` does."""
    return "\n".join(line for _, line in iter_lines(path))


def _decode(line: bytes, path: Path, number: int) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)  # which spreadsheet programs write
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DatasetError(f"{path}, line 1: is UTF-16 text; save it as UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None


def make_folder(folder: Path) -> None:
    """Make a folder, if needed.

    Raises:
        EnvironmentFault: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder}: cannot be made: {error.strerror}; give a folder that can be written"
        ) from None


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


_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hex digits; memory does not grow with it.

    Raises:
        DatasetError: The file is missing or cannot be read.
    """
    path = Path(path)
    with readable(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_sha256(path: str | Path, expected: str) -> str:
    """Return the SHA-256 of a file after checking that it is the declared one.

    Raises:
        DatasetError: `expected` is not a whole SHA-256 (a prefix is not accepted), the file
            cannot be read, or its hash is another.
    """
    if _SHA256.fullmatch(expected) is None:
        raise DatasetError(
            f"{path}: sha256 {expected!r} is not a SHA-256; give all 64 hex digits, not a prefix"
        )
    found = sha256_file(path)
    if found != expected.lower():
        raise DatasetError(
            f"{path}: has SHA-256 {found}, not the declared {expected.lower()}; "
            "use the file that was declared, or declare this one"
        )
    return found
