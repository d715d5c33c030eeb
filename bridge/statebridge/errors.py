"""The tree of errors.

Every error that Statebridge raises on purpose is a `StatebridgeError`, and its message
says what was wrong, where, and what would be right. The command line prints that message
on one line and exits with `exit_code`; nothing else of the library needs to be caught.

    StatebridgeError
    ├── InputError              something the user handed in is wrong
    │   ├── ExperimentError     an experiment file or a condition in it
    │   ├── DatasetError        rows, fields, hashes
    │   ├── TranslatorError     a translator file, its shape, its training
    │   ├── ResultError         a run directory or a published result file
    │   ├── PairError           models, layers, tokenizers that do not fit
    │   └── NotFoundError       what a server does not have, or does not show to this key
    ├── EnvironmentFault        the machine lacks something: CUDA, disk, memory, an extra
    ├── NumericError            non-finite weights or states
    ├── RunFailedError          an experiment that was waited for failed or was cancelled
    └── RemoteError             a remote back end refused or failed
        └── ServerError         a Statebridge server failed
            ├── UnreachableError  it cannot be reached
            ├── AccessError     the key is missing, wrong, or may not do this
            └── BusyError       no room or no answer at present; later there may be
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple


class StatebridgeError(Exception):
    """Base of every error raised on purpose; its message is one line."""

    exit_code = 1


class InputError(StatebridgeError):
    """Something that was handed in is wrong."""

    exit_code = 2


class Mistake(NamedTuple):
    """One mistake in an experiment file."""

    line: int | None
    """Counted from 1; None where the file has no such place, or there is no file."""
    field: str
    """Its path, such as `decoding.max_new_tokens`; empty for text that cannot be read."""
    problem: str
    where: str = "experiment"
    """The file, with the line or with the changes to it that the mistake is of."""

    def __str__(self) -> str:
        return f"{self.where}: {self.field or 'experiment'}: {self.problem}"


class ExperimentError(InputError):
    """An experiment file, or a condition declared in it, is wrong."""

    mistakes: tuple[Mistake, ...] = ()
    """All that were found in the file, the one in the message first; empty where the file is
    right by itself."""


class DatasetError(InputError):
    """A dataset cannot be read, lacks a field, or is not the one declared."""


class TranslatorError(InputError):
    """A translator cannot be read, does not fit the pair, or cannot be fitted."""


class ResultError(InputError):
    """A run directory or a result file cannot be read or contradicts itself."""


class PairError(InputError):
    """A model, layer or tokenizer does not exist or does not fit the other one."""


class NotFoundError(InputError):
    """A server has no such experiment, upload or translator, or does not show it to this key."""


class EnvironmentFault(StatebridgeError):  # noqa: N818 - "EnvironmentError" is a builtin
    """The machine lacks something that was asked for: CUDA, memory, disk, an extra."""

    exit_code = 3


class NumericError(StatebridgeError):
    """Weights or states hold NaN or infinity."""

    exit_code = 4


class RunFailedError(StatebridgeError):
    """An experiment that was waited for failed or was cancelled."""


class RemoteError(StatebridgeError):
    """A remote back end refused the job or failed while running it."""

    exit_code = 5


class ServerError(RemoteError):
    """A Statebridge server failed, or what answered is none."""


class UnreachableError(ServerError):
    """A Statebridge server cannot be reached."""


class AccessError(ServerError):
    """The key is missing, wrong or revoked, or its role does not allow the request."""

    exit_code = 6


class BusyError(ServerError):
    """There is no room, or no answer yet; the same may succeed later."""

    exit_code = 7


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint naming the known words nearest to `word`, for an error message."""
    names = sorted(known)
    if not names:
        return "there is none"
    close = get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}"
