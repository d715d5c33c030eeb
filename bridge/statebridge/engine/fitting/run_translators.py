"""The translators of a run: loaded from files, or fitted into the run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from statebridge.data import rows_sha256, sha256_file
from statebridge.engine.cluster.actor import Actors
from statebridge.engine.fitting.corpus import CorpusTexts, read_corpus
from statebridge.engine.fitting.spread_fits import FittedSet, fit_sets
from statebridge.engine.reuse.lane_key import digest, model_digest
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import DEFAULT_SET, Experiment, Fit
from statebridge.experiment.translator_settings import (
    FUSER_KIND,
    KEY_VALUE_KIND,
    MESSAGE_KINDS,
    RESAMPLER_KIND,
)
from statebridge.models.pair import Pair
from statebridge.models.weights import weights_sha256
from statebridge.records import DatasetRow
from statebridge.runs.directory import RunDirectory
from statebridge.runs.plan import TranslatorKey
from statebridge.runs.stores import FitStore
from statebridge.translators import Translator, load_translator, save_translator
from statebridge.translators.storage import card_path, recorded_versions

KEY_FORMAT = 4
"""To be raised whenever the same inputs give another translator, or another card."""


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
            "remote": experiment.remotes if experiment.runs_remotely else None,
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
        left_out: dict[str, Any] = {"corpus": {"path", "name"}}
        if fit.kind != KEY_VALUE_KIND:
            left_out["key_values"] = True
        parts = {
            "common": self._common,
            "fit": fit.model_dump(mode="json", exclude=left_out),
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


Progress = Callable[[str, int, int], None]
"""Called with a stage (`capture`, `train`, `quality`), done, and total."""


def run_translators(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    directory: RunDirectory,
    progress: Progress,
    fits: FitStore | None = None,
    actors: Actors | None = None,
) -> tuple[dict[TranslatorKey, Translator], dict[str, Any]]:
    """Return the translators that the conditions use, and where each comes from.

    Origins are keyed by `SEED` where the experiment has one set of translators, by
    `SET/SEED` where it has several. Fits that `fits` has are taken, and new ones are stored in it.
    `actors`, if there are any, fit them.
    """
    taking = any(isinstance(declared, Fit) for declared in experiment.translator_sets.values())
    keys = FitKeys(experiment, pair, rows) if fits is not None and taking else None
    earlier = (fits, keys) if fits is not None and keys is not None and keys.complete else None
    used = {experiment.translator_set(c) for c in experiment.resolved_conditions if c.translates}
    files: dict[TranslatorKey, Path] = {}
    missing: list[FittedSet] = []
    for name, declared in experiment.translator_sets.items():
        if name not in used:
            continue
        if isinstance(declared, Fit):
            folder = directory.path / "translators"
            folder = folder if name == DEFAULT_SET else folder / name
            own = {seed: folder / f"seed{seed}.safetensors" for seed in experiment.seeds}
            missing += _missing(experiment, name, declared, rows, own, earlier)
        else:
            own = {seed: declared[seed] for seed in experiment.seeds}
        files.update(((name, seed), path) for seed, path in own.items())
    for key, translator in fit_sets(missing, pair, experiment, rows, progress, actors):
        save_translator(translator, files[key])
        if earlier is not None:
            (stored,) = (each.keys[key[1]] for each in missing if each.name == key[0])
            earlier[0].keep(stored, files[key])
    translators: dict[TranslatorKey, Translator] = {}
    origins: dict[str, Any] = {}
    for (name, seed), path in files.items():
        translator = load_translator(
            path, dtype=pair.receiver.exact_dtype, device=pair.receiver.device
        )
        check_origin(translator, path, pair)
        translators[name, seed] = translator
        origin = str(seed) if name == DEFAULT_SET else f"{name}/{seed}"
        origins[origin] = {
            "file": path.name,
            "sha256": sha256_file(path),
            "kind": translator.kind,
            "quality": (
                [report.model_dump(mode="json") for report in translator.card.quality]
                if translator.card
                else []
            ),
        }
        if translator.kind in MESSAGE_KINDS:
            # Its operations follow from these.
            origins[origin]["map"] = {
                "width_in": translator.width_in,
                "width_out": translator.width_out,
                "options": translator.options,
            }
            parameters = sum(weight.numel() for weight in translator.map.parameters())
            origins[origin]["parameters"] = parameters
        if translator.card is not None and translator.card.key_values is not None:
            origins[origin]["key_values"] = translator.card.key_values.model_dump(mode="json")
    return translators, origins


def check_origin(translator: Translator, path: Path, pair: Pair) -> None:
    """Refuse a translator whose card states that it was fitted for something else.

    Models are compared by the last part of their names: a folder may hold a copy of the hub's.

    Raises:
        TranslatorError: Another model, revision or layer, or the other direction.
    """
    card = translator.card
    if card is None:
        return
    for side, origin, model in (
        ("sender", card.sender, pair.sender),
        ("receiver", card.receiver, pair.receiver),
    ):
        if origin is None:
            continue
        same_model = origin.model.split("/")[-1] == model.name.split("/")[-1]
        revisions = {origin.revision, model.revision} - {None}
        # A map of keys and values is one of all layers; soft tokens enter the receiver at none.
        at_none = card.kind == RESAMPLER_KIND and side == "receiver"
        one_layer = card.kind not in (KEY_VALUE_KIND, FUSER_KIND) and not at_none
        other_layer = one_layer and origin.layer != model.layer_path
        if not same_model or len(revisions) > 1 or other_layer:
            raise TranslatorError(
                f"translator {path.name}: its card states that it was fitted for the {side} "
                f"{_at(origin.model, origin.revision, origin.layer)}, and the experiment's is "
                f"{_at(model.name, model.revision, model.layer_path)}; give the file of this pair, "
                "these layers and this direction, or let it be fitted: fit: {...}"
            )


def _at(model: str, revision: str | None, layer: str) -> str:
    return f"{model}{f' at revision {revision}' if revision else ''}, {layer}"


def _missing(
    experiment: Experiment,
    name: str,
    fit: Fit,
    rows: Sequence[DatasetRow],
    files: Mapping[int, Path],
    earlier: tuple[FitStore, FitKeys] | None,
) -> list[FittedSet]:
    """Return the set with its seeds that no earlier call and no earlier run has fitted."""
    # The card is written last: without it the process was killed in between.
    seeds = [seed for seed, path in files.items() if not card_path(path).exists()]
    if not seeds:
        return []
    corpus = read_corpus(fit.corpus, experiment.prompts, rows)
    keys: dict[int, str] = {}
    if earlier is not None:
        store, fit_keys = earlier
        keys = {seed: fit_keys.of(fit, corpus, seed) for seed in seeds}
        seeds = [seed for seed in seeds if not store.take(keys[seed], files[seed])]
    return [FittedSet(name, fit, corpus, tuple(seeds), keys)] if seeds else []
