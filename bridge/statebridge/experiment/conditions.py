"""A condition as data: one point of the algebra of interventions.

With h the receiver's own state at the injection layer and s the source state, both
(batch, position, width), a condition writes at the chosen positions

    add     h + weight · s
    blend   weight · s + (1 − weight) · h
    mean    (s + h) / 2
    sum     s + h

or, at the sites of keys and values and of input vectors,

    append  the message in front of the receiver's prompt, at positions of its own
    fuse    the receiver's own keys and values, changed by a fuser that reads the sender's

where `match_norm` first rescales s to ‖h‖ at every position. The published conditions of
arXiv 2606.03280 and the methods of arXiv 2501.14082 are points of it (see
`statebridge.experiment.presets`).

What the receiver reads decides the setting. With the `task` prompt it sees the whole context
(the shared setting of arXiv 2606.03280); with `question_only` or `placeholder` the context is
private to the sender, as in arXiv 2501.14082.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from statebridge.experiment.declared import NO_BOOLEAN, NameIn
from statebridge.experiment.message import (
    FILLING_HINTS,
    Deltas,
    Filling,
    Fusing,
    Layers,
    LayerShare,
    Rollout,
    Senders,
    SoftTokens,
)
from statebridge.experiment.positions import Positions, count, describe
from statebridge.experiment.sources import SOURCES, Source
from statebridge.experiment.state_file import StateFile
from statebridge.experiment.translator_settings import FUSER_KIND, KEY_VALUE_KIND, RESAMPLER_KIND

Operator = Literal["add", "blend", "mean", "sum", "append", "fuse"]
Site = Literal["residual", "kv", "embedding"]
CHANNEL_OF_SITE: dict[Site | None, str] = {"kv": "kv", "embedding": "soft_tokens"}
Prompt = Literal["task", "relay", "question_only", "placeholder", "debate"]
"""Prompt of the receiver: context and question; a text that the sender wrote and the question;
the question alone; context and question with a placeholder for each token of the context; or, in
the last round of a debate, the question with both models' last answers."""

TEXT_PROMPTS: frozenset[Prompt] = frozenset({"relay", "debate"})
"""Prompts that hold what a model wrote before; they carry text, not states."""

PRIVATE_PROMPTS: frozenset[Prompt] = frozenset({"question_only", "placeholder"})
"""Prompts without the context, which the sender alone then reads."""

SenderContext = Literal["empty", "neutral"]
"""Context that the sender reads in place of the row's own: an `empty` one (the *null* control), or
a `neutral` text of as many tokens, which says nothing of any row. The question stays."""

Role = Literal["baseline", "text", "channel", "self", "control", "unknown"]
"""`baseline` writes nothing; `text` gives the receiver text that a model wrote; `channel` carries
the sender's states; `self` writes back the receiver's own state; `control` writes what holds
nothing of the row that the sender read; `unknown` is a condition of which the name alone is known.
"""

NAME = r"^[a-z0-9][a-z0-9_.-]*$"


SourceName = Annotated[str, NameIn(SOURCES)]
"""Name of a registered source; `statebridge.experiment.sources`."""


