"""SHA-256 of a data file, streaming."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from statebridge.data.text_files import readable
from statebridge.errors import DatasetError

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
