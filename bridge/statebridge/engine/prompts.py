"""Prompts as token ids, for both models, and the gold answers that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from statebridge.errors import PairError
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.results.table import DatasetRow
from statebridge.spec.experiment import Decoding, Prompts


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Token ids of the task prompt, by row index, for sender and receiver.

    Attributes:
        sender: Sender's ids.
        receiver: Receiver's ids; the same object as the sender's where ids agree.
    """

    sender: tuple[tuple[int, ...], ...]
    receiver: tuple[tuple[int, ...], ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Receiver prompt lengths by row index."""
        return tuple(len(ids) for ids in self.receiver)

    def ids_match(self, row: int) -> bool:
        """Whether sender and receiver read the same token ids."""
        return self.sender[row] == self.receiver[row]

    def lengths_match(self, row: int) -> bool:
        """Whether sender and receiver read as many tokens."""
        return len(self.sender[row]) == len(self.receiver[row])


def tokenise(
    model: TracedModel, texts: Sequence[str], row_ids: Sequence[str], limit: int
) -> tuple[tuple[int, ...], ...]:
    """Return token ids of each text, cut on the right at `limit` tokens.

    Raises:
        PairError: A text gives no token, or an id outside the model's vocabulary.
    """
    tokenizer: Any = model.tokenizer
    encoded = [tuple(ids[:limit]) for ids in tokenizer(list(texts))["input_ids"]] if texts else []
    vocabulary = _vocabulary(model)
    for row_id, ids in zip(row_ids, encoded, strict=True):
        if not ids:
            raise PairError(f"row {row_id}: the prompt has no tokens in {model.name}'s tokenizer")
        if max(ids) >= vocabulary:
            raise PairError(
                f"row {row_id}: token id {max(ids)} is outside the vocabulary of {model.name} "
                f"({vocabulary}); the tokenizer belongs to another model"
            )
    return tuple(encoded)


def check_window(
    model: TracedModel, lengths: Sequence[int], row_ids: Sequence[str], new_tokens: int
) -> None:
    """Refuse prompts that, with their new tokens, reach beyond the context window.

    Raises:
        PairError: Names the first such row.
    """
    if model.window is None:
        return
    for row_id, length in zip(row_ids, lengths, strict=True):
        if length + new_tokens > model.window:
            raise PairError(
                f"row {row_id}: {length} prompt tokens and {new_tokens} new ones reach beyond "
                f"the context window of {model.name} ({model.window}); lower "
                "decoding.max_prompt_tokens or decoding.max_new_tokens"
            )


def check_answer_window(
    model: TracedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    row_ids: Sequence[str],
) -> None:
    """Refuse gold answers that, after their prompts, reach beyond the context window.

    Raises:
        PairError: Names the first such row.
    """
    for row_id, prompt, answer in zip(row_ids, prompts, answers, strict=True):
        if model.window is not None and len(prompt) + len(answer) > model.window:
            raise PairError(
                f"row {row_id}: {len(prompt)} prompt tokens and {len(answer)} of the answer reach "
                f"beyond the context window of {model.name} ({model.window}); lower "
                "decoding.max_prompt_tokens"
            )


def build_prompts(
    pair: Pair, rows: Sequence[DatasetRow], prompts: Prompts, decoding: Decoding, *, sender: bool
) -> PromptTable:
    """Tokenise the task prompt for the receiver and, where `sender`, for the sender too."""
    texts = [prompts.task.format(context=row.context, question=row.question) for row in rows]
    row_ids = [row.row_id for row in rows]
    limit = decoding.max_prompt_tokens
    receiver = tokenise(pair.receiver, texts, row_ids, limit)
    check_window(pair.receiver, [len(ids) for ids in receiver], row_ids, decoding.max_new_tokens)
    if not sender:
        return PromptTable(receiver, receiver)
    same = pair.sender.tokenizer is pair.receiver.tokenizer
    sent = receiver if same else tokenise(pair.sender, texts, row_ids, limit)
    check_window(pair.sender, [len(ids) for ids in sent], row_ids, 0)
    return PromptTable(receiver if sent == receiver else sent, receiver)


def answer_ids(model: TracedModel, prompt_text: str, answer: str) -> tuple[int, ...]:
    """Return the gold answer's token ids as they follow the whole prompt, uncut.

    The ids of prompt + space + answer after the prompt's own, where the prompt's ids are
    a prefix of them; else (a tokenizer that merges across the join) the ids of space +
    answer alone.

    Raises:
        PairError: The answer gives no token, or an id outside the model's vocabulary.
    """
    tokenizer: Any = model.tokenizer
    prompt, joined = tokenizer([prompt_text, f"{prompt_text} {answer}"])["input_ids"]
    if joined[: len(prompt)] == prompt and len(joined) > len(prompt):
        ids = tuple(joined[len(prompt) :])
    else:
        ids = tuple(tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])
    if not ids:
        raise PairError(f"answer {answer!r} has no tokens in {model.name}'s tokenizer")
    vocabulary = _vocabulary(model)
    if max(ids) >= vocabulary:
        raise PairError(
            f"answer {answer!r}: token id {max(ids)} is outside the vocabulary of {model.name} "
            f"({vocabulary}); the tokenizer belongs to another model"
        )
    return ids


def _vocabulary(model: TracedModel) -> int:
    return int(model.module.config.get_text_config().vocab_size)
