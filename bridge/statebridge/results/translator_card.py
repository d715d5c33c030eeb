"""The card of a translator: what it maps, how it came about, how good it is.

Free of torch, so that a card can be read and shown anywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from statebridge.data.training_texts import TrainingTexts
from statebridge.experiment.translator_settings import (
    CausalSettings,
    KeyValueSettings,
    ProcrustesSettings,
    RidgeSettings,
    TrainingSettings,
)
from statebridge.records import Record


class StateOrigin(Record):
    """Where one side's states come from: a model at one layer."""

    model: str
    """Hub id, or the name of a local folder."""
    revision: str | None = None
    layer: str
    """Module path of the block whose output is meant."""
    width: int = Field(ge=1)


class CorpusRecord(Record):
    """The text that the translator was fitted on."""

    name: str
    """File name, without its directory."""
    sha256: str
    """Hash of the whole file, whatever part of it was used."""
    passages: int | None = None
    """Passages used."""
    max_tokens: int | None = None
    """Tokens after which a passage was cut."""
    positions: Literal["all", "last"] = "all"
    """Positions used of each passage: every token, or the last one."""


class EpochRecord(Record):
    """One epoch of gradient training; losses are mean squared errors per entry."""

    epoch: int
    """From 1."""
    training_loss: float
    """Mean over the epoch's positions, each taken before the step it led to."""
    validation_loss: float
    learning_rate: float
    """Learning rate of the epoch's last step."""


class TrainingRecord(Record):
    """How gradient training went."""

    method: Literal["adamw"] = "adamw"
    settings: TrainingSettings
    seed: int
    """Seed of the initial weights and of the order of the positions."""
    normalize_target: bool
    """Whether the receiver states were L2-normalised."""
    training_positions: int
    validation_positions: int
    steps: int
    device: str
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    """The epoch whose weights were kept: the first of the lowest validation loss."""


class RidgeRecord(Record):
    """How the closed-form fit went."""

    method: Literal["ridge"] = "ridge"
    settings: RidgeSettings
    normalize_target: bool
    """Whether the receiver states were L2-normalised."""
    training_positions: int
    penalty: float
    """The absolute λ added to the diagonal of the centred X'X / n."""
    rank: int
    """Rank of the centred X'X, before the penalty."""
    condition_number: float
    """Condition number of the penalised centred X'X."""


class ProcrustesRecord(Record):
    """How the closed-form fit of an orthogonal map went."""

    method: Literal["procrustes"] = "procrustes"
    settings: ProcrustesSettings
    normalize_target: bool
    """Whether the receiver states were L2-normalised."""
    training_positions: int
    scale: float
    """Factor of the rotation."""
    rank: int
    """Rank of the centred X'Y."""
    condition_number: float
    """Its largest singular value over its smallest: how well the rotation is determined."""


class KeyValueRecord(Record):
    """How the closed-form fit of maps of keys and values went."""

    method: Literal["kv_ridge"] = "kv_ridge"
    settings: KeyValueSettings
    training_positions: int
    sources: tuple[tuple[int, ...], ...]
    """The sender's blocks that each of the receiver's reads."""


class ImportedRecord(Record):
    """A checkpoint made elsewhere."""

    method: Literal["imported"] = "imported"
    file_name: str
    sha256: str
    fields: dict[str, Any] = Field(default_factory=dict)
    """Numbers and texts that the checkpoint carried beside its weights."""


FitRecord = Annotated[
    TrainingRecord | RidgeRecord | ProcrustesRecord | KeyValueRecord | ImportedRecord,
    Field(discriminator="method"),
]


class CausalEpochRecord(Record):
    """One epoch of training through the receiver; losses are means over rows."""

    epoch: int
    """From 1; 0 is the starting map, which is only validated."""
    training_loss: float | None
    """Each row's taken before the step it led to; None for the starting map."""
    validation_loss: float
    validation_gold: float
    """Cross-entropy of the gold answer, nats a token."""
    validation_divergence: float
    """KL(skyline || receiver) of the next token after the prompt, nats."""
    learning_rate: float | None
    """Learning rate of the epoch's last step."""


class CausalRecord(Record):
    """How training through the frozen receiver went, from the fitted map on."""

    settings: CausalSettings
    seed: int
    """Seed of the split and of the order of the rows."""
    condition: dict[str, Any]
    """The condition trained through, as declared."""
    dataset: str
    """Where the rows come from: a file's name, or `generated multi-hop rows`."""
    dataset_sha256: str
    """Hash of the whole file or of all generated rows."""
    rows_sha256: str
    """Hash of the rows trained and validated on, in canonical form."""
    training_rows: int
    validation_rows: int
    evaluated_rows_left_out: int
    """Generated rows that are evaluated, and were therefore not used."""
    repeated_rows_left_out: int
    held_out_rows_left_out: int = 0
    """Rows whose answer is one of the evaluated answers that are held out."""
    start_scale: float
    """Factor of the fitted map's output before the first step."""
    steps: int
    device: str
    seconds: float
    """Wall time, without the capture that all seeds share."""
    epochs: tuple[CausalEpochRecord, ...]
    best_epoch: int
    """The epoch whose weights were kept: the first of the lowest validation loss."""


