"""Records that a server and its clients exchange: experiments, inputs, pairs, scores.

Both sides use these models, so a field is declared once. A client ignores fields that a newer
server adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from statebridge.records import Direction
from statebridge.runs.directory import (
    DATASET,
    MANIFEST,
    POSITIVE_CONTROL,
    ROWS,
    SENDER_CHECKS,
    SESSIONS,
    TAUGHT_PAIR,
)
from statebridge.scoring import ConditionScore, SeedMean

State = Literal["queued", "running", "done", "failed", "cancelled"]
PairState = Literal["loaded", "loading", "not loaded", "failed"]
ENDED = frozenset({"done", "failed", "cancelled"})

RunFile = Literal[
    "manifest.json",
    "dataset.jsonl",
    "sessions.jsonl",
    "sender_checks.json",
    "positive_control.manifest.json",
    "positive_control.dataset.jsonl",
    "positive_control.rows.jsonl",
    "taught_pair.manifest.json",
    "taught_pair.dataset.jsonl",
    "taught_pair.rows.jsonl",
]
"""Name of a file of a run directory in the HTTP interface; the rows have a route of their own."""

RUN_FILES: Mapping[RunFile, str] = MappingProxyType(
    {
        "manifest.json": MANIFEST,
        "dataset.jsonl": DATASET,
        "sessions.jsonl": SESSIONS,
        "sender_checks.json": SENDER_CHECKS,
        # The manifest of a control is last: a folder with a manifest is a run directory.
        "positive_control.dataset.jsonl": f"{POSITIVE_CONTROL}/{DATASET}",
        "positive_control.rows.jsonl": f"{POSITIVE_CONTROL}/{ROWS}",
        "positive_control.manifest.json": f"{POSITIVE_CONTROL}/{MANIFEST}",
        "taught_pair.dataset.jsonl": f"{TAUGHT_PAIR}/{DATASET}",
        "taught_pair.rows.jsonl": f"{TAUGHT_PAIR}/{ROWS}",
        "taught_pair.manifest.json": f"{TAUGHT_PAIR}/{MANIFEST}",
    }
)
"""Path of each file inside the run directory."""


def _milliseconds(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


Moment = Annotated[datetime, PlainSerializer(_milliseconds, return_type=str, when_used="json")]
"""Moment in UTC; ISO 8601 with milliseconds in JSON."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ExperimentStatus(_Record):
    """State of a submitted experiment; `rows_done`, `rows_total` and `rows_reused` count lanes."""

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
    submitted_at: Moment
    started_at: Moment | None
    """Moment at which a worker last took it."""
    finished_at: Moment | None
    experiment: dict[str, Any]
    """As resolved, with references in the place of paths."""


class ExperimentList(_Record):
    """Experiments, newest first."""

    experiments: list[ExperimentStatus]
    next_before: str | None
    """Value of `before` that gives the following page; null on the last one."""


class DatasetInfo(_Record):
    """An uploaded dataset."""

    sha256: str
    bytes: int
    rows: int
    fields: dict[str, str]
    created_at: Moment


class DatasetList(_Record):
    """Datasets of one key."""

    datasets: list[DatasetInfo]


class CorpusInfo(_Record):
    """An uploaded text to fit translators on."""

    sha256: str
    name: str
    """Its name in the cards of translators that are fitted on it."""
    bytes: int
    passages: int
    created_at: Moment


class CorpusList(_Record):
    """Corpora of one key."""

    corpora: list[CorpusInfo]


class TranslatorInfo(_Record):
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
    """Id of the experiment that fitted it; null for an uploaded one."""
    created_at: Moment


class TranslatorList(_Record):
    """Translators that one key may use."""

    translators: list[TranslatorInfo]


class PairInfo(_Record):
    """A pair that experiments may name."""

    name: str
    sender: str
    sender_revision: str | None
    receiver: str
    receiver_revision: str | None
    dtypes: list[str]
    state: PairState
    """State in the worker that is the furthest."""
    error: str | None
    """Reason why it cannot be loaded; of several workers, which of them cannot."""
    loaded: dict[str, list[dict[str, Any]]] | None
    """For each side, dtype and worker: device, blocks, width, window, parameters, bytes."""


class PairList(_Record):
    """The pairs of a server."""

    pairs: list[PairInfo]


class DoctorCheck(_Record):
    """One thing that a run needs, or a caution, as the doctor finds it."""

    what: str
    ready: bool
    detail: str
    """Where ready, what was found; else what is missing and what would be right."""

    @property
    def is_caution(self) -> bool:
        """Whether it says what limits the results, and no more."""
        return self.what == "caution"


class DoctorAnswer(_Record):
    """Whether an experiment can run on a server, with every finding."""

    ready: bool
    checks: list[DoctorCheck]


class Mean(_Record):
    """A mean over rows and seeds."""

    mean: float | None
    sd: float | None
    runs: int


class ConditionSummary(_Record):
    """JSON form of a `ConditionScore`: one condition's scores over its seeds."""

    condition: str
    direction: Direction
    seeds: list[int | None]
    rows: list[int]
    missing_predictions: int
    means: dict[str, Mean]


def summary_of(score: ConditionScore) -> ConditionSummary:
    """Return the JSON form of a score."""
    return ConditionSummary(
        condition=score.condition,
        direction=score.direction,
        seeds=list(score.seeds),
        rows=list(score.n_rows),
        missing_predictions=score.missing_predictions,
        means={
            name: Mean(mean=mean.mean, sd=mean.sd, runs=mean.runs)
            for name, mean in score.means.items()
        },
    )


def _score_of(given: Any) -> ConditionScore:
    """Return a score, also from its JSON form."""
    if isinstance(given, ConditionScore):
        return given
    summary = ConditionSummary.model_validate(given)
    return ConditionScore(
        condition=summary.condition,
        direction=summary.direction,
        seeds=tuple(summary.seeds),
        n_rows=tuple(summary.rows),
        means={
            name: SeedMean(mean=mean.mean, sd=mean.sd, runs=mean.runs)
            for name, mean in summary.means.items()
        },
        missing_predictions=summary.missing_predictions,
    )


Score = Annotated[
    ConditionScore,
    BeforeValidator(_score_of),
    PlainSerializer(summary_of, return_type=ConditionSummary),
]
"""A `ConditionScore` whose JSON form is a `ConditionSummary`."""


class Summary(_Record):
    """Scores of the rows that are committed."""

    state: State
    complete: bool
    conditions: list[Score]


class RowScore(_Record):
    """Value of each measure of a text for one prediction; null without a prediction."""

    row_id: str
    condition: str
    seed: int | None
    scores: dict[str, bool | float | None]


class Scores(_Record):
    """Scores over all predictions, and row by row in the order sent."""

    conditions: list[Score]
    rows: list[RowScore]
