"""Prompts longer than the limit: refused, or cut as the experiment declares it.

A prompt's question is at its end, so that a plain cut on the right takes the question first. That
is done where it is declared, and nowhere else.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from statebridge.channels.inputs.token_ids import fill, tokenise
from statebridge.errors import PairError
from statebridge.experiment.experiment import Decoding, Prompts
from statebridge.models.chat import takes_template
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.runs.plan import TokenIds

_WORD_END = re.compile(r"(?<=\S)(?=\s)")


@dataclass(frozen=True, slots=True)
class LimitedPrompts:
    """Prompts of at most `decoding.max_prompt_tokens` tokens.

    Attributes:
        ids: Token ids by row index.
        rows: The rows whose texts the prompts hold: where it was cut, with a shorter context.
        cut: Indices of the rows whose prompt was cut.
    """

    ids: tuple[TokenIds, ...]
    rows: Sequence[DatasetRow]
    cut: frozenset[int]


def limited_prompts(
    model: TracedModel,
    template: str,
    rows: Sequence[DatasetRow],
    prompts: Prompts,
    decoding: Decoding,
) -> LimitedPrompts:
    """Fill a template with rows, and tokenise it for a model within the limit.

    Raises:
        PairError: A prompt is longer than the limit and may not be cut, or cannot be; or as
            `tokenise`.
    """
    limit, chat = decoding.max_prompt_tokens, prompts.chat
    row_ids = [row.row_id for row in rows]
    ids = tokenise(model, fill(template, rows), row_ids, chat=chat)
    long = [place for place, prompt in enumerate(ids) if len(prompt) > limit]
    if not long:
        return LimitedPrompts(ids, rows, frozenset())
    templated = takes_template(model.tokenizer, chat, model.name)
    if decoding.truncate == "right" and not templated:
        return LimitedPrompts(tuple(each[:limit] for each in ids), rows, frozenset(long))
    if decoding.truncate != "context" or "{context}" not in template:
        raise PairError(_too_long(model, rows, ids, long, decoding, templated=templated))
    shorter, kept = list(rows), list(ids)
    for place in long:
        shorter[place] = _shortened(model, template, rows[place], prompts, limit)
    found = tokenise(
        model, fill(template, [shorter[i] for i in long]), [row_ids[i] for i in long], chat=chat
    )
    for place, prompt in zip(long, found, strict=True):
        kept[place] = prompt
    return LimitedPrompts(tuple(kept), shorter, frozenset(long))


def _too_long(
    model: TracedModel,
    rows: Sequence[DatasetRow],
    ids: Sequence[TokenIds],
    long: Sequence[int],
    decoding: Decoding,
    *,
    templated: bool,
) -> str:
    limit, first = decoding.max_prompt_tokens, long[0]
    where = " in its chat template" if templated else ""
    message = (
        f"row {rows[first].row_id}: {len(ids[first])} prompt tokens of {model.name}{where} are "
        f"more than decoding.max_prompt_tokens ({limit}), as in {len(long)} of {len(rows)} rows, "
        f"and a cut would take the question; raise it (the longest has {max(map(len, ids))})"
    )
    if decoding.truncate != "context":
        message += ", or set decoding.truncate: context, which cuts contexts and keeps questions"
    return message


def _shortened(
    model: TracedModel, template: str, row: DatasetRow, prompts: Prompts, limit: int
) -> DatasetRow:
    """Return a row with the longest beginning of its context whose prompt fits the limit."""
    text = row.context
    # At the ends of words; a script without spaces is cut between any two characters.
    ends = [0, *(found.start() for found in _WORD_END.finditer(text))]
    if len(ends) * 40 < len(text):
        ends = list(range(len(text)))

    def too_long(end: int) -> bool:
        texts = fill(template, [replace(row, context=text[:end])])
        return len(tokenise(model, texts, [row.row_id], chat=prompts.chat)[0]) > limit

    place = bisect_right(ends, False, key=too_long)
    # A longer context seldom has fewer tokens; the bisection could end beside it.
    while place > 0 and too_long(ends[place - 1]):
        place -= 1
    if place == 0:
        raise PairError(
            f"row {row.row_id}: its prompt without the context has more than "
            f"decoding.max_prompt_tokens ({limit}) tokens of {model.name}; raise it"
        )
    return replace(row, context=text[: ends[place - 1]])
