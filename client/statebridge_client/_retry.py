"""When to send a request again, and after how long: decisions only, nobody waits here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statebridge_client._call import Call

AGAIN = frozenset({429, 502, 503, 504})
"""No room at present, or a proxy before a server that is starting: later it may work."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a client is with what may pass: lost connections, 429, 502, 503, 504.

    Only requests that do no more when they are sent twice are sent again: reading, deleting,
    scoring, uploads of datasets and corpora (addressed by their content), submissions (which
    carry an `Idempotency-Key`).
    """

    attempts: int = 4
    """Of one request in all."""
    first_seconds: float = 0.5
    """Before the second attempt; doubled before each further one, and varied by a quarter so
    that clients do not come back all at once."""
    longest_seconds: float = 60.0
    """A server that asks (`Retry-After`) for a longer pause is not asked again."""

    def after_error(self, call: Call[Any], attempt: int) -> float | None:
        """Return the pause after a lost connection; None to give up. Attempts count from 1."""
        return self._back_off(attempt) if call.repeatable and attempt < self.attempts else None

    def after_answer(
        self, call: Call[Any], attempt: int, status: int, headers: Mapping[str, str]
    ) -> float | None:
        """Return the pause after an answer; None to take the answer as it is."""
        if status not in AGAIN or not call.repeatable or attempt >= self.attempts:
            return None
        asked = retry_after(headers)
        if asked is None:
            return self._back_off(attempt)
        return asked if asked <= self.longest_seconds else None

    def _back_off(self, attempt: int) -> float:
        pause = self.first_seconds * 2.0 ** (attempt - 1)
        spread: float = random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, guards nothing
        return min(pause * spread, self.longest_seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None without a whole number."""
    text = headers.get("retry-after", "")
    return float(text[:9]) if text.isascii() and text.isdigit() else None
