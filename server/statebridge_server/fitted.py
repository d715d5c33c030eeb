"""Translators that a job fitted, kept as translators of their own."""

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


def keep_fitted_translators(database: Database, job: Job, experiment: Experiment) -> None:
    """Register what the job fitted, once for each seed; call in the data directory.

    The files are linked, so they take no room twice and stay when the run is deleted.
    """
    folder = run_path(job.id) / "translators"
    fits = any(isinstance(declared, Fit) for declared in experiment.translator_sets.values())
    if not fits or not folder.is_dir():
        return
    kept = {translator.name for translator in of_job(database, job.id)}
    for weights in sorted(folder.rglob("*.safetensors")):
        # Of several sets, each has a folder of its own.
        which = " ".join(weights.relative_to(folder).with_suffix("").parts)
        name = f"{job.name[:150]}, {which}"
        if name in kept:  # a worker died between this and the end of the job
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
