"""Texts as token ids: templates filled with rows, prompts, and the gold answers after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statebridge.errors import PairError
from statebridge.experiment.experiment import Chat
from statebridge.models.chat import encoded, encoded_answer
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.runs.plan import OtherAnswers, TokenIds


def fill(
    template: str,
    rows: Sequence[DatasetRow],
    written: Sequence[Mapping[str, str]] | None = None,
) -> list[str]:
    """Fill a template with each row's context and question, and with the text written for it."""
    more = [{}] * len(rows) if written is None else written
    return [
        template.format(context=row.context, question=row.question, **texts)
        for row, texts in zip(rows, more, strict=True)
    ]


def tokenise(
    model: TracedModel,
    texts: Sequence[str],
    row_ids: Sequence[str],
    limit: int | None = None,
    chat: Chat = "none",
) -> tuple[TokenIds, ...]:
    """Return token ids of each text, cut on the right at `limit` tokens where one is given.

    Raises:
        PairError: A text gives no token, or an id outside the model's vocabulary; or the model
            lacks the template that it needs.
    """
    whole, _ = encoded(model.tokenizer, texts, chat, model.name)
    found = [tuple(ids[:limit]) for ids in whole]
    vocabulary = _vocabulary(model)
    for row_id, ids in zip(row_ids, found, strict=True):
        if not ids:
            raise PairError(f"row {row_id}: the prompt has no tokens in {model.name}'s tokenizer")
        if max(ids) >= vocabulary:
            raise PairError(
                f"row {row_id}: token id {max(ids)} is outside the vocabulary of {model.name} "
                f"({vocabulary}); the tokenizer belongs to another model"
            )
    return tuple(found)


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


def answer_ids(
    model: TracedModel, prompt_text: str, answer: str, chat: Chat = "none"
) -> tuple[int, ...]:
    """Return the gold answer's token ids as they follow the whole prompt, uncut.

    See `statebridge.models.chat.encoded_answer`.

    Raises:
        PairError: The answer gives no token, or an id outside the model's vocabulary.
    """
    ids = encoded_answer(model.tokenizer, prompt_text, answer, chat, model.name)
    if not ids:
        raise PairError(f"answer {answer!r} has no tokens in {model.name}'s tokenizer")
    vocabulary = _vocabulary(model)
    if max(ids) >= vocabulary:
        raise PairError(
            f"answer {answer!r}: token id {max(ids)} is outside the vocabulary of {model.name} "
            f"({vocabulary}); the tokenizer belongs to another model"
        )
    return ids


def answers_after(
    model: TracedModel,
    texts: Sequence[str],
    prompts: Sequence[TokenIds],
    rows: Sequence[DatasetRow],
    chat: Chat,
) -> tuple[TokenIds, ...]:
    """Return the gold answers of rows as they follow their prompts, as texts and as ids.

    Raises:
        PairError: As `answer_ids` and `check_answer_window`.
    """
    found = tuple(
        answer_ids(model, text, row.answer, chat) for text, row in zip(texts, rows, strict=True)
    )
    check_answer_window(model, prompts, found, [row.row_id for row in rows])
    return found


def others_after(
    model: TracedModel,
    texts: Sequence[str],
    prompts: Sequence[TokenIds],
    rows: Sequence[DatasetRow],
    others: Sequence[OtherAnswers],
    chat: Chat,
) -> tuple[tuple[TokenIds, ...], ...]:
    """Return the ids of each row's other answers as they follow its prompt.

    Raises:
        PairError: As `answer_ids` and `check_answer_window`.
    """
    found = tuple(
        tuple(answer_ids(model, text, other, chat) for other in of_row.texts)
        for text, of_row in zip(texts, others, strict=True)
    )
    for prompt, row, of_row in zip(prompts, rows, found, strict=True):
        for ids in of_row:
            check_answer_window(model, [prompt], [ids], [row.row_id])
    return found


def _vocabulary(model: TracedModel) -> int:
    return int(model.module.config.get_text_config().vocab_size)
