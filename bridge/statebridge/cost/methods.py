"""Costs of each way from one model to another, in operations.

Two accountings, each with and without a key-value cache. *Published* is that of arXiv
2501.14082: its F(n) (`statebridge.cost.flops`), and without a cache M tokens on a prompt of P
cost M·F(P). *Exact* counts matrix multiplications, logits at the last position only, and
without a cache lets the prompt grow by a token a step. With a cache, under both, T tokens
cost one pass over the prompt and T - 1 steps of one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from statebridge.cost.flops import (
    Accounting,
    exact_forward,
    exact_partial,
    published_forward,
    published_partial,
)
from statebridge.cost.shape import ModelShape
from statebridge.errors import InputError

Combination = Literal["replace", "sum", "mean", "learned"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens."""

    sender_prompt: int
    """Tokens that the sender reads, P of its passes."""
    receiver_prompt: int
    """Tokens that the receiver reads without a message, P of its passes."""
    answer: int
    """New tokens of the receiver, T."""
    message: int = 0
    """New tokens of a message in natural language, M."""
    skyline_prompt: int | None = None
    """Tokens that one model reads that sees both; None: the two prompts one after the other."""

    def __post_init__(self) -> None:
        """Refuse an empty prompt or answer, and negative lengths."""
        for name, least in (
            ("sender_prompt", 1),
            ("receiver_prompt", 1),
            ("answer", 1),
            ("message", 0),
            ("skyline_prompt", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"lengths: {name} is {value}; it must be {least} or more")


@dataclass(frozen=True, slots=True)
class MethodCost:
    """Operations of a method for one row."""

    sender: int
    receiver: int
    combination: int = 0
    """Operations of combining the two states."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.sender + self.receiver + self.combination


@dataclass(frozen=True, slots=True)
class Ledger:
    """One accounting, applied to a pair."""

    sender: ModelShape
    receiver: ModelShape
    accounting: Accounting = "exact"
    cache: bool = True

    def silent(self, lengths: Lengths) -> MethodCost:
        """The receiver alone, on its own prompt."""
        return MethodCost(0, self._generate(self.receiver, lengths.receiver_prompt, lengths.answer))

    def skyline(self, lengths: Lengths) -> MethodCost:
        """The receiver alone, on a prompt that holds everything."""
        prompt = lengths.skyline_prompt
        if prompt is None:
            prompt = lengths.sender_prompt + lengths.receiver_prompt
        return MethodCost(0, self._generate(self.receiver, prompt, lengths.answer))

    def text(self, lengths: Lengths) -> MethodCost:
        """One message: M·F(P) + T·F(P + M)."""
        return MethodCost(
            self._generate(self.sender, lengths.sender_prompt, lengths.message),
            self._generate(
                self.receiver, lengths.receiver_prompt + lengths.message, lengths.answer
            ),
        )

    def debate(self, lengths: Lengths, rounds: int = 2) -> MethodCost:
        """Two agents, `rounds` rounds: each turn sees all earlier rounds' messages.

        A turn is M tokens, the last round's T. In round r a prompt holds the own prompt and
        2(r - 1) messages, its own and the other's (arXiv 2305.14325).

        Raises:
            InputError: `rounds` is below 1.
        """
        if rounds < 1:
            raise InputError(f"debate: rounds is {rounds}; it must be 1 or more")
        totals = [0, 0]
        agents = (
            (self.sender, lengths.sender_prompt),
            (self.receiver, lengths.receiver_prompt),
        )
        for turn in range(rounds):
            new = lengths.answer if turn == rounds - 1 else lengths.message
            for agent, (shape, prompt) in enumerate(agents):
                totals[agent] += self._generate(shape, prompt + 2 * turn * lengths.message, new)
        return MethodCost(*totals)

    def activation(
        self, lengths: Lengths, layer: int, combination: Combination = "replace"
    ) -> MethodCost:
        """One partial pass of the sender, T·F(P), and the combination.

        The sender runs blocks 0 to `layer`. `replace` writes and computes nothing, `sum` adds
        D numbers, `mean` adds and halves them, `learned` is one product with a matrix of
        sender width by receiver width.

        Raises:
            InputError: The sender has no such block.
        """
        width = min(self.sender.width, self.receiver.width)
        operations = {
            "replace": 0,
            "sum": width,
            "mean": 2 * width,
            "learned": 2 * self.sender.width * self.receiver.width,
        }
        partial = published_partial if self.accounting == "published" else exact_partial
        return MethodCost(
            partial(self.sender, lengths.sender_prompt, layer),
            self._generate(self.receiver, lengths.receiver_prompt, lengths.answer),
            operations[combination],
        )

    def key_values(
        self,
        lengths: Lengths,
        positions: int,
        whole: int | None = None,
        *,
        latent_matrix: bool = False,
        before: int = 0,
    ) -> MethodCost:
        """One pass of all of the sender's blocks; the receiver generates behind its entries.

        The entries are there whether the receiver keeps those of its own tokens or not.

        Args:
            positions: Positions of the message, `lengths.message` latent steps included, each of
                which is one pass of one position.
            whole: Blocks of the receiver in which it has all positions; in the others it has one.
                None for all blocks.
            latent_matrix: Whether a matrix maps the state before each latent step.
            before: Positions of other senders' messages that the sender reads in front.
        """
        partial = published_partial if self.accounting == "published" else exact_partial
        prompt, last = lengths.sender_prompt, self.sender.layers - 1
        steps = (partial(self.sender, 1, last, before + prompt + i) for i in range(lengths.message))
        depth, new = self.receiver.layers, (lengths.receiver_prompt, lengths.answer)
        all_whole = self._generate(self.receiver, *new, positions)
        none_whole = self._generate(self.receiver, *new, min(1, positions))
        # Both counts are linear in the positions of each block.
        more = (all_whole - none_whole) * (depth if whole is None else whole) // depth
        maps = 2 * self.sender.width**2 * lengths.message * latent_matrix
        own = partial(self.sender, prompt, last, before) + sum(steps) + maps
        return MethodCost(own, none_whole + more)

    def soft_tokens(
        self,
        lengths: Lengths,
        positions: int,
        *,
        written: bool,
        before: int = 0,
        readers: Sequence[ModelShape] | None = None,
    ) -> MethodCost:
        """Mixtures of input vectors, which the receiver reads in front of its prompt.

        Each is one product of probabilities with the receiver's table. The tokens that two
        vocabularies share are not known here; the smaller vocabulary bounds them.

        Args:
            positions: Vectors that are sent.
            written: Whether the sender writes them one after the other (it then also mixes its own
                vectors and looks for the nearest), and not at the positions of its prompt.
            before: Vectors of other senders, which the sender reads in front of its prompt.
            readers: Models for which they are mixed; None for the receiver alone.
        """
        partial = published_partial if self.accounting == "published" else exact_partial
        shape, prompt = self.sender, lengths.sender_prompt
        mixing = sum(
            2 * positions * min(shape.vocabulary, reader.vocabulary) * reader.width
            for reader in readers or (self.receiver,)
        )
        if written:
            own = self._generate(shape, before + prompt, positions)
            own += 4 * positions * shape.vocabulary * shape.width
        else:
            own = partial(shape, before + prompt, shape.layers - 1)
            own += 2 * positions * shape.vocabulary * shape.width
        read = self._generate(self.receiver, positions + lengths.receiver_prompt, lengths.answer)
        return MethodCost(own, read, mixing)

    def fused(self, lengths: Lengths) -> MethodCost:
        """Both models read their prompts whole; the fuser's own operations are a `MapCost`."""
        partial = published_partial if self.accounting == "published" else exact_partial
        sent = partial(self.sender, lengths.sender_prompt, self.sender.layers - 1)
        return MethodCost(
            sent, self._generate(self.receiver, lengths.receiver_prompt, lengths.answer)
        )

    def resampled(self, lengths: Lengths, layer: int, vectors: int) -> MethodCost:
        """One partial pass of the sender; the receiver reads vectors in front of its prompt.

        The resampler's own operations are a `MapCost`.
        """
        partial = published_partial if self.accounting == "published" else exact_partial
        read = self._generate(self.receiver, vectors + lengths.receiver_prompt, lengths.answer)
        return MethodCost(partial(self.sender, lengths.sender_prompt, layer), read)

    def _generate(self, shape: ModelShape, prompt: int, new: int, past: int = 0) -> int:
        """Operations of new tokens after a prompt that has `past` positions in front of it."""
        forward = published_forward if self.accounting == "published" else exact_forward
        if not new:
            return 0
        if self.cache:
            steps = (forward(shape, 1, past + prompt + done) for done in range(new - 1))
            return forward(shape, prompt, past) + sum(steps)
        if self.accounting == "published":
            return new * forward(shape, prompt, past)
        return sum(forward(shape, prompt + done, past) for done in range(new))


@dataclass(frozen=True, slots=True)
class ComputeRatio:
    """Cost of sending activations over that of a text baseline."""

    accounting: Accounting
    cache: bool
    baseline: Literal["text", "debate"]
    activation: int
    """Operations."""
    other: int
    """Operations of the baseline."""

    @property
    def ratio(self) -> float:
        """Below 0.25: "less than a quarter of the compute"."""
        return self.activation / self.other


def compute_ratios(
    sender: ModelShape,
    receiver: ModelShape,
    lengths: Lengths,
    layer: int,
    *,
    rounds: int = 2,
) -> list[ComputeRatio]:
    """Return activation against text and debate, under both accountings, cached and not.

    Raises:
        InputError: The message is empty, the sender has no such block, or `rounds` is below 1.
    """
    if lengths.message < 1:
        raise InputError("compute ratios: lengths.message is 0; a text baseline needs a message")
    found = []
    accountings: tuple[Accounting, ...] = ("published", "exact")
    for accounting in accountings:
        for cache in (False, True):
            ledger = Ledger(sender, receiver, accounting, cache)
            own = ledger.activation(lengths, layer).total
            text, debate = ledger.text(lengths).total, ledger.debate(lengths, rounds).total
            found.append(ComputeRatio(accounting, cache, "text", own, text))
            found.append(ComputeRatio(accounting, cache, "debate", own, debate))
    return found
