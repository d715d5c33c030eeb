"""Answers that hold until the next commit, by what they depend on beside the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.types import Message

from statebridge_server.store.changes import Changes

MOST_ANSWERS = 1000
"""Kept at a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, before what names its request is added.

    Attributes:
        start: Status and headers, as ASGI sends them.
        body: All of the body, as ASGI sends it.
        route: That gave it.
        key_id: Of the key that asked.
    """

    start: Message
    body: Message
    route: Any
    key_id: str | None


class KeptAnswers:
    """Answers of the database's present version, and of no other.

    Attributes:
        version: Of the database, when it was last asked for.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.version: int | None = None
        self._answers: dict[bytes, Answer] = {}

    def now(self) -> int | None:
        """Return the version of the database, having dropped the answers of any other.

        Asked before anything is read: what is read is then at least as new.
        """
        version = self._changes.version()
        if version is None or version != self.version:
            self.version = version
            self._answers.clear()
        return version

    def get(self, key: bytes) -> Answer | None:
        """Return an answer of the version that `now` returned last."""
        return self._answers.get(key)

    def keep(self, key: bytes, answer: Answer, version: int) -> None:
        """Keep an answer that was read after `now` returned `version`, if that still stands."""
        if version == self.version and len(self._answers) < MOST_ANSWERS:
            self._answers[key] = answer
