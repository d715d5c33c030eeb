"""Profiles over the layers of two models: where the answer is, by probes and by patched states."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from statebridge.records import Record, Side
from statebridge.results.sender_checks import SenderChecks

FORMAT: Final = "statebridge.layer_profile.v1"


class ProbeScore(Record):
    """A linear probe of states, on rows that it was not fitted on."""

    right: int
    """Rows whose answer the probe ranks first among all answers of the dataset."""
    shuffled_right: int
    """The same with the answers dealt out to other rows: what the probe finds where there is
    nothing to find."""
    rows: int
    answers: int
    """Number of distinct answers; chance is one in so many."""


class ProfiledLayer(Record):
    """One layer of one model."""

    layer: int
    checks: SenderChecks
    """The patches of states at this layer, and the rows as they are."""
    seen: ProbeScore
    """Rows held out; their answers may be those of rows that the probe was fitted on."""
    unseen: ProbeScore | None
    """Answers held out: no row with such an answer was fitted on. None where the model's
    embeddings, through which new answers are named, are not on this machine."""
    across: ProbeScore | None
    """Answers held out, and named by the receiver's embeddings: what an affine map fitted on other
    answers can bring to the receiver. None for the receiver's own layers."""


class ModelProfile(Record):
    """One model of the pair, layer by layer."""

    side: Side
    model: str
    layer_in_use: int
    layers: tuple[ProfiledLayer, ...] = Field(min_length=1)


class LayerProfile(Record):
    """Both models of a pair."""

    format: Literal["statebridge.layer_profile.v1"] = FORMAT
    models: tuple[ModelProfile, ...]
