"""Declarations of a message: what is in front of the receiver's prompt."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from statebridge.experiment.declared import NO_BOOLEAN
from statebridge.experiment.prompting import check_read, placeholders


class LayerShare(BaseModel):
    """A share of the layers, chosen by a rule (arXiv 2510.03346, whose symbols these are).

    Layers that are not chosen keep the first key and value only; layer 0 is always whole.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    share: Annotated[float, Field(gt=0, le=1), NO_BOOLEAN] = 0.3
    """int(share · layers) are chosen."""
    by: Literal["importance", "random", "middle"] = "importance"
    """`importance`: the attention that the receiver's prompts give to the message; `random`: drawn
    by the seed; `middle`: those in the middle of the depth."""
    rows: Annotated[int, Field(ge=1), NO_BOOLEAN] = 16
    """Most rows on which importance is measured."""
    held_out: bool = True
    """Measure importance on rows that are then left out of the condition. False measures it on the
    first rows, which are evaluated as well: the method as published."""
    alpha: Annotated[float, Field(ge=0, le=1), NO_BOOLEAN] = 1.0
    """Weight of importance; the rest is that of a Gaussian over depth."""
    mu: Annotated[float, Field(ge=0, le=1), NO_BOOLEAN] = 0.5
    """Centre of the Gaussian, as a share of the depth."""
    sigma: Annotated[float, Field(gt=0), NO_BOOLEAN] = 10.0
    """Width of the Gaussian, in layers."""


class Rollout(BaseModel):
    """Latent steps of the sender behind its prompt (LatentMAS, arXiv 2511.20639).

    In each step the last position's state after the final norm becomes the next input vector, at
    the mean norm of the input embedding.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    steps: Annotated[int, Field(ge=0, le=1000), NO_BOOLEAN] = 10
    by: Literal["realigned", "identity", "random"] = "realigned"
    """Map from the state to the input vector: least squares from output to input embedding; none;
    or, drawn by the seed, a random matrix with the singular values of the first."""
    keep: Literal["both", "latents"] = "both"
    """Entries that are sent: those of prompt and latent steps, or of the latent steps alone."""


class Fusing(BaseModel):
    """How a sharer's cache is fused into the receiver's own (C2C, arXiv 2510.03215).

    The receiver's entries t of its prompt but for the last token become t + g · sigmoid(w) · P; w
    and P are a fuser's outputs for t and for the sharer's entries of the same tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gates: Literal["learned", "open", "shut"] = "learned"
    """g: 1 where a learned gate is open; 1 everywhere; or 0 everywhere, which changes nothing."""
    sharer: Literal["sender", "zero", "receiver"] = "sender"
    """Entries that are fused: the sender's; zeros, or the receiver's own, as controls."""
    align_tokens: Literal["ids", "first", "longest"] = "ids"
    """Tokens that the sender reads: the receiver's ids; or for each of the receiver's tokens one of
    its own, of those that it writes the same text with the `first`, or the one of the `longest`
    text."""

    @property
    def carries(self) -> bool:
        """Whether what is fused can hold something that the sender read."""
        return self.sharer == "sender" and self.gates != "shut"


Reader = Literal["sender", "receiver"]
"""The model of the pair that has a turn as one of several senders."""


class Readers(NamedTuple):
    """Prompts that several senders read in a round."""

    sides: tuple[Reader, ...]
    """The model of each."""
    whole: bool
    """Whether each reads the whole context."""
    templates: tuple[str, ...] | None


def _of_the_pair(models: object) -> object:
    if models not in ("sender", "pair"):
        raise ValueError(
            "give sender, or pair for both models in turn; a run holds two models, so a third one "
            "cannot be a sender"
        )
    return models


