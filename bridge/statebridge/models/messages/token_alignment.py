"""A text in a receiver's tokens, as as many tokens of a sender: the step before caches are fused.

Source: C2C (arXiv 2510.03215), which writes each token of the receiver alone as tokens of the
sender and keeps one of them. What the sender then reads is a distorted text wherever a token is
not one of its own, so the share of tokens that are is stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from statebridge.errors import PairError
from statebridge.models.messages.shared_tokens import tokens_by_text
from statebridge.models.traced_model import TracedModel

Alignment = Literal["ids", "first", "longest"]

ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
"""Tokens of a special meaning, which both models have each under a name of its own."""


class TokenAlignment:
    """Aligns texts of one pair.

    Args:
        by: `ids` gives the sender the receiver's ids, where none is another token of its own;
            `first` and `longest` write each token's text with the sender's tokenizer, and keep the
            first token or the one of the longest text.
    """

    def __init__(self, sender: TracedModel, receiver: TracedModel, by: Alignment) -> None:
        self._sender, self._receiver, self._by = sender, receiver, by
        self._found: dict[int, tuple[int, bool]] = {}
        self._of_sender: dict[bytes, int] = {}
        self._of_receiver: dict[int, bytes] = {}
        if by != "ids":
            self._of_sender = tokens_by_text(sender)
            texts = tokens_by_text(receiver)
            self._of_receiver = {token: text for text, token in texts.items()}

    def ids(self, received: Sequence[int]) -> tuple[int, ...]:
        """Return the sender's tokens for the receiver's, one for each.

        Raises:
            PairError: The sender has no such token, or another one under its id.
        """
        return tuple(self._of(token)[0] for token in received)

    def one_to_one(self, received: Sequence[int]) -> float:
        """Return the share of the receiver's tokens that are tokens of the sender too."""
        return sum(self._of(token)[1] for token in received) / len(received)

    def _of(self, token: int) -> tuple[int, bool]:
        if token not in self._found:
            self._found[token] = self._by_id(token) if self._by == "ids" else self._by_text(token)
        return self._found[token]

    def _by_id(self, token: int) -> tuple[int, bool]:
        sender, receiver = self._sender, self._receiver
        if token >= int(sender.module.config.get_text_config().vocab_size):
            raise PairError(
                f"align_tokens: ids: {sender.name} has no token {token} of {receiver.name}; use "
                "align_tokens: first or longest"
            )
        sides = (sender.tokenizer, receiver.tokenizer)
        ours, theirs = (side.convert_ids_to_tokens(token) for side in sides)
        if ours is not None and ours != theirs:
            raise PairError(
                f"align_tokens: ids: token {token} is {theirs!r} for {receiver.name} and {ours!r} "
                f"for {sender.name}; use align_tokens: first or longest"
            )
        return token, ours == theirs

    def _by_text(self, token: int) -> tuple[int, bool]:
        for role in ROLES:
            ours = getattr(self._sender.tokenizer, role)
            if token == getattr(self._receiver.tokenizer, role) and ours is not None:
                return int(ours), True
        text = self._of_receiver.get(token)
        if text in self._of_sender:
            return self._of_sender[text], True
        tokenizer: Any = self._sender.tokenizer
        # A part of a character is no text of its own, and becomes the sign for an unknown one.
        written = self._receiver.tokenizer.decode([token])
        made = tokenizer(written, add_special_tokens=False)["input_ids"]
        if not made:
            raise PairError(
                f"align_tokens: {self._by}: {self._sender.name} has no token for token {token} of "
                f"{self._receiver.name} ({written!r})"
            )
        if self._by == "first":
            return int(made[0]), False
        # Of several of one length the first.
        return int(max(made, key=lambda each: len(tokenizer.decode([each])))), False
