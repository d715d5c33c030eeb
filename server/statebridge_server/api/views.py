"""What the interface answers with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from statebridge_server.settings import Settings
from statebridge_server.store.jobs import State
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import CorpusHolder, DatasetHolder, Job, Translator
from statebridge_server.store.uploads import Held
from statebridge_server.submission import public_experiment


def timestamp(seconds: float) -> str:
    """Return a moment in ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class ExperimentView(BaseModel):
    """A submitted experiment; a row here is one dataset row in one cell."""

    id: str
    name: str
    state: State
    cancelling: bool
    pair: str
    priority: int
    shared: bool
    mine: bool
    rows_done: int
    rows_total: int
    rows_reused: int
    """Rows that were taken from earlier experiments instead of being computed again."""
    error: str | None
    submitted_at: str
    started_at: str | None
    """When a worker last took it."""
    finished_at: str | None
    experiment: dict[str, Any]
    """As resolved, with references in the place of paths."""


class ExperimentList(BaseModel):
    """Experiments, newest first."""

    experiments: list[ExperimentView]
    next_before: str | None
    """Give as `before` for the following page; null on the last one."""


class DatasetView(BaseModel):
    """An uploaded dataset."""

    sha256: str
    bytes: int
    rows: int
    fields: dict[str, str]
    created_at: str


class CorpusView(BaseModel):
    """An uploaded corpus."""

    sha256: str
    name: str
    bytes: int
    passages: int
    created_at: str


class TranslatorView(BaseModel):
    """A stored translator."""

    id: str
    name: str
    shared: bool
    mine: bool
    sha256: str
    bytes: int
    kind: str
    width_in: int
    width_out: int
    experiment: str | None
    """The experiment that fitted it; null for an uploaded one."""
    created_at: str


PairState = Literal["loaded", "loading", "not loaded", "failed"]


class PairView(BaseModel):
    """A pair that experiments may name."""

    name: str
    sender: str
    sender_revision: str | None
    receiver: str
    receiver_revision: str | None
    dtypes: list[str]
    state: PairState
    """Of the worker that is the furthest."""
    error: str | None
    """Why it cannot be loaded; of several workers, which of them cannot."""
    loaded: dict[str, list[dict[str, Any]]] | None
    """For each side, dtype and worker: device, blocks, width, window, parameters, bytes."""


def experiment_view(job: Job, who: Principal, settings: Settings) -> ExperimentView:
    """Return a job as its clients see it."""
    return ExperimentView(
        id=job.id,
        name=job.name,
        state=job.state,
        cancelling=job.cancel_requested and job.state == "running",
        pair=job.pair,
        priority=job.priority,
        shared=job.shared,
        mine=job.owner == who.key_id,
        rows_done=job.lanes_done,
        rows_total=job.lanes_total,
        rows_reused=job.lanes_reused,
        error=job.error,
        submitted_at=timestamp(job.submitted_at),
        started_at=None if job.claimed_at is None else timestamp(job.claimed_at),
        finished_at=None if job.finished_at is None else timestamp(job.finished_at),
        experiment=public_experiment(job.experiment, settings.pairs.get(job.pair)),
    )


def dataset_view(dataset: Held[DatasetHolder]) -> DatasetView:
    """Return a dataset as its clients see it."""
    holder = dataset.holder
    return DatasetView(
        sha256=holder.sha256,
        bytes=dataset.bytes,
        rows=holder.rows,
        fields={name: value for name, value in holder.fields.items() if value is not None},
        created_at=timestamp(holder.created_at),
    )


def corpus_view(corpus: Held[CorpusHolder]) -> CorpusView:
    """Return a corpus as its clients see it."""
    holder = corpus.holder
    return CorpusView(
        sha256=holder.sha256,
        name=holder.name,
        bytes=corpus.bytes,
        passages=holder.passages,
        created_at=timestamp(holder.created_at),
    )


def translator_view(translator: Translator, who: Principal) -> TranslatorView:
    """Return a translator as its clients see it."""
    return TranslatorView(
        id=translator.id,
        name=translator.name,
        shared=translator.shared,
        mine=translator.owner == who.key_id,
        sha256=translator.sha256,
        bytes=translator.bytes,
        kind=translator.card["kind"],
        width_in=translator.card["width_in"],
        width_out=translator.card["width_out"],
        experiment=translator.job_id,
        created_at=timestamp(translator.created_at),
    )
