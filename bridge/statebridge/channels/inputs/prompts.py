"""Prompts as token ids, for both models."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import cycle, islice, pairwise

from statebridge.channels.inputs.prompt_limit import LimitedPrompts, limited_prompts
from statebridge.channels.inputs.token_ids import check_window, fill, tokenise
from statebridge.errors import PairError
from statebridge.experiment.conditions import Prompt, SenderContext
from statebridge.experiment.experiment import Decoding, Prompts
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.runs.plan import Deal, PromptTable, Span, TokenIds, Turns, shared_end, shared_start

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_WORD_END = re.compile(r"\s+")

TEXTLESS: tuple[Prompt, ...] = ("task", "question_only", "placeholder")
"""The receiver's prompts that hold no text of a model."""


def build_prompts(
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: Prompts,
    decoding: Decoding,
    *,
    sender: bool,
    used: Collection[Prompt],
    contexts: Collection[SenderContext] = (),
    deals: Collection[Deal] = (),
) -> PromptTable:
    """Tokenise the prompts in use for the receiver and, where `sender`, for the sender too.

    `contexts` are the other contexts that the sender reads, `deals` what several senders read.

    The receiver's task prompt is always made: donors are chosen by its length.

    Raises:
        PairError: A prompt has no tokens, does not fit a model's window or vocabulary, or
            placeholders cannot take the places of the context's tokens.
    """
    row_ids = [row.row_id for row in rows]
    cut: set[int] = set()

    def read(
        model: TracedModel, template: str, new_tokens: int, rows: Sequence[DatasetRow] = rows
    ) -> LimitedPrompts:
        found = limited_prompts(model, template, rows, prompts, decoding)
        cut.update(found.cut)
        check_window(model, [len(ids) for ids in found.ids], row_ids, new_tokens)
        return found

    if set(used) <= {"question_only"}:
        # Nobody reads it: only its lengths count.
        texts = fill(prompts.task, rows)
        task = tokenise(pair.receiver, texts, row_ids, decoding.max_prompt_tokens, prompts.chat)
        read_rows = rows
    else:
        limited = read(pair.receiver, prompts.task, decoding.max_new_tokens)
        task, read_rows = limited.ids, limited.rows
    private: dict[Prompt, tuple[TokenIds, ...]] = {}
    slots: tuple[Span, ...] = ()
    if "question_only" in used:
        asked = read(pair.receiver, prompts.question_only, decoding.max_new_tokens)
        private["question_only"] = asked.ids
    if "placeholder" in used:
        private["placeholder"], slots = _placeholder_prompts(pair, read_rows, prompts, task)
    if not sender:
        return PromptTable(task, task, private, slots, frozenset(cut))
    sent = read(pair.sender, prompts.to_sender, 0).ids
    # The same object where ids agree, so that rows are compared at once.
    sent = task if sent == task else sent
    others: dict[SenderContext, tuple[TokenIds, ...]] = {}
    dealt: dict[Deal, tuple[Turns, ...]] = {}
    without = [replace(row, context="") for row in rows]
    if contexts:
        _check_context(prompts.to_sender)
        others["empty"] = read(pair.sender, prompts.to_sender, 0, without).ids
        others["neutral"] = _neutral_prompts(pair.sender, prompts.neutral, sent, others["empty"])
    for readers in {readers for readers, _ in deals}:
        used_contexts = {context for of, context in deals if of == readers}
        count = len(readers.sides)
        shares: Sequence[Sequence[str]] = [[row.context for row in rows]] * count
        if not readers.whole:
            shares = list(zip(*(dealt_context(row, count) for row in rows), strict=True))
        templates = readers.templates or (prompts.to_sender,) * count
        found: dict[SenderContext | None, list[tuple[TokenIds, ...]]] = {}
        for side, template, share in zip(readers.sides, templates, shares, strict=True):
            if not readers.whole or used_contexts != {None}:
                _check_context(template)
            model = pair.sender if side == "sender" else pair.receiver
            parts = [replace(row, context=part) for row, part in zip(rows, share, strict=True)]
            own = read(model, template, 0, parts).ids
            found.setdefault(None, []).append(own)
            if used_contexts != {None}:
                empty = read(model, template, 0, without).ids
                found.setdefault("empty", []).append(empty)
                neutral = _neutral_prompts(model, prompts.neutral, own, empty)
                found.setdefault("neutral", []).append(neutral)
        dealt |= {
            (readers, context): tuple(zip(*found[context], strict=True))
            for context in used_contexts
        }
    return PromptTable(sent, task, private, slots, frozenset(cut), others, dealt)


def _check_context(template: str) -> None:
    if "{context}" not in template:
        raise PairError(
            "prompts: the sender's template has no {context}, so sender_context and senders "
            f"change nothing; it is {template!r}"
        )


def dealt_context(row: DatasetRow, count: int) -> list[str]:
    """Return a row's context in parts, in order: of as many sentences each as may be.

    Of as many words, where there are fewer sentences.

    Raises:
        PairError: There are fewer words than parts.
    """
    for end in (_SENTENCE_END, _WORD_END):
        pieces = [piece.strip() for piece in end.split(row.context)]
        pieces = [piece for piece in pieces if piece]
        if len(pieces) >= count:
            bounds = [len(pieces) * part // count for part in range(count + 1)]
            return [" ".join(pieces[start:after]) for start, after in pairwise(bounds)]
    raise PairError(
        f"row {row.row_id}: its context has fewer words than there are senders ({count}); lower "
        "senders.count"
    )


def _neutral_prompts(
    model: TracedModel, text: str, own: Sequence[TokenIds], empty: Sequence[TokenIds]
) -> tuple[TokenIds, ...]:
    """Return prompts as long as the rows' own, with a neutral text in place of the context.

    What a row's prompt shares with its prompt of an empty context stays, so nothing of the
    context does. The text is repeated, and cut where the context's tokens end.
    """
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise PairError(f"prompts.neutral_text: {text!r} has no tokens in {model.name}'s tokenizer")
    made = []
    for whole, without in zip(own, empty, strict=True):
        start = shared_start(whole, without)
        end = min(shared_end(whole, without), len(whole) - start, len(without) - start)
        filled = islice(cycle(ids), len(whole) - start - end)
        made.append((*whole[:start], *filled, *whole[len(whole) - end :]))
    return tuple(made)


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
