from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from statebridge.data.files import atomic_writer
from statebridge.errors import EnvironmentFault
from tests.bridge.data.refusal import refused


def test_the_file_appears_whole_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with atomic_writer(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_writer(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder(tmp_path: Path) -> None:
    with (
        refused(EnvironmentFault, tmp_path / "no" / "out", "No such file"),
        atomic_writer(tmp_path / "no" / "out"),
    ):
        pytest.fail("the block must not run")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "out"
    with (
        refused(EnvironmentFault, path, "No space left on device"),
        atomic_writer(path) as stream,
    ):
        stream.write(b"half")
    assert list(tmp_path.iterdir()) == []
