"""Formats of other programs' files: results, and translators.

Each is added by the paper that it belongs to (`statebridge.papers`), by a file of
`statebridge.interchange`, or by an installed distribution through an entry point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from statebridge.errors import ResultError, TranslatorError
from statebridge.records import ResultSet
from statebridge.registry import Registry


class ResultFormat(Protocol):
    """Files of results in one format."""

    def write(self, results: ResultSet, folder: Path) -> list[Path]:
        """Write the results of one run directory; return the files.

        Raises:
            ResultError: Not one run directory's results, or nothing that the format can express.
            EnvironmentFault: A file cannot be written, or a package that writes it is missing.
        """


@runtime_checkable
class ReadableFormat(ResultFormat, Protocol):
    """A format whose files are a source of results too."""

    def recognises(self, path: Path) -> bool:
        """Whether a file, or a folder's content, looks like this format."""

    def read(self, paths: Sequence[Path], *, strict: bool) -> ResultSet:
        """Read files and folders of them.

        With `strict` false, duplicated rows and cells pass, for a validation that reports all.

        Raises:
            ResultError: A file is not of this format or contradicts itself.
        """


RESULT_FORMATS: Registry[ResultFormat] = Registry(
    "result format",
    package="statebridge.papers",
    module="result_format",
    also="statebridge.interchange",
    group="statebridge.result_formats",
    error=ResultError,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A translator as read from another program's file."""

    kind: str
    width_in: int
    width_out: int
    options: Mapping[str, int]
    """Sizes that the kind needs besides the widths: `hidden_dim`, `rank`."""
    normalize_input: bool
    weights: Mapping[str, Any]
    """Torch tensors by parameter name of the kind."""
    where: str
    """Where in the file the weights are; for messages."""
    fields: Mapping[str, str | int | float | bool]
    """Facts that the file states of itself, for the translator's card."""


class CheckpointFormat(Protocol):
    """Files of translators in one format; reading one may import torch."""

    def recognises(self, path: Path, content: bytes) -> bool:
        """Whether a file of that name and content (or its first bytes) has this format."""

    def read(self, path: Path, content: bytes) -> Checkpoint:
        """Read a file, `content` being the bytes of `path`.

        Raises:
            TranslatorError: The file is truncated, would run code, or is wrong or incomplete.
        """


CHECKPOINTS: Registry[CheckpointFormat] = Registry(
    "checkpoint format",
    package="statebridge.papers",
    module="checkpoint",
    group="statebridge.checkpoint_formats",
    error=TranslatorError,
)
