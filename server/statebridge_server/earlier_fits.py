"""The translators that a key's earlier jobs fitted, as a job's run asks for them.

    fits/OWNER/KEY.safetensors, KEY.json    links to what a job fitted

Links take no room. One that is the last of its file, since the experiments and translators that
it was made from were deleted, goes when the same owner's next fit is kept.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from statebridge.data import sha256_file

FITS = "fits"


class EarlierFits:
    """A `statebridge.runs.fit_store.FitStore` over one owner's jobs.

    Nobody learns by it what others have fitted, as with lanes (`statebridge_server.earlier_lanes`).
    """

    def __init__(self, owner: str, data: Path = Path()) -> None:
        """Take who asks, and the data directory: the worker's working directory."""
        self._folder = data / FITS / owner

    def take(self, key: str, path: Path) -> bool:
        """Link a translator into a run; False where there is none, or it is damaged."""
        weights = self._folder / f"{key}.safetensors"
        try:
            card = json.loads(weights.with_suffix(".json").read_bytes())
            if card["weights_sha256"] != sha256_file(weights):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a worker that died before it wrote the card
            os.link(weights, path)
            # The card last: with it the translator counts as there.
            os.link(weights.with_suffix(".json"), path.with_suffix(".json"))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def keep(self, key: str, path: Path) -> None:
        """Link a fitted translator; where that cannot be done it is fitted again some day."""
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
