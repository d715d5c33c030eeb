"""A condition as data: one point of the algebra of interventions.

With h the receiver's own state at the injection layer and s the source state, both
(batch, position, width), a condition writes at the chosen positions

    add     h + weight · s
    blend   weight · s + (1 − weight) · h
    mean    (s + h) / 2
    sum     s + h

where `match_norm` first rescales s to ‖h‖ at every position. The published conditions of
arXiv 2606.03280 and the methods of arXiv 2501.14082 are points of it (see
`statebridge.spec.presets`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["none", "translated", "receiver", "random", "zero", "shuffled", "sender"]
Operator = Literal["add", "blend", "mean", "sum"]
Prompt = Literal["task", "relay"]
Positions = Literal["all", "last"] | Annotated[tuple[int, ...], Field(min_length=1)]
"""`all` prompt positions, the `last`, or explicit indices (negative ones count from the end)."""

SEEDED_SOURCES: frozenset[str] = frozenset({"translated", "random", "shuffled"})
SENDER_SOURCES: frozenset[str] = frozenset({"translated", "shuffled", "sender"})


class Condition(BaseModel):
    """One declared intervention; immutable, comparable, and written out in every result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]
    source: Source
    """Where the injected state comes from; `shuffled` is another row's translated state."""
    operator: Operator = "blend"
    weight: float = 1.0
    match_norm: bool = False
    """Rescale the source state to the L2 norm of the receiver's, per position."""
    positions: Positions = "all"
    """Prompt positions written."""
    source_positions: Positions = "all"
    """Prompt positions read; a single one is broadcast over all positions written, of several
    the first goes to the first that is written, as they are listed."""
    prompt: Prompt = "task"
    lone_rows: Literal["self", "drop"] = "self"
    """For `shuffled`: a row whose prompt length nobody shares takes itself, or is dropped."""
    align: Literal["equal", "last_dimensions"] = "equal"
    """For `sender`: widths must be equal, or the last min(width) dimensions line up."""

    @model_validator(mode="after")
    def _consistent(self) -> Condition:
        if self.source == "none" and self.operator_is_declared:
            raise ValueError("source none writes nothing, so it takes no operator or weight")
        if self.source == "none" and self.positions != "all":
            raise ValueError("source none writes nothing, so it takes no positions")
        if self.prompt == "relay" and self.source != "none":
            raise ValueError("the relay prompt goes with source none: it carries text, not states")
        if self.operator in ("mean", "sum") and self.weight != 1.0:
            raise ValueError(f"operator {self.operator} has no weight; use add or blend")
        if self.lone_rows == "drop" and self.source != "shuffled":
            raise ValueError("lone_rows: drop goes with source shuffled")
        if self.align != "equal" and self.source != "sender":
            raise ValueError("align goes with source sender")
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

    @property
    def operator_is_declared(self) -> bool:
        """Whether operator, weight or match_norm were given a value other than the default."""
        return (self.operator, self.weight, self.match_norm) != ("blend", 1.0, False)

    @property
    def seeded(self) -> bool:
        """Whether the condition differs between seeds (through a translator or a draw)."""
        return self.source in SEEDED_SOURCES

    @property
    def reads_sender(self) -> bool:
        """Whether the condition needs the sender's states."""
        return self.source in SENDER_SOURCES

    @property
    def translates(self) -> bool:
        """Whether the condition needs a translator."""
        return self.source in ("translated", "shuffled")


def count(positions: Positions) -> int | None:
    """Return how many positions are meant; None for `all`."""
    if positions == "all":
        return None
    return 1 if positions == "last" else len(positions)


def describe(positions: Positions) -> str:
    """Return the positions in words, for a message."""
    if isinstance(positions, str):
        return f"{positions} position{'s' if positions == 'all' else ''}"
    return f"positions {list(positions)}"
