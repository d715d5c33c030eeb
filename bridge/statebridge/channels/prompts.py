"""Prompts as token ids, for both models, and the gold answers that follow them."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence

from statebridge.errors import PairError
from statebridge.experiment.conditions import Prompt
from statebridge.experiment.experiment import Chat, Decoding, Prompts
from statebridge.models.chat import encoded, encoded_answer, takes_template
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.runs.plan import OtherAnswers, PromptTable, Span, TokenIds

TEXTLESS: tuple[Prompt, ...] = ("task", "question_only", "placeholder")
"""The receiver's prompts that hold no text of a model."""


def tokenise(
    model: TracedModel,
    texts: Sequence[str],
    row_ids: Sequence[str],
    limit: int,
    chat: Chat = "none",
) -> tuple[tuple[int, ...], ...]:
    """Return token ids of each text, cut on the right at `limit` tokens.

    A turn of a chat template is never cut: its end is what the model answers to.

    Raises:
        PairError: A text gives no token, an id outside the model's vocabulary, or a turn of
            more than `limit` tokens; or the model lacks the template that it needs.
    """
    whole, templated = encoded(model.tokenizer, texts, chat, model.name)
    found = [tuple(ids if templated else ids[:limit]) for ids in whole]
    vocabulary = _vocabulary(model)
    for row_id, ids in zip(row_ids, found, strict=True):
        if len(ids) > limit:
            raise PairError(
                f"row {row_id}: {len(ids)} prompt tokens in {model.name}'s chat template, which "
                f"cannot be cut at {limit}; raise decoding.max_prompt_tokens"
            )
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


def build_prompts(
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: Prompts,
    decoding: Decoding,
    *,
    sender: bool,
    used: Collection[Prompt],
) -> PromptTable:
    """Tokenise the prompts in use for the receiver and, where `sender`, for the sender too.

    The receiver's task prompt is always made: donors are chosen by its length.

    Raises:
        PairError: A prompt has no tokens, does not fit a model's window or vocabulary, or
            placeholders cannot take the places of the context's tokens.
    """
    row_ids = [row.row_id for row in rows]
    limit = decoding.max_prompt_tokens
    cut: set[int] = set()

    def read(model: TracedModel, template: str, new_tokens: int | None) -> tuple[TokenIds, ...]:
        """Tokenise for a model; None for new tokens where it never runs on the prompt."""
        # One token more than is kept shows which prompts are cut; a chat's turns never are.
        more = not takes_template(model.tokenizer, prompts.chat, model.name)
        whole = tokenise(model, fill(template, rows), row_ids, limit + more, prompts.chat)
        ids = tuple(prompt[:limit] for prompt in whole)
        if new_tokens is not None:
            cut.update(row for row, prompt in enumerate(whole) if len(prompt) > limit)
            check_window(model, [len(prompt) for prompt in ids], row_ids, new_tokens)
        return ids

    alone = set(used) <= {"question_only"}
    receiver = read(pair.receiver, prompts.task, None if alone else decoding.max_new_tokens)
    private: dict[Prompt, tuple[TokenIds, ...]] = {}
    slots: tuple[Span, ...] = ()
    if "question_only" in used:
        template, new_tokens = prompts.question_only, decoding.max_new_tokens
        private["question_only"] = read(pair.receiver, template, new_tokens)
    if "placeholder" in used:
        private["placeholder"], slots = _placeholder_prompts(pair, rows, prompts, receiver)
    if not sender:
        return PromptTable(receiver, receiver, private, slots, frozenset(cut))
    sent = read(pair.sender, prompts.to_sender, 0)
    # The same object where ids agree, so that rows are compared at once.
    sent = receiver if sent == receiver else sent
    return PromptTable(sent, receiver, private, slots, frozenset(cut))


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


def _placeholder_prompts(
    pair: Pair, rows: Sequence[DatasetRow], prompts: Prompts, task: Sequence[TokenIds]
) -> tuple[tuple[TokenIds, ...], tuple[Span, ...]]:
    """Return the task prompts with every token of the context replaced, and their places."""
    model, token = pair.receiver, _placeholder_id(pair.receiver, prompts)
    before = _before_context(prompts.task)
    if not getattr(model.tokenizer, "is_fast", False):
        raise PairError(
            f"{model.name}: its tokenizer does not say which text a token stands for, so the "
            "placeholder prompt cannot be made; use prompt: question_only"
        )
    contexts = context_tokens(model, prompts.task, before, rows)
    made: list[TokenIds] = []
    spans: list[Span] = []
    for row, ids, all_slots in zip(rows, task, contexts, strict=True):
        slots = [i for i in all_slots if i < len(ids)]
        if not slots:
            why = (
                f"begins after the first {len(ids)} tokens, where prompts are cut; raise "
                "decoding.max_prompt_tokens, or use prompt: question_only"
                if all_slots
                else "is empty, so no placeholder stands for it; use prompt: question_only"
            )
            raise PairError(f"row {row.row_id}: its context {why}")
        first, after = slots[0], slots[-1] + 1
        made.append((*ids[:first], *[token] * (after - first), *ids[after:]))
        spans.append((first - len(ids), after - len(ids)))
    return tuple(made), tuple(spans)


def context_tokens(
    model: TracedModel, template: str, before: str, rows: Sequence[DatasetRow]
) -> list[list[int]]:
    """Return which tokens of each row's uncut prompt hold text of its context.

    The tokenizer must be a fast one, which maps tokens to text.

    Args:
        before: The part of the template before the context.
    """
    offsets = model.tokenizer(fill(template, rows), return_offsets_mapping=True)["offset_mapping"]
    found = []
    for row, text, places in zip(rows, fill(before, rows), offsets, strict=True):
        start, end = len(text), len(text) + len(row.context)
        found.append([i for i, (a, b) in enumerate(places) if a < end and b > start])
    return found


def _before_context(template: str) -> str:
    """Return the part before the one {context} of a template, as a template."""
    before, found = "", 0
    for literal, name, _, _ in string.Formatter().parse(template):
        if found == 0:
            before += literal.replace("{", "{{").replace("}", "}}")
            before += "{question}" if name == "question" else ""
        found += name == "context"
    if found == 0:
        raise PairError("prompts.task has no {context}, so no placeholder can stand for it")
    if found > 1:
        raise PairError(
            f"prompts.task has {{context}} {found} times; the placeholder prompt needs it once"
        )
    return before


def _placeholder_id(model: TracedModel, prompts: Prompts) -> int:
    text = prompts.placeholder_token
    if text is None:
        return model.pad_id
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise PairError(
            f"prompts.placeholder_token: {text!r} is {len(ids)} tokens in {model.name}'s "
            "tokenizer; give the text of a single one"
        )
    return int(ids[0])


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
