"""The plain records of a run: dataset rows, lanes in cells, cells in a result set.

Everything after the run (scoring, statistics, validation, audit, figures, report) reads
these classes and nothing else, whether they came from a run directory
(`statebridge.results.run_results`) or from files of another format
(`statebridge.results.formats`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from statebridge.experiment.cells import cell_name
from statebridge.experiment.conditions import DeclaredCondition

Direction = Literal["fwd", "rev"]

Side = Literal["sender", "receiver"]
"""One of a pair's two models."""


class Record(BaseModel):
    """Base of the records that are written as JSON: immutable, closed, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """A text that a model wrote before the receiver's answer: a relay, or an answer in a debate."""

    model: Side
    text: str
    """Without special tokens, stripped."""
    prompt_len: int
    """Tokens that it read."""
    new_tokens: int
    """Tokens that it generated, the end token included where it was reached."""


@dataclass(frozen=True, slots=True)
class LaneResult:
    """The result of one dataset row in one cell (a *lane*).

    A field is None where it does not apply to the condition, was not measured (a run
    with `--no-decode` has no prediction), or is absent from a published file.
    """

    row_id: str
    gold: str
    prediction: str | None
    """Decoded new tokens without special tokens, stripped."""
    token_ids: tuple[int, ...] | None = None
    """New tokens as generated, the end token included where it was reached."""
    prompt_len_sender: int | None = None
    """Tokens that the sender reads; of several senders, all together."""
    sender_prompt_lens: tuple[int, ...] | None = None
    """Tokens that each of several senders reads, in the order of their turns."""
    prompt_len_receiver: int | None = None
    token_ids_match: bool | None = None
    seq_len_match: bool | None = None
    translated_norm_mean: float | None = None
    """Mean over the positions read of the L2 norm of the source state, before any rescaling:
    the translated state, or, as published, the raw noise, the receiver's own state, zero."""
    receiver_norm_mean: float | None = None
    """Mean over the prompt of the L2 norm of the receiver's own state."""
    injected_norm_mean: float | None = None
    """Mean L2 norm of what was added (`add`) or written (every other operator)."""
    source_cosine_mean: float | None = None
    """Mean over the positions written of the cosine of the source state and the receiver's
    own; a zero state has cosine 0. Not part of the published files."""
    donor_row_id: str | None = None
    donor_self_fallback: bool | None = None
    message_layers: tuple[int, ...] | None = None
    """Layers that a message of keys and values has whole; the others have its first entry. Of fused
    keys and values, the receiver's layers whose gates are open."""
    message_positions: int | None = None
    """Positions that a message takes in front of the receiver's prompt, or at which the prompt's
    own entries are fused."""
    message_bytes: int | None = None
    """Bytes of a message as it was sent, in the dtype of the weights."""
    message_one_to_one: float | None = None
    """Share of the sender's tokens that are the receiver's too, where they were aligned with
    these."""
    relay: str | None = None
    """The sender's text that the receiver read last."""
    relay_prompt_len: int | None = None
    """Length in tokens of the prompt to which the sender wrote it."""
    turns: tuple[Turn, ...] | None = None
    """All that was written before the answer, in order, where the prompt holds such text."""
    gold_logprob: float | None = None
    """Log-probability (nats) of the whole gold answer after the prompt."""
    gold_token_count: int | None = None
    gold_tokens: tuple[tuple[str, float], ...] | None = None
    """Tokens of the gold answer as text, each with its log-probability (nats) after the prompt and
    the tokens before it. Recorded where `likelihoods.tokens` is declared."""
    gold_end_logprob: float | None = None
    """Log-probability (nats) that the gold answer, once written, ends there: of an end token or
    a line end. Measured where `likelihoods.end` is declared."""
    alias_logprobs: Mapping[str, float] | None = None
    """Log-probability (nats) of each alias after the prompt. Measured where
    `likelihoods.aliases` is declared."""
    answer_logprob: float | None = None
    """Log-probability (nats) that the gold answer or an alias of it follows, which counts a name
    that begins with another one once. Measured with the aliases."""
    option_logprobs: Mapping[str, float] | None = None
    """Log-probability (nats) of each wrong option after the prompt. Measured where
    `likelihoods.options` is declared."""
    gold_rank: int | None = None
    """Rank, from 1, of the gold answer's first token in the next-token distribution."""
    kl_from_no_inject: float | None = None
    """KL(nothing written || this cell) of the next-token distribution, in nats: from `no_inject`,
    or from the receiver alone with the same private prompt."""
    task_correct: bool | None = None
    """Whether the prediction is right by the task's own convention
    (`statebridge.scoring.conventions`); None where the row names none."""
    prediction_changed: bool | None = None
    """Whether the new tokens differ from those of the same prompt with nothing written."""
    first_changed_token: int | None = None
    """Index, from 0, of the first new token that differs; None when none does."""


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One example as the run saw it."""

    row_id: str
    context: str
    question: str
    answer: str
    attributes: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Everything else the source carried that can stratify: hops, domain, answer type."""