class Senders(BaseModel):
    """Several senders in front of one receiver: the pair's sender, or both of its models in turn.

    All know the question. What they send is appended in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Annotated[int, Field(ge=2, le=16), NO_BOOLEAN] = 2
    topology: Literal["hierarchy", "chain"] = "hierarchy"
    """`hierarchy`: each sender reads its part alone, and the receiver reads all messages; `chain`:
    each sender reads its part behind the messages of those before it (both arXiv 2511.20639)."""
    rounds: Annotated[int, Field(ge=1, le=8), NO_BOOLEAN] = 1
    """For `chain`: how often each sender has its turn. Above 1 a chain is a debate."""
    passes: Literal["all", "last"] = "all"
    """For `chain`: what the next sender, and the receiver at the end, reads in front of its prompt:
    all messages before, or the last one alone."""
    models: Annotated[Literal["sender", "pair"], BeforeValidator(_of_the_pair)] = "sender"
    """`sender`: all are the pair's sender; `pair`: the pair's sender and the receiver's model, each
    in its turn with a part of its own."""

    context: Literal["dealt", "whole"] = "dealt"
    """`dealt`: the sentences of a row's context are dealt out among the senders in order, as evenly
    as may be (its words where it has fewer sentences); `whole`: each reads all of it."""
    templates: tuple[str, ...] | None = None
    """Prompt of each sender, with {context} and {question}, in place of the sender's template."""

    @property
    def sides(self) -> tuple[Reader, ...]:
        """The model that has each turn, in order."""
        return self.readers.sides * self.rounds

    @property
    def readers(self) -> Readers:
        """Models that read, turn by turn, in a round."""
        both: tuple[Reader, ...] = ("sender", "receiver" if self.models == "pair" else "sender")
        sides = tuple(both[place % 2] for place in range(self.count))
        return Readers(sides, self.context == "whole", self.templates)

    @field_validator("templates")
    @classmethod
    def _known_fields(cls, templates: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for template in templates or ():
            check_read(placeholders(template, ("context", "question")))
        return templates

    @model_validator(mode="after")
    def _of_one_kind(self) -> Senders:
        if self.rounds > 1 and self.topology != "chain":
            raise ValueError(
                "rounds goes with topology: chain; in a hierarchy no sender reads another"
            )
        if self.passes == "last" and self.topology != "chain":
            raise ValueError("passes: last goes with topology: chain")
        if self.templates is not None and len(self.templates) != self.count:
            raise ValueError(
                f"templates: {len(self.templates)} for {self.count} senders; give one for each, or "
                "none"
            )
        return self

    def check_message(self, layers: Layers | None, deltas: Deltas | None) -> None:
        """Refuse what several senders cannot send.

        Raises:
            ValueError: States what would be right.
        """
        if deltas is not None:
            raise ValueError("senders goes without deltas; leave one of the two out")
        if self.topology == "chain" and layers not in (None, "all"):
            raise ValueError(
                "senders in a chain read all layers of each other; leave layers out, or use "
                "topology: hierarchy"
            )


class Deltas(BaseModel):
    """State deltas on the sender's text (SDE, arXiv 2506.19209).

    At token i of the text, the sender's output of a layer less its output at the token before, is
    added to the receiver's output of the same layer. The token before the first is the last of the
    prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    layers: Annotated[tuple[Annotated[int, NO_BOOLEAN], ...], Field(min_length=1, max_length=3)]
    """One to three layers, the same in both models; negative ones count from the end."""
    last: Literal["residual", "final"] = "residual"
    """State of the sender's last layer that is read: its output, or the one after the final norm,
    as in the published code. Either is added to the receiver's output of the same layer."""
    of: Literal["differences", "states", "random"] = "differences"
    """`states` adds the states themselves; `random` noise of each difference's norm, drawn by the
    seed."""

    @property
    def passes(self) -> int:
        """Passes of the sender over its text: outputs of blocks, and states after the norm."""
        return 2 if self.last == "final" and len(self.layers) > 1 else 1


Filling = Literal["random", "zero"]
"""Noise or zeros in place of a message."""

FILLING_HINTS = {
    source: f"; for {source} messages set filled_with: {source}" for source in get_args(Filling)
}
"""The right field, by a source that sends no message."""


class SoftTokens(BaseModel):
    """Vectors that the receiver reads in place of tokens: mixtures of its input vectors.

    `vocab` mixes, at each position of the sender's prompt that is read, the tokens that both
    vocabularies have by the sender's probabilities of the next token, and rescales to the mean
    norm of the receiver's input vectors. `cipher` (arXiv 2310.06272) lets the sender write: at each
    step the mixture is read next, in place of a token, until the nearest token by cosine is an end
    token. `resampler` gives the outputs of a trained map of that kind. `text` is the
    sender's greedy text, token by token, of one vocabulary; `deltas` of its states may be on it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    by: Literal["vocab", "cipher", "resampler", "text"]
    temperature: Annotated[float, Field(gt=0), NO_BOOLEAN] = 1.0
    """Divides the logits before the softmax; near 0 a vector is that of the likeliest token."""
    steps: Annotated[int, Field(ge=1, le=1000), NO_BOOLEAN] | None = None
    """For `cipher` and `text`: most vectors; 24 by default."""
    embedding: Literal["receiver", "sender"] = "receiver"
    """For `cipher`: whose input vectors the receiver gets mixtures of."""
    deltas: Deltas | None = None
    """For `text`: what is added at the text's tokens. A shuffled source then adds another row's, on
    the row's own text."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> SoftTokens:
        if self.by in ("resampler", "text") and self.temperature != 1.0:
            raise ValueError("temperature goes with by: vocab or by: cipher")
        if self.deltas is not None and self.by != "text":
            raise ValueError("deltas goes with by: text")
        steps = self.steps is not None and self.by != "text"
        if self.by != "cipher" and (steps or self.embedding != "receiver"):
            raise ValueError("steps and embedding go with by: cipher (steps with by: text too)")
        return self

    def check_filling(self) -> None:
        """Refuse noise and zeros in place of tokens.

        Raises:
            ValueError: States what would be right.
        """
        if self.by == "text":
            raise ValueError(
                "filled_with does not go with soft_tokens by text, because a token's id has no "
                "norm; use a shuffled source, sender_context: neutral, or deltas: {of: random}"
            )

    @property
    def most(self) -> int:
        """Most vectors that the sender writes."""
        return self.steps or 24


Layers = (
    Literal["all"]
    | Annotated[tuple[Annotated[int, NO_BOOLEAN], ...], Field(min_length=1)]
    | LayerShare
)
"""`all` layers, a list of indices (negative ones count from the end), or a share by a rule."""
