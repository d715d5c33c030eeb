"""What a server says of experiments, datasets, corpora, translators and pairs.

Fields that a newer server adds are passed over.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

State = Literal["queued", "running", "done", "failed", "cancelled"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ExperimentStatus(_Record):
    """How a submitted experiment stands; a row here is one dataset row in one cell."""

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
    rows_reused: int = 0
    """Rows that were taken from earlier experiments."""
    error: str | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    experiment: dict[str, Any]
    """As resolved, with references in the place of paths."""


class DatasetInfo(_Record):
    """A dataset that a server holds."""

    sha256: str
    bytes: int
    rows: int
    fields: dict[str, str]
    created_at: datetime


class CorpusInfo(_Record):
    """A text to fit translators on that a server holds."""

    sha256: str
    name: str
    """What the cards of translators that are fitted on it call it."""
    bytes: int
    passages: int
    created_at: datetime


class TranslatorInfo(_Record):
    """A translator that a server holds."""

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
    """The experiment that fitted it; None for an uploaded one."""
    created_at: datetime


class PairInfo(_Record):
    """A pair that a server's experiments may name."""

    name: str
    sender: str
    sender_revision: str | None
    receiver: str
    receiver_revision: str | None
    dtypes: list[str]
    state: Literal["loaded", "loading", "not loaded", "failed"]
    error: str | None
    loaded: dict[str, list[dict[str, Any]]] | None
    """For each side and dtype: device, blocks, width, window, parameters, bytes."""


class RowScore(_Record):
    """Which metrics count a prediction; None without one."""

    row_id: str
    condition: str
    seed: int | None
    scores: dict[str, bool | None]