class SpaceQuality(Record):
    """Fit in one space, with the mean vector's score beside each figure.

    With targets y_id (position i, dimension d) and predictions p_id, the means ȳ_d taken
    over the positions that are scored:

    - `r2` = 1 − Σ_id (y_id − p_id)² / Σ_id (y_id − ȳ_d)²: one ratio over all entries, so
      that dimensions count by their variance;
    - `r2_dimension_mean` = the same ratio per dimension, then averaged with equal weights
      (a dimension that does not vary counts 1 if met exactly, else 0);
    - `cosine` = mean over positions of the cosine of y_i and p_i; 0 where either is zero.

    `baseline_*` scores the mean training target as the prediction for every position.
    """

    r2: float
    r2_dimension_mean: float
    cosine: float
    baseline_r2: float
    baseline_r2_dimension_mean: float
    baseline_cosine: float


class QualityReport(Record):
    """How well a translator predicts held-out receiver states.

    A cosine ignores the length of its vectors, so `raw.cosine` equals
    `normalised.cosine` up to rounding; their baselines differ.
    The raw cosine of arXiv 2606.03280 (0.842 beside 0.974 normalised) is another number, so
    it cannot be of that kind; `raw_input` is the nearest reading of it.
    """

    positions: int
    normalised: SpaceQuality
    """Translator output against the L2-normalised receiver state."""
    raw: SpaceQuality
    """Translator output against the receiver state as it is."""
    raw_input: SpaceQuality
    """The map applied to the sender state as it is, un-normalised even where the
    translator would normalise, against the receiver state as it is."""
    sender_layer: str | None = None
    receiver_layer: str | None = None


class KeyValueQuality(Record):
    """How well a map predicts the receiver's held-out keys and values, for each of its blocks.

    `r2_*` are shares of variance over all entries, of keys before their rotation; the cosine is
    that of the attention's output with the receiver's own queries, averaged over tokens.
    `baseline_*` has the mean keys and values of the fitting text at every position.
    """

    positions: int
    passages_compared: int
    """Passages on which the attention's output is compared."""
    r2_keys: tuple[float, ...]
    r2_values: tuple[float, ...]
    attention_cosine: tuple[float, ...]
    baseline_r2_keys: tuple[float, ...]
    baseline_r2_values: tuple[float, ...]
    baseline_attention_cosine: tuple[float, ...]


class StitchedQuality(Record):
    """Next-token cross-entropy (nats a token) of the receiver over held-out text.

    Its states at the injection layer are replaced at every position: by themselves
    (`receiver`, the floor), by translations as they are and at the receiver's norm, by the
    mean receiver state of the fitting corpus, and by zero.
    """

    VARIANTS: ClassVar[tuple[str, ...]] = (
        "receiver",
        "translated",
        "translated_matched_norm",
        "mean_vector",
        "zero",
    )

    tokens: int
    """Next tokens scored."""
    receiver: float
    translated: float
    translated_matched_norm: float
    mean_vector: float
    zero: float


class TranslatorCard(Record):
    """Everything about a translator but its weights."""

    format: Literal["statebridge.translator.v1"] = "statebridge.translator.v1"
    kind: str
    width_in: int = Field(ge=1)
    width_out: int = Field(ge=1)
    options: dict[str, int] = Field(default_factory=dict)
    """Options of the kind beside the widths: `hidden_dim` of the MLPs, `rank` of low_rank, the
    blocks, sources and groups of heads of kv_ridge."""
    normalize_input: bool
    sender: StateOrigin | None = None
    receiver: StateOrigin | None = None
    corpus: CorpusRecord | None = None
    training: FitRecord | None = None
    causal: CausalRecord | None = None
    """Training through the receiver, after the fit that `training` records."""
    trained_on: TrainingTexts | None = None
    """Hashes of all texts of the fit and of the training after it; None where no one kept them."""
    quality: tuple[QualityReport, ...] = ()
    key_values: KeyValueQuality | None = None
    """For maps of keys and values, in place of `quality`."""
    stitched: StitchedQuality | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    created_at: str | None = None
    """UTC, ISO 8601."""
    weights_sha256: str | None = None
    """Hash of the weights' file; filled in when it is written."""
