from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from statebridge.data import sha256_file, verify_sha256
from statebridge.errors import DatasetError
from tests.bridge.data.refusal import refused

CONTENT = b"state" * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    return path


def test_the_hash_of_a_file(path: Path) -> None:
    assert sha256_file(path) == DIGEST
    assert verify_sha256(path, DIGEST) == DIGEST
    assert verify_sha256(path, DIGEST.upper()) == DIGEST


def test_another_hash_is_refused_with_both_named(path: Path) -> None:
    with refused(DatasetError, path, DIGEST, "0" * 64):
        verify_sha256(path, "0" * 64)


@pytest.mark.parametrize(
    "part", ["", DIGEST[:8], DIGEST[:63], DIGEST + "0", DIGEST + "\n", "g" * 64]
)
def test_a_prefix_is_no_hash(path: Path, part: str) -> None:
    with refused(DatasetError, path, "64 hex digits"):
        verify_sha256(path, part)


def test_a_missing_file(tmp_path: Path) -> None:
    with refused(DatasetError, tmp_path / "none", "no such file"):
        sha256_file(tmp_path / "none")
    with refused(DatasetError, tmp_path, "is a folder"):
        sha256_file(tmp_path)
