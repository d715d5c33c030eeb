"""The key of a fit: a digest of everything that the fitted translator is a function of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from statebridge.data import rows_sha256
from statebridge.engine.fitting.corpus import CorpusTexts
from statebridge.engine.reuse.lane_key import digest, model_digest
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.models.loading import weights_sha256
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.translators.storage import recorded_versions

KEY_FORMAT = 1
"""To be raised whenever the same inputs give another translator."""


class FitKeys:
    """The keys of the fits of one run; both models are hashed once."""

    def __init__(self, experiment: Experiment, pair: Pair, evaluated: Sequence[DatasetRow]) -> None:
        """Take the experiment, its pair and the rows of its dataset."""
        self._experiment, self._evaluated = experiment, evaluated
        sides = {"sender": pair.sender, "receiver": pair.receiver}
        hashes = {name: weights_sha256(side.module) for name, side in sides.items()}
        self.complete = None not in hashes.values()
        """Whether all weights are on this machine; keys mean nothing otherwise."""
        self._common = {
            "key": KEY_FORMAT,
            "versions": recorded_versions(),
            "threads": torch.get_num_threads(),
            "remote": experiment.remote,
            "sides": {
                name: {
                    "model": model_digest(side, hashes[name]),
                    # The translator's card names them.
                    "name": [side.name, side.revision],
                    "layer": side.layer_path,
                    "gpu": _gpu(side.device),
                }
                for name, side in sides.items()
            },
        }

    def of(self, fit: Fit, corpus: CorpusTexts, seed: int) -> str:
        """Return the key of one seed's translator, SHA-256 in hex."""
        parts = {
            "common": self._common,
            "fit": fit.model_dump(mode="json", exclude={"corpus": {"path", "name"}}),
            # With the name that the translator's card states.
            "corpus": corpus.record.model_dump(mode="json"),
            # A generated corpus leaves out the evaluated rows.
            "passages": digest(corpus.passages),
            "seed": seed,
        }
        if fit.causal is not None:
            parts["experiment"] = self._experiment.model_dump(
                mode="json", include={"prompts", "decoding", "rng", "path", "seeds"}
            )
            parts["evaluated"] = rows_sha256(self._evaluated)
        return digest(parts)


def _gpu(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
