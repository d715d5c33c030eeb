"""Rows of the database as the records that clients receive."""

from __future__ import annotations

from datetime import UTC, datetime

from statebridge.results.service_records import (
    CorpusInfo,
    DatasetInfo,
    ExperimentStatus,
    TranslatorInfo,
)
from statebridge_server.settings import Settings
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import CorpusHolder, DatasetHolder, Job, Translator
from statebridge_server.store.uploads import Held
from statebridge_server.submission import public_experiment


def moment(seconds: float) -> datetime:
    """Return a moment of the database as one of a record, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def experiment_view(job: Job, who: Principal, settings: Settings) -> ExperimentStatus:
    """Return a job as its clients see it."""
    return ExperimentStatus(
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
        submitted_at=moment(job.submitted_at),
        started_at=None if job.claimed_at is None else moment(job.claimed_at),
        finished_at=None if job.finished_at is None else moment(job.finished_at),
        experiment=public_experiment(job.experiment, settings.pairs.get(job.pair)),
    )


def dataset_view(dataset: Held[DatasetHolder]) -> DatasetInfo:
    """Return a dataset as its clients see it."""
    holder = dataset.holder
    return DatasetInfo(
        sha256=holder.sha256,
        bytes=dataset.bytes,
        rows=holder.rows,
        fields={name: value for name, value in holder.fields.items() if value is not None},
        created_at=moment(holder.created_at),
    )


def corpus_view(corpus: Held[CorpusHolder]) -> CorpusInfo:
    """Return a corpus as its clients see it."""
    holder = corpus.holder
    return CorpusInfo(
        sha256=holder.sha256,
        name=holder.name,
        bytes=corpus.bytes,
        passages=holder.passages,
        created_at=moment(holder.created_at),
    )


def translator_view(translator: Translator, who: Principal) -> TranslatorInfo:
    """Return a translator as its clients see it."""
    return TranslatorInfo(
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
        created_at=moment(translator.created_at),
    )
