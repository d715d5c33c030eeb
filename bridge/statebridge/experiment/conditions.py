"""A condition as data: one point of the algebra of interventions.

With h the receiver's own state at the injection layer and s the source state, both
(batch, position, width), a condition writes at the chosen positions

    add     h + weight · s
    blend   weight · s + (1 − weight) · h
    mean    (s + h) / 2
    sum     s + h

where `match_norm` first rescales s to ‖h‖ at every position. The published conditions of
arXiv 2606.03280 and the methods of arXiv 2501.14082 are points of it (see
`statebridge.experiment.presets`).

What the receiver reads decides the setting. With the `task` prompt it sees the whole context
(the shared setting of arXiv 2606.03280); with `question_only` or `placeholder` the context is
private to the sender, as in arXiv 2501.14082.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from statebridge.experiment.declared_numbers import NO_BOOLEAN

Source = Literal[
    "none", "translated", "receiver", "random", "zero", "shuffled", "sender", "shuffled_sender"
]
Operator = Literal["add", "blend", "mean", "sum"]
Prompt = Literal["task", "relay", "question_only", "placeholder", "debate"]
"""What the receiver reads: context and question; a text that the sender wrote and the question;
the question alone; context and question with a placeholder for each token of the context; or, in
the last round of a debate, the question with both models' last answers."""

TEXT_PROMPTS: frozenset[Prompt] = frozenset({"relay", "debate"})
"""Prompts that hold what a model wrote before; they carry text, not states."""

PRIVATE_PROMPTS: frozenset[Prompt] = frozenset({"question_only", "placeholder"})
"""Prompts without the context, which the sender alone then reads."""

Positions = (
    Literal["all", "last", "question", "placeholder"]
    | Annotated[tuple[Annotated[int, NO_BOOLEAN], ...], Field(min_length=1)]
)
"""`all` prompt positions; the `last`; those of the `question`, that is the tokens at the end that
sender's and receiver's prompts share; those of the `placeholder` tokens; or explicit indices
(negative ones count from the end)."""

NAME = r"^[a-z0-9][a-z0-9_.-]*$"

SEEDED_SOURCES: frozenset[str] = frozenset({"translated", "random", "shuffled", "shuffled_sender"})
SENDER_SOURCES: frozenset[str] = frozenset({"translated", "shuffled", "sender", "shuffled_sender"})
SHUFFLED_SOURCES: frozenset[str] = frozenset({"shuffled", "shuffled_sender"})
RAW_SOURCES: frozenset[str] = frozenset({"sender", "shuffled_sender"})


class Condition(BaseModel):
    """One declared intervention; immutable, comparable, and written out in every result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=NAME, max_length=80)]
    source: Source
    """Where the injected state comes from; `shuffled` is another row's translated state,
    `shuffled_sender` another row's state as the sender has it."""
    operator: Operator = "blend"
    weight: Annotated[float, NO_BOOLEAN] = 1.0
    match_norm: bool = False
    """Rescale the source state to the L2 norm of the receiver's, per position."""
    positions: Positions = "all"
    """Prompt positions written."""
    source_positions: Positions = "all"
    """Prompt positions read; a single one is broadcast over all positions written, of several
    the first goes to the first that is written, as they are listed."""
    prompt: Prompt = "task"
    lone_rows: Literal["self", "drop", "nearest"] = "self"
    """For `shuffled`: a row whose prompt length nobody shares takes itself, is dropped, or takes
    a row of the nearest length (positions `last` or `question`, which lengths do not bind)."""
    align: Literal["equal", "last_dimensions"] = "equal"
    """For `sender`: widths must be equal, or the last min(width) dimensions line up."""
    translator: Annotated[str, Field(pattern=NAME, max_length=80)] | None = None
    """Which of the experiment's translators, where it has several sets of them."""
    rounds: Annotated[int, Field(ge=2, le=10), NO_BOOLEAN] = 2
    """Of a debate: how often each model answers."""

    @model_validator(mode="after")
    def _consistent(self) -> Condition:
        if self.source == "none" and self.operator_is_declared:
            raise ValueError("source none writes nothing, so it takes no operator or weight")
        if self.source == "none" and self.positions != "all":
            raise ValueError("source none writes nothing, so it takes no positions")
        if self.prompt in TEXT_PROMPTS and self.source != "none":
            raise ValueError(
                f"the {self.prompt} prompt goes with source none: it carries text, not states"
            )
        if self.rounds != 2 and self.prompt != "debate":
            raise ValueError(f"rounds goes with prompt: debate, not {self.prompt}")
        if self.operator in ("mean", "sum") and self.weight != 1.0:
            raise ValueError(f"operator {self.operator} has no weight; use add or blend")
        if self.lone_rows != "self" and not self.shuffled:
            raise ValueError(f"lone_rows: {self.lone_rows} goes with source shuffled")
        if self.lone_rows == "nearest" and self.source_positions not in ("last", "question"):
            raise ValueError(
                "lone_rows: nearest goes with source_positions last or question: prompts of two "
                "lengths do not meet position by position"
            )
        if self.translator is not None and not self.translates:
            raise ValueError(f"translator goes with source translated, not {self.source}")
        if self.align != "equal" and not self.raw:
            raise ValueError("align goes with source sender")
        self._check_named_positions()
        read, written = count(self.source_positions), count(self.positions)
        if self.source in ("zero", "random", "none"):
            if self.source_positions != "all":
                raise ValueError(f"source {self.source} has no source_positions")
        elif read not in (1, written):
            raise ValueError(
                f"{describe(self.source_positions)} read cannot be written at "
                f"{describe(self.positions)}: read as many positions as are written, or one"
            )
        return self

    def _check_named_positions(self) -> None:
        for positions in (self.positions, self.source_positions):
            if positions == "placeholder" and self.prompt != "placeholder":
                raise ValueError("placeholder positions go with prompt: placeholder")
            if positions == "question" and self.prompt not in PRIVATE_PROMPTS:
                raise ValueError("question positions go with prompt: question_only or placeholder")

    @property
    def private(self) -> bool:
        """Whether the receiver's prompt leaves the context out."""
        return self.prompt in PRIVATE_PROMPTS

    @property
    def operator_is_declared(self) -> bool:
        """Whether operator, weight or match_norm were given a value other than the default."""
        return (self.operator, self.weight, self.match_norm) != ("blend", 1.0, False)

    @property
    def seeded(self) -> bool:
        """Whether the condition differs between seeds (through a translator or a draw)."""
        return self.source in SEEDED_SOURCES

    @property
    def shuffled(self) -> bool:
        """Whether another row's state is written."""
        return self.source in SHUFFLED_SOURCES

    @property
    def raw(self) -> bool:
        """Whether the sender's state is written as it is."""
        return self.source in RAW_SOURCES

    @property
    def reads_sender(self) -> bool:
        """Whether the condition needs the sender's states."""
        return self.source in SENDER_SOURCES

    @property
    def translates(self) -> bool:
        """Whether the condition needs a translator."""
        return self.source in ("translated", "shuffled")


def count(positions: Positions) -> int | str:
    """Return how many positions are meant; the word itself where the prompt decides."""
    if positions == "last":
        return 1
    return positions if isinstance(positions, str) else len(positions)


def describe(positions: Positions) -> str:
    """Return the positions in words, for a message."""
    if isinstance(positions, str):
        return f"{positions} position{'' if positions == 'last' else 's'}"
    return f"positions {list(positions)}"
