"""Fitted translators: kept for later jobs of the same key, and registered as translators.

    fits/OWNER/KEY.safetensors, KEY.json    hard links to a fitted translator and its card

Links take no room. Once the experiments and translators of a file are deleted, its link here is
the last one; it is deleted when the next fit of the same owner is kept.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from statebridge.data import sha256_file
from statebridge.experiment.experiment import Experiment, Fit
from statebridge_server.layout import run_path, translator_path
from statebridge_server.store.database import Database
from statebridge_server.store.tables import Job, Translator
from statebridge_server.store.translators import add_translator, new_translator_id, of_job

FITS = "fits"


class EarlierFits:
    """A `statebridge.runs.stores.FitStore` over the jobs of one owner."""

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


def keep_fitted_translators(database: Database, job: Job, experiment: Experiment) -> None:
    """Register the translators that a job fitted, one for each seed and set.

    Call it in the data directory. The files are hard links, so they take no room twice and stay
    when the run is deleted.
    """
    folder = run_path(job.id) / "translators"
    fits = any(isinstance(declared, Fit) for declared in experiment.translator_sets.values())
    if not fits or not folder.is_dir():
        return
    kept = {translator.name for translator in of_job(database, job.id)}
    for weights in sorted(folder.rglob("*.safetensors")):
        # Each of several sets has a folder of its own.
        which = " ".join(weights.relative_to(folder).with_suffix("").parts)
        name = f"{job.name[:150]}, {which}"
        if name in kept:  # registered by a worker that died before the end of the job
            continue
        translator_id = new_translator_id()
        target = translator_path(translator_id)
        card = weights.with_suffix(".json")
        _link(weights, target)
        _link(card, target.with_suffix(".json"))
        add_translator(
            database,
            Translator(
                id=translator_id,
                owner=job.owner,
                name=name,
                shared=job.shared,
                sha256=sha256_file(target),
                bytes=target.stat().st_size,
                card=json.loads(card.read_text(encoding="utf-8")),
                job_id=job.id,
                created_at=time.time(),
            ),
        )


def _link(source: Path, target: Path) -> None:
    with suppress(FileExistsError):
        os.link(source, target)