@dataclass(slots=True)
class CellResult:
    """One condition under one seed: the unit of a published result file."""

    condition: DeclaredCondition
    seed: int | None
    """None for a deterministic condition."""
    direction: Direction
    lanes: list[LaneResult]
    source: Path
    """The file or directory it was read from; for messages."""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other right answers by row id, of the rows that have any."""
    dataset_sha256: str | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """max_new_tokens, repetition_penalty, no_repeat_ngram_size, as recorded."""
    models: Mapping[str, Any] = field(default_factory=dict)
    published_injection: Mapping[str, Any] | None = None
    """The `injection` block of a published file; None for a cell of a run directory."""
    complete: bool = True
    """False while lanes that the plan asks for are missing."""
    source_rows: int | None = None
    """Rows of the dataset before exclusions (strict control), where recorded."""
    excluded_rows: int | None = None
    row_facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Facts of the rows that depend on the cell's map, by attribute (`answer_seen`, ...), then by
    row id; those of all maps of the run together for a condition that has none."""
    same_answer_donors: frozenset[str] | None = None
    """Rows that got the state of a row with the same answer; None where no one recorded it."""

    @property
    def name(self) -> str:
        """`condition` or `condition/seedN`: unique within one direction of a result set."""
        return cell_name(self.condition.name, self.seed)

    @property
    def order(self) -> tuple[str, str, bool, int, str]:
        """Key to sort cells by: direction, condition, seed (none first) and source."""
        seed = self.seed
        return (self.direction, self.condition.name, seed is not None, seed or 0, str(self.source))


@dataclass(slots=True)
class ResultSet:
    """Cells that belong together, and the rows that they are about."""

    cells: list[CellResult]
    dataset: dict[str, DatasetRow] = field(default_factory=dict)
    """By row id; empty where only published files were given."""
    manifest: Mapping[str, Any] | None = None
    """The run directory's manifest, where there is one."""
    cautions: tuple[str, ...] = ()
    """Limits of the results, as their runs recorded them before a row was run."""
    positive_control: ResultSet | None = None
    """The run's positive control, where it has one."""
    taught_pair: ResultSet | None = None
    """The same code on the taught pair, where the run has that control."""

    def cell(self, condition: str, seed: int | None = None) -> CellResult | None:
        """Return the cell of a condition and seed, or None."""
        for cell in self.cells:
            if cell.condition.name == condition and cell.seed == seed:
                return cell
        return None

    def floor(self, cell: CellResult) -> CellResult | None:
        """Return the cell in which the receiver reads the same and nothing is written, or None.

        A text relay, whose prompt no other cell has, is compared with the task prompt. Of
        several floors, `no_inject` comes first, then, where texts are sampled, the same seed.
        """
        prompt = "task" if cell.condition.uses_text else cell.condition.prompt
        found = [
            other
            for other in self.cells
            if other.direction == cell.direction
            and other.condition.is_baseline
            and other.condition.prompt == prompt
        ]
        return min(
            found,
            key=lambda other: (
                other.condition.name.partition("@")[0] != "no_inject",
                other.source != cell.source,
                other.seed != cell.seed,
            ),
            default=None,
        )
