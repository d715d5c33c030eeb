"""What a run asks of whoever keeps the translators that earlier runs fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class FitStore(Protocol):
    """Fitted translators by key: SHA-256, in hex, over everything that a fit is a function of."""

    def take(self, key: str, path: Path) -> bool:
        """Put the weights to `path` and the card beside it; False where there are none."""

    def keep(self, key: str, path: Path) -> None:
        """Take note of a translator that was fitted, its card beside it."""
