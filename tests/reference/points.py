"""Any point of the algebra of conditions, one row at a time, private settings included.

It shares no code with the library. The places of a question and of placeholders in a prompt are
worked out from lists and from the bytes of tokens, not from a tokenizer's offsets. Sources:
arXiv 2606.03280 and arXiv 2501.14082.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.reference.decoding import answer_ids, encode, generate, gold_measures, kl_divergence
from tests.reference.decoding import text_of as decoded
from tests.reference.draws import published_donors, published_noise
from tests.reference.formulas import EPSILON, Row, Translate
from tests.reference.hooks import blocks, capture, writing
from tests.reference.oracle import OraclePair, OracleRow, Settings

TASK = "Context: {context}\nQ: {question}\nA:"
QUESTION_ONLY = "Q: {question}\nA:"


@dataclass(frozen=True)
class Point:
    """A point of the algebra: positions read, operator, positions written, receiver's prompt."""

    source: str
    operator: str = "blend"
    weight: float = 1.0
    match_norm: bool = False
    positions: Any = "all"
    source_positions: Any = "all"
    prompt: str = "task"
    lone_rows: str = "self"
    sender_context: str | None = None


@dataclass(frozen=True)
class Texts:
    """Templates of the prompts, and the token that stands for each of the context's."""

    task: str = TASK
    sender: str = TASK
    question_only: str = QUESTION_ONLY
    placeholder: int = 0
    neutral: str = " This page was left blank on purpose."


@dataclass(frozen=True)
class Reading:
    """A row's token ids on both sides, and the place of its context in the receiver's."""

    sent: list[int]
    received: list[int]
    text: str
    """The prompt that the gold answer follows."""
    slots: list[int] = field(default_factory=list)