class Condition(BaseModel):
    """One declared intervention; immutable, comparable, and written out in every result."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(pattern=NAME, max_length=80)]
    source: SourceName
    """The content that is written; `shuffled` is another row's translated state,
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
    sender_context: SenderContext | None = None
    """For `translated` and `sender`: context that the sender reads in place of the row's. What is
    sent passes the same map, and says nothing of the row's context."""
    lone_rows: Literal["self", "drop", "nearest"] = "self"
    """For `shuffled`: a row whose prompt length nobody shares takes itself, is dropped, or takes
    a row of the nearest length (positions `last` or `question`, which lengths do not bind)."""
    align: Literal["equal", "last_dimensions"] = "equal"
    """For `sender`: widths must be equal, or the last min(width) dimensions line up."""
    state_file: StateFile | None = None
    """For `file`: the vector that is written at each position."""
    translator: Annotated[str, Field(pattern=NAME, max_length=80)] | None = None
    """Which of the experiment's translators, where it has several sets of them."""
    rounds: Annotated[int, Field(ge=2, le=10), NO_BOOLEAN] = 2
    """Number of answers that each model gives in a debate."""
    channel: Annotated[str, Field(pattern=NAME, max_length=80)] | None = None
    """Name of the channel; by default that of the site, and `text` where the prompt holds text."""
    site: Site | None = None
    """Where is read and written: the output of a block (`residual`, the default), the keys and
    values of all blocks (`kv`), or the input vectors (`embedding`)."""
    layers: Layers | None = None
    """For site `kv`: the layers that the message has; all by default."""
    reposition: Literal["keep", "rotate"] | None = None
    """For site `kv`: `keep`, the default, leaves keys as the sender rotated them; `rotate` moves
    latent steps that are sent alone, and the messages of several senders, to positions from 0 on,
    one behind the other. The receiver's tokens take as many positions further on as the message
    has."""
    rollout: Rollout | None = None
    """For site `kv`: latent steps of the sender, whose keys and values are sent too."""
    soft_tokens: SoftTokens | None = None
    """For site `embedding`: how the vectors are made."""
    fuse: Fusing | None = None
    """For operator `fuse`: gates, whose entries, and which tokens the sender reads."""
    filled_with: Filling | None = None
    """For operator `append`, a control: what is sent in place of the row's own message, at as many
    positions. `random`: noise with the norm of each entry (of a key or value in each head, or of a
    vector), drawn by the seed; `zero`: zeros."""
    senders: Senders | None = None
    """For operator `append`: several senders, each of which reads a part of the context."""

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
        self._check_whose()
        self._check_filling()
        self._check_site()
        self._check_senders()
        self._check_named_positions()
        read, written = count(self.source_positions), count(self.positions)
        if not self.source_facts.reads_positions:
            if self.source_positions != "all":
                raise ValueError(f"source {self.source} has no source_positions")
        elif self.operator != "append" and read not in (1, written):
            raise ValueError(
                f"{describe(self.source_positions)} read cannot be written at "
                f"{describe(self.positions)}: read as many positions as are written, or one"
            )
        return self

    def _check_whose(self) -> None:
        """Refuse fields that do not go with whose content the source sends."""
        if self.fuse is not None and self.operator != "fuse":
            raise ValueError("fuse goes with operator: fuse")
        if (self.source == "file") != (self.state_file is not None):
            raise ValueError("source file takes state_file: {path: VECTOR.npy}, and no other does")
        if self.lone_rows != "self" and not self.shuffled:
            raise ValueError(f"lone_rows: {self.lone_rows} goes with source shuffled")
        single = self.source_positions in ("last", "question")
        if self.lone_rows == "nearest" and not single and self.operator != "append":
            raise ValueError(
                "lone_rows: nearest goes with source_positions last or question: prompts of two "
                "lengths do not meet position by position"
            )
        if self.sender_context is not None and (self.shuffled or not self.reads_sender):
            raise ValueError(
                f"sender_context goes with a source that sends the row's own states (translated, "
                f"sender), not {self.source}"
            )
        if self.translator is not None and not self.translates:
            raise ValueError(f"translator goes with source translated, not {self.source}")
        if self.align != "equal" and not self.raw:
            raise ValueError("align goes with source sender")

    def _check_site(self) -> None:
        """Refuse fields that do not go with where the condition writes."""
        of_site: dict[str, tuple[Site, Any]] = {
            "layers": ("kv", self.layers),
            "reposition": ("kv", self.reposition),
            "rollout": ("kv", self.rollout),
            "soft_tokens": ("embedding", self.soft_tokens),
        }
        for name, (site, value) in of_site.items():
            if value is not None and self.site != site:
                raise ValueError(f"{name} goes with site: {site}")
        if self.source_facts.of_map and (self.site != "kv" or self.rollout is not None):
            raise ValueError(f"source {self.source} goes with site: kv, and without rollout")
        if self.site not in CHANNEL_OF_SITE:
            if self.sends_message:
                sites = "kv" if self.operator == "fuse" else "kv or embedding"
                raise ValueError(f"{self.operator} goes with site: {sites}")
            return
        if self.operator == "fuse":
            self._check_fuse()
            return
        if self.operator != "append" or self.weight != 1.0 or self.match_norm:
            raise ValueError(
                f"site {self.site} takes operator: append, and no weight or match_norm"
            )
        soft = self.soft_tokens
        mapped = self.translates and self.reads_sender
        learned = soft is not None and soft.by == "resampler"
        if not (mapped if learned else self.raw or (mapped and self.site == "kv")):
            among = "sender, shuffled_sender, translated or shuffled"
            among = "sender or shuffled_sender" if self.site != "kv" else among
            among = "translated or shuffled" if learned else among
            raise ValueError(
                f"site {self.site} sends what the sender has; use source {among}, not {self.source}"
                f"{FILLING_HINTS.get(self.source, '')}"
            )
        if self.site == "embedding":
            self._check_soft_tokens()
        elif self.source_positions != "all":
            raise ValueError(
                "site kv sends all positions of the sender's prompt; leave source_positions out"
            )
        if (self.positions, self.align) != ("all", "equal"):
            raise ValueError(
                f"site {self.site} has positions of its own in front of the receiver's prompt; "
                "leave positions and align out"
            )
        alone = self.rollout is not None and self.rollout.keep == "latents"
        apart = self.senders is not None and self.senders.topology == "hierarchy"
        if self.reposition == "rotate" and not (alone or apart):
            raise ValueError(
                "reposition: rotate goes with rollout: {keep: latents} or senders in a hierarchy; "
                "every other message begins at position 0 as it is"
            )

    def _check_senders(self) -> None:
        """Refuse several senders where what they send cannot be appended in order."""
        if self.senders is None:
            return
        if self.operator != "append" or not self.raw:
            raise ValueError(
                "senders goes with operator: append and source sender or shuffled_sender: a map or "
                "fuser is made for one sender's message, and states of two would meet at one place"
            )
        self.senders.check_message(self.layers, self.deltas)

    def _check_filling(self) -> None:
        """Refuse noise and zeros where no message of the row's own can be filled with them."""
        if self.filled_with is None:
            return
        if self.operator != "append":
            right = "fuse: {sharer: zero}" if self.operator == "fuse" else "source random or zero"
            raise ValueError(f"filled_with goes with operator: append; here use {right}")
        if self.shuffled or self.source_facts.of_map or self.sender_context is not None:
            raise ValueError(
                "filled_with replaces the row's own message; use source sender or translated, and "
                "no sender_context"
            )
        if self.soft_tokens is not None:
            self.soft_tokens.check_filling()

    def _check_fuse(self) -> None:
        if self.site != "kv" or self.weight != 1.0 or self.match_norm:
            raise ValueError("operator fuse takes site: kv, and no weight or match_norm")
        if not (self.translates and self.reads_sender) or self.source_facts.of_map:
            raise ValueError(
                f"operator fuse takes source translated or shuffled, not {self.source}; for a "
                "sharer of zeros, or the receiver as its own, set fuse: {sharer: ...}"
            )
        if self.shuffled and self.fuse is not None and not self.fuse.carries:
            raise ValueError("source shuffled goes with fuse: {sharer: sender} and gates not shut")
        for name in ("layers", "reposition", "rollout"):
            if getattr(self, name) is not None:
                raise ValueError(f"operator fuse takes no {name}; leave it out")
        if self.align != "equal":
            raise ValueError("operator fuse takes no align; leave it out")
        aligned = ("question",) if self.prompt == "question_only" else ("all", "question")
        if self.positions != self.source_positions or self.positions not in aligned:
            raise ValueError(
                f"operator fuse with prompt {self.prompt} takes positions and source_positions "
                f"{' or '.join(aligned)}, the same for both: entries meet token by token"
            )

    def _check_soft_tokens(self) -> None:
        if self.soft_tokens is None:
            raise ValueError(
                "site embedding takes soft_tokens: {by: vocab}, {by: cipher} or {by: resampler}"
            )
        read = ("all", "last") if self.soft_tokens.by == "vocab" else ("all",)
        if self.source_positions not in read:
            raise ValueError(
                f"soft_tokens by {self.soft_tokens.by} takes source_positions {' or '.join(read)}"
            )

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
    def channel_name(self) -> str:
        """Name of the channel that carries the condition."""
        by_site = CHANNEL_OF_SITE.get(self.site, "states")
        by_site = "fused" if self.operator == "fuse" else by_site
        return self.channel or ("text" if self.uses_text else by_site)

    @property
    def source_facts(self) -> type[Source]:
        """The registered source, with what is declared of it."""
        return SOURCES.get(self.source)

    @property
    def seeded(self) -> bool:
        """Whether the condition differs between seeds (through a translator or a draw)."""
        drawn = isinstance(self.layers, LayerShare) and self.layers.by == "random"
        return self.source_facts.seeded or drawn or self.message_seeded or self.latent_seeded

    @property
    def message_seeded(self) -> bool:
        """Whether the message, or what is added on it, is noise that is drawn by the seed."""
        deltas = self.deltas is not None and self.deltas.of == "random"
        return deltas or self.filled_with == "random"

    @property
    def latent_seeded(self) -> bool:
        """Whether the map of latent steps is drawn by the seed."""
        return self.rollout is not None and self.rollout.by == "random"

    @property
    def shuffled(self) -> bool:
        """Whether another row's state is written."""
        return self.source_facts.shuffled

    @property
    def raw(self) -> bool:
        """Whether the sender's state is written as it is."""
        return self.reads_sender and not self.translates

    @property
    def reads_sender(self) -> bool:
        """Whether the condition needs the sender's states."""
        return self.source_facts.reads_sender

    @property
    def translates(self) -> bool:
        """Whether the condition needs a translator."""
        return self.source_facts.translates

    @property
    def draws_noise(self) -> bool:
        """Whether the condition uses the random draws of a seed."""
        return self.source_facts.draws_noise

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is written and the prompt holds no model's text (`no_inject`, ...)."""
        return not self.writes and not self.uses_text

    @property
    def uses_text(self) -> bool:
        """Whether the receiver's prompt holds text that a model wrote before."""
        return self.prompt in TEXT_PROMPTS

    @property
    def writes(self) -> bool:
        """Whether states are written into the receiver."""
        return self.source_facts.writes

    @property
    def carries_sender(self) -> bool:
        """Whether what is written are the sender's states of the row itself."""
        fused = self.fuse is None or self.fuse.carries
        drawn = self.deltas is not None and self.deltas.of == "random"
        own = self.source_facts.role == "channel" and self.sender_context is None
        own = own and self.filled_with is None
        return own and fused and not drawn

    @property
    def deltas(self) -> Deltas | None:
        """Additions at the tokens of a text that is sent."""
        return None if self.soft_tokens is None else self.soft_tokens.deltas

    @property
    def sends_message(self) -> bool:
        """Whether keys and values, or vectors, are sent, and not states of one layer."""
        return self.operator in ("append", "fuse")

    @property
    def map_kind(self) -> str | None:
        """Kind of the map that the condition needs: of a message; None for any map of states."""
        if self.operator == "fuse":
            return FUSER_KIND
        return {"kv": KEY_VALUE_KIND, "embedding": RESAMPLER_KIND}.get(self.site or "")

    @property
    def writes_own_state(self) -> bool:
        """Whether what is written is, bit for bit, the receiver's own state.

        The self-injection is; so is any condition of weight 0 (h + 0 · s, 0 · s + 1 · h).
        """
        if not self.writes:
            return False
        if self.operator in ("add", "blend") and self.weight == 0.0:
            return True
        return (
            self.source_facts.role == "self"
            and self.operator == "blend"
            and self.weight == 1.0
            and not self.match_norm  # rescaling rounds
            and self.positions == self.source_positions
        )

    @property
    def role(self) -> Role:
        """The part that the condition has in an experiment."""
        if not self.writes:
            return "text" if self.uses_text else "baseline"
        if self.writes_own_state:
            return "self"
        return "channel" if self.carries_sender else "control"

    def same_but(self, other: DeclaredCondition, *ignored: str) -> bool:
        """Whether another condition has the same fields, leaving out its name and `ignored`."""
        left_out = {"name", *ignored}
        return isinstance(other, Condition) and self.model_dump(
            exclude=left_out
        ) == other.model_dump(exclude=left_out)

    def is_shuffled_twin(self, other: DeclaredCondition) -> bool:
        """Whether `other` writes another row's state where this one writes the row's own.

        What this condition does better is due to the content of the row itself.
        """
        return (
            self.carries_sender
            and isinstance(other, Condition)
            # Of several runs that are compared, both of one.
            and self.name.partition("@")[2] == other.name.partition("@")[2]
            and other.shuffled
            and other.raw == self.raw
            and self.same_but(other, "source", "lone_rows")
        )


@dataclass(frozen=True, slots=True)
class UnknownCondition:
    """A condition of which the name alone is known here, and the prompt where a run states it.

    A published file has no more; a run may use a source that is not installed here. It is taken
    to write something, of unknown content, under the task prompt unless another one is given.
    """

    name: str
    prompt: Prompt = "task"
    role: ClassVar[Role] = "unknown"
    source: ClassVar[None] = None
    lone_rows: ClassVar[None] = None
    reads_sender: ClassVar[bool] = False
    writes: ClassVar[bool] = True
    is_baseline: ClassVar[bool] = False
    uses_text: ClassVar[bool] = False
    carries_sender: ClassVar[bool] = False
    writes_own_state: ClassVar[bool] = False

    @property
    def private(self) -> bool:
        """Whether the receiver does not read the context."""
        return self.prompt in PRIVATE_PROMPTS


DeclaredCondition = Condition | UnknownCondition
"""Declaration that a cell has of its condition."""
