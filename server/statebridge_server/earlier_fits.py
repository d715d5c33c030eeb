"""Translators that the earlier jobs of the same key fitted.

    fits/OWNER/KEY.safetensors, KEY.json    hard links to a fitted translator and its card

Links take no room. Once the experiments and translators of a file are deleted, its link here is
the last one; it is deleted when the next fit of the same owner is kept.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from statebridge.data import sha256_file

FITS = "fits"


class EarlierFits:
    """A `statebridge.runs.reuse.FitStore` over the jobs of one owner."""

    def __init__(self, owner: str, data: Path = Path()) -> None:
        """Take the owner and the data directory, which is the worker's working directory."""
        self._folder = data / FITS / owner

    def take(self, key: str, path: Path) -> bool:
        """Link a translator into a run; return False if there is none or it is damaged."""
        weights = self._folder / f"{key}.safetensors"
        try:
            card = json.loads(weights.with_suffix(".json").read_bytes())
            if card["weights_sha256"] != sha256_file(weights):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # left by a worker that died before it wrote the card
            os.link(weights, path)
            # The card last: a translator counts as present once it has its card.
            os.link(weights.with_suffix(".json"), path.with_suffix(".json"))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def keep(self, key: str, path: Path) -> None:
        """Link a fitted translator; if the link fails, the translator is fitted again one day."""
        kept = self._folder / f"{key}.safetensors"
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob("*.safetensors"):
                if old.stat().st_nlink == 1:
                    old.with_suffix(".json").unlink(missing_ok=True)
                    old.unlink()
            for suffix in (".safetensors", ".json"):
                target = kept.with_suffix(suffix)
                target.unlink(missing_ok=True)  # a damaged one
                os.link(path.with_suffix(suffix), target)