def naive_shared_end(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the longest list that both end in."""
    best = 0
    for count in range(1, min(len(first), len(second)) + 1):
        if list(first[len(first) - count :]) == list(second[len(second) - count :]):
            best = count
    return best


def context_tokens(tokenizer: Any, template: str, row: Row, max_tokens: int) -> list[int]:
    """Return the places of the tokens that hold a byte of the context (byte-level tokenizers)."""
    known = set(bytes_to_unicode().values())
    before, _ = template.split("{context}")
    start = len(before.format(question=row["question"]).encode())
    end = start + len(row["context"].encode())
    place, found = 0, []
    ids = encode(tokenizer, template.format(**row), max_tokens)
    for index, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
        if token in tokenizer.all_special_tokens:
            continue
        assert set(token) <= known, "not a byte-level token"
        if place < end and place + len(token) > start:
            found.append(index)
        place += len(token)
    return list(range(found[0], found[-1] + 1)) if found else []


def other_context(tokenizer: Any, texts: Texts, row: Row, kind: str, limit: int) -> list[int]:
    """Return what the sender reads with no context, or with neutral tokens in its place."""
    without = encode(tokenizer, texts.sender.format(**(dict(row) | {"context": ""})), limit)
    if kind == "empty":
        return without
    whole = encode(tokenizer, texts.sender.format(**row), limit)
    first = 0
    while first < min(len(whole), len(without)) and whole[first] == without[first]:
        first += 1
    after = naive_shared_end(whole[first:], without[first:])
    words = tokenizer(texts.neutral, add_special_tokens=False)["input_ids"]
    last = len(whole) - after
    return [
        words[(place - first) % len(words)] if first <= place < last else token
        for place, token in enumerate(whole)
    ]


def read_row(
    pair: OraclePair,
    row: Row,
    prompt: str,
    texts: Texts,
    chosen: Settings,
    context: str | None = None,
) -> Reading:
    """Return what both sides read under a prompt."""
    limit = chosen.max_prompt_tokens
    sent = encode(pair.reads_with, texts.sender.format(**row), limit)
    if context is not None:
        sent = other_context(pair.reads_with, texts, row, context, limit)
    template = texts.question_only if prompt == "question_only" else texts.task
    text = template.format(**row)
    received, slots = encode(pair.tokenizer, text, limit), []
    if prompt == "placeholder":
        slots = context_tokens(pair.tokenizer, texts.task, row, limit)
        for place in slots:
            received[place] = texts.placeholder
    return Reading(sent, received, text, slots)


def nearest_donor(lengths: Sequence[int], ids: Sequence[str], lone: int) -> int | None:
    """Return the row nearest in length: the shorter of two, then the first by row id."""
    order = [i for i in range(len(lengths)) if i != lone]
    order.sort(key=lambda i: ids[i])
    order.sort(key=lambda i: lengths[i])
    order.sort(key=lambda i: abs(lengths[i] - lengths[lone]))
    return order[0] if order else None


def chosen_donors(
    lengths: Sequence[int], ids: Sequence[str], seed: int, lone_rows: str
) -> dict[int, int]:
    """Return the published donor of each row; lone rows as the condition declares."""
    donors = published_donors(lengths, seed, strict=lone_rows != "self")
    if lone_rows == "nearest":
        for row in range(len(lengths)):
            if row not in donors:
                donor = nearest_donor(lengths, ids, row)
                if donor is not None:
                    donors[row] = donor
    return donors


def run_point(
    pair: OraclePair,
    rows: Sequence[Row],
    point: Point,
    seed: int | None = None,
    translate: Translate | None = None,
    *,
    texts: Texts = Texts(),
    noise: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> list[OracleRow]:
    """Run one condition over all rows of a dataset, in their order, with the published draws.

    `noise` (row id to (1, T, width)) replaces the published stream over the prompts read.
    """
    chosen = Settings(**settings)
    ids = [row["id"] for row in rows]
    readings = [
        read_row(pair, row, point.prompt, texts, chosen, point.sender_context) for row in rows
    ]
    donors: dict[int, int] = {}
    if point.source.startswith("shuffled"):
        assert seed is not None
        tasks = [texts.task.format(**row) for row in rows]
        lengths = [len(encode(pair.tokenizer, text, chosen.max_prompt_tokens)) for text in tasks]
        donors = chosen_donors(lengths, ids, seed, point.lone_rows)
    if point.source == "random" and noise is None:
        assert seed is not None
        lengths = [len(reading.received) for reading in readings]
        drawn = published_noise(lengths, pair.receiver.config.hidden_size, seed)
        noise = dict(zip(ids, drawn, strict=True))
    results = []
    for index, (row, reading) in enumerate(zip(rows, readings, strict=True)):
        if point.source.startswith("shuffled") and index not in donors:
            continue
        donor = donors.get(index, index)
        draw = noise[row["id"]] if noise is not None else None
        found: dict[str, Any] = {"prompt_len_receiver": len(reading.received)}
        if point.source in ("translated", "shuffled", "sender", "shuffled_sender"):
            found["prompt_len_sender"] = len(reading.sent)
        if point.source.startswith("shuffled"):
            found["donor_row_id"] = ids[donor]
            found["donor_self_fallback"] = donor == index
        if point.source != "none" and point.prompt == "task":
            own = read_row(pair, row, point.prompt, texts, chosen)
            found["token_ids_match"] = own.sent == own.received
            found["seq_len_match"] = len(own.sent) == len(own.received)
        written = None
        if point.source != "none":
            written, norms = _written(pair, point, reading, readings[donor], translate, draw)
            found |= norms
        found |= _outcome(pair, row, reading, written, chosen)
        results.append(OracleRow(row_id=row["id"], gold=row["answer"], written=written, **found))
    return results


def places_of(positions: Any, ids: Sequence[int], other: Sequence[int], slots: list[int]) -> Any:
    """Return the indices that declared positions stand for in a prompt of `ids`."""
    count = len(ids)
    if positions == "all":
        return list(range(count))
    if positions == "last":
        return [count - 1]
    if positions == "question":
        shared = naive_shared_end(ids, other)
        after = slots[-1] + 1 if slots else 0
        return list(range(max(count - shared, after), count))
    if positions == "placeholder":
        return slots
    return [place if place >= 0 else count + place for place in positions]


@torch.no_grad()
def _written(
    pair: OraclePair,
    point: Point,
    reading: Reading,
    donor: Reading,
    translate: Translate | None,
    draw: Tensor | None,
) -> tuple[Tensor, dict[str, float]]:
    h = capture(pair.receiver, pair.receiver_layer, reading.received)
    source, source_ids = h, reading.received
    if point.source == "zero":
        source = torch.zeros_like(h)
    elif point.source == "random":
        assert draw is not None
        source = draw.to(h.dtype)
    elif point.source != "receiver":
        source, source_ids = capture(pair.sender, pair.sender_layer, donor.sent), donor.sent
        if point.source in ("translated", "shuffled"):
            assert translate is not None
            source = translate(source).to(h.dtype)
    to = places_of(point.positions, reading.received, reading.sent, reading.slots)
    if point.source_positions in ("question", "placeholder"):
        # As far from the end of the prompt as they are written.
        taken = [len(source_ids) - (len(reading.received) - place) for place in to]
        assert min(taken) >= 0
    else:
        taken = places_of(point.source_positions, source_ids, (), [])
    # arXiv 2501.14082: states of another width meet in their last dimensions.
    common = min(h.shape[-1], source.shape[-1])
    source = source[..., -common:]
    read_norms = [float(source[0, place].norm()) for place in taken]
    if len(taken) == 1 or point.source in ("zero", "random"):
        taken = to if point.source in ("zero", "random") else taken * len(to)
    states, injected, cosines = h.clone(), [], []
    for place, origin in zip(to, taken, strict=True):
        own, s = h[0, place, -common:], source[0, origin]
        cosines.append(float(torch.nn.functional.cosine_similarity(s, own, dim=0)))
        if point.match_norm:
            s = s / s.norm().clamp_min(EPSILON) * own.norm()
        written = {
            "add": own + point.weight * s,
            "blend": point.weight * s + (1 - point.weight) * own,
            "mean": (s + own) / 2,
            "sum": s + own,
        }[point.operator]
        states[0, place, -common:] = written
        injected.append(float((point.weight * s if point.operator == "add" else written).norm()))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return states, {
        "translated_norm_mean": mean(read_norms),
        "receiver_norm_mean": mean([float(x.norm()) for x in h[0]]),
        "injected_norm_mean": mean(injected),
        "source_cosine_mean": mean(cosines),
    }


def _outcome(
    pair: OraclePair, row: Row, reading: Reading, written: Tensor | None, chosen: Settings
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    ids, layer = reading.received, pair.receiver_layer
    if chosen.decode:
        with writing(blocks(pair.receiver)[layer], written):
            new = generate(
                pair.receiver,
                ids,
                end=pair.tokenizer.eos_token_id,
                max_new_tokens=chosen.max_new_tokens,
                repetition_penalty=chosen.repetition_penalty,
                no_repeat_ngram_size=chosen.no_repeat_ngram_size,
            )
        found |= {"token_ids": tuple(new), "prediction": decoded(pair.tokenizer, new)}
    answer = answer_ids(pair.tokenizer, reading.text, row["answer"])
    here = gold_measures(pair.receiver, layer, ids, answer, written)
    # From the same prompt with nothing written.
    plain = gold_measures(pair.receiver, layer, ids, answer, None)
    return found | {
        "gold_logprob": here.logprob,
        "gold_token_count": len(answer),
        "gold_rank": here.rank,
        "kl_from_no_inject": kl_divergence(plain.next_token, here.next_token),
    }
