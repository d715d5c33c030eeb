"""What can be asked of a run's results, wherever the run is: choices and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from statebridge.data.files import atomic_writer
from statebridge.errors import EnvironmentFault, InputError, RunFailedError, nearest
from statebridge_client._records import ExperimentStatus

if TYPE_CHECKING:
    from statebridge_client._experiment_calls import ExportFormat

EXPORT_FORMATS: tuple[ExportFormat, ...] = ("published", "parquet", "csv", "latex", "markdown")


def names(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return one name, or several, as several."""
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def check_format(format: str) -> None:
    """Refuse a format that results cannot be exported in.

    Raises:
        InputError: An unknown format.
    """
    if format not in EXPORT_FORMATS:
        raise InputError(f"format: {format!r} is unknown; {nearest(format, EXPORT_FORMATS)}")


def file_in(path: str | Path, name: str) -> Path:
    """Return the file to write: the path itself, or the name in it where it is a folder."""
    path = Path(path)
    return path / name if path.is_dir() else path


def write_file(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, its folder made if needed.

    Raises:
        EnvironmentFault: It cannot be written.
    """
    make_folder(path.parent)
    with atomic_writer(path) as stream:
        stream.write(content)
    return path


def write_files(folder: str | Path, files: dict[str, bytes]) -> list[Path]:
    """Write files into a folder, made if needed; return their paths."""
    return [write_file(Path(folder) / name, content) for name, content in files.items()]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        EnvironmentFault: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be made: {error.strerror}") from None


def check_done(status: ExperimentStatus) -> None:
    """Raise where an experiment has ended without being done.

    Raises:
        RunFailedError: It failed, with the server's reason, or was cancelled.
    """
    if status.state == "failed":
        raise RunFailedError(f"experiment {status.id} ({status.name}) failed: {status.error}")
    if status.state == "cancelled":
        raise RunFailedError(
            f"experiment {status.id} ({status.name}) was cancelled after {status.rows_done} of "
            f"{status.rows_total} rows"
        )
