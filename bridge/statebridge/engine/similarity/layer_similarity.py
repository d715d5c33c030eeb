"""How alike a pair's states are at each sender and receiver layer, over a text corpus.

The corpus is read once; all layers are captured in one trace a batch and model. The first
token of each passage is left out: many models keep a state of huge norm there (Xiao et al.
2023, arXiv 2309.17453), which alone would decide a linear measure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import torch

from statebridge.channels.inputs.token_ids import tokenise
from statebridge.engine.fitting.corpus import CorpusTexts, check_alike
from statebridge.engine.planning.groups import MEMORY_SHARE, free_bytes
from statebridge.engine.similarity.measures import LinearCka, neighbour_overlap
from statebridge.errors import EnvironmentFault, PairError, TranslatorError
from statebridge.models.families import resolve_layer
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.results.layer_similarity import LayerSimilarity, SimilarityMap
from statebridge.runs.plan import TokenIds

NEIGHBOURS = 10
SAMPLED = 1000
"""Positions whose neighbours are looked for; a matrix of their cosines is held for each layer."""

PASSAGES_TOGETHER = 8
"""The states of all layers are held for so many passages."""

Progress = Callable[[str, int, int], None]
"""Called with `similarity`, passages done, and passages in all."""


def layer_similarity(  # noqa: PLR0913 - the last five have their defaults
    pair: Pair,
    corpus: CorpusTexts,
    max_tokens: int,
    sender_layers: Sequence[int | float | str] | None = None,
    receiver_layers: Sequence[int | float | str] | None = None,
    *,
    neighbours: int = NEIGHBOURS,
    sampled: int = SAMPLED,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> SimilarityMap:
    """Return linear CKA and nearest-neighbour overlap for each pair of layers.

    Memory is bounded: one batch of states, one matrix of products for each pair of layers, and
    the states of the sampled positions. No two of these come after the same text, since their
    states would be equal.

    Args:
        max_tokens: Passages are cut on the right after so many.
        sender_layers, receiver_layers: As in an experiment file; every block if not given.
        neighbours: k of the mutual k nearest neighbours.
        sampled: Positions among which they are looked for, at most; drawn under `seed`.

    Raises:
        PairError: A layer does not exist, or the models tokenise a passage differently.
        TranslatorError: The corpus has too few positions.
        EnvironmentFault: The products of so many layers do not fit in memory.
        NumericError: A state is not finite, or a layer's states do not vary.
    """
    ours = block_indices(pair.sender, sender_layers)
    theirs = block_indices(pair.receiver, receiver_layers)
    ids = _shared_ids(pair, corpus.passages, max_tokens)
    chosen = _sample(ids, sampled, seed)
    if len(chosen) <= neighbours + 1:
        raise TranslatorError(
            f"corpus {corpus.record.name}: {len(chosen)} positions with a text of their own; more "
            f"than {neighbours + 1} are needed to find {neighbours} neighbours; give more text, or "
            "fewer neighbours"
        )
    cka = _sums(pair, len(ours), len(theirs))
    kept = (
        [torch.empty(len(chosen), pair.sender.width, dtype=pair.sender.dtype) for _ in ours],
        [torch.empty(len(chosen), pair.receiver.width, dtype=pair.receiver.dtype) for _ in theirs],
    )
    slots: dict[int, list[tuple[int, int]]] = {}
    for slot, (passage, position) in enumerate(chosen):
        slots.setdefault(passage, []).append((position, slot))
    order = sorted(range(len(ids)), key=lambda passage: (len(ids[passage]), passage))
    for start in range(0, len(order), PASSAGES_TOGETHER):
        progress("similarity", start, len(order))
        members = order[start : start + PASSAGES_TOGETHER]
        texts = [ids[passage] for passage in members]
        batch = TokenBatch.pack(texts, pair.sender.pad_id)
        later = batch.mask & (batch.position_ids > 0)
        states = _capture_both(pair, texts, ours, theirs)
        cka.add(*([layer[later.to(layer.device)] for layer in side] for side in states))
        for row, passage in enumerate(members):
            first = batch.ids.shape[1] - len(ids[passage])
            for position, slot in slots.get(passage, ()):
                for side, held in zip(states, kept, strict=True):
                    for layer, rows in zip(side, held, strict=True):
                        rows[slot] = layer[row, first + position]
    progress("similarity", len(order), len(order))
    values, overlaps = cka.values(), neighbour_overlap(kept[0], kept[1], neighbours)
    return SimilarityMap(
        sender=pair.sender.name,
        receiver=pair.receiver.name,
        sender_width=pair.sender.width,
        receiver_width=pair.receiver.width,
        corpus=corpus.record,
        positions=cka.positions,
        sampled=len(chosen),
        neighbours=neighbours,
        seed=seed,
        pairs=tuple(
            LayerSimilarity(
                sender_layer=our_layer,
                receiver_layer=their_layer,
                cka=float(values[i, j]),
                neighbour_overlap=float(overlaps[i, j]),
            )
            for i, our_layer in enumerate(ours)
            for j, their_layer in enumerate(theirs)
        ),
    )


def _capture_both(
    pair: Pair, texts: Sequence[TokenIds], ours: Sequence[int], theirs: Sequence[int]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    sender, receiver = pair.sender, pair.receiver
    sent = sender.pack(texts)
    if sender.model is receiver.model:
        union = sorted({*ours, *theirs})
        states = dict(zip(union, sender.capture_layers(sent, union), strict=True))
        return [states[layer] for layer in ours], [states[layer] for layer in theirs]
    received = receiver.pack(texts)
    return sender.capture_layers(sent, ours), receiver.capture_layers(received, theirs)


def block_indices(model: TracedModel, given: Sequence[int | float | str] | None) -> list[int]:
    """Return the blocks meant, each once and in rising order, as a pass meets them; else all.

    Raises:
        PairError: A layer does not exist, or the list is empty.
    """
    if given is None:
        return list(range(len(model.block_paths)))
    if not given:
        raise PairError(f"{model.name}: the list of layers is empty; name at least one")
    return sorted({resolve_layer(layer, model.block_paths, model.name) for layer in given})


def _sums(pair: Pair, ours: int, theirs: int) -> LinearCka:
    widths = [pair.sender.width] * ours, [pair.receiver.width] * theirs
    needed, device = LinearCka.bytes_needed(*widths), pair.receiver.device
    if needed > MEMORY_SHARE * free_bytes(device):
        raise EnvironmentFault(
            f"similarity of {ours} sender and {theirs} receiver layers needs {needed / 2**30:.1f} "
            f"GiB for its sums and {free_bytes(device) / 2**30:.1f} GiB are free; give fewer layers"
        )
    return LinearCka(*widths, device)


def _shared_ids(pair: Pair, passages: Sequence[str], max_tokens: int) -> list[TokenIds]:
    names = [f"passage {i}" for i in range(len(passages))]
    sent = tokenise(pair.sender, passages, names, max_tokens)
    if pair.sender.tokenizer is not pair.receiver.tokenizer:
        received = tokenise(pair.receiver, passages, names, max_tokens)
        why = "states are compared position by position, which needs one tokenizer"
        check_alike(pair, names, sent, received, why)
    return list(sent)


def _sample(ids: Sequence[TokenIds], most: int, seed: int) -> list[tuple[int, int]]:
    """Return (passage, position) of positions drawn without replacement, no two after one text."""
    ends = list(accumulate(len(passage) - 1 for passage in ids))
    if not ends or ends[-1] == 0:
        return []
    chosen: list[tuple[int, int]] = []
    seen: set[TokenIds] = set()
    for passage, position in _drawn(ends, seed):
        text = ids[passage][: position + 1]
        if text not in seen:
            seen.add(text)
            chosen.append((passage, position))
        if len(chosen) == most:
            break
    return chosen


def _drawn(ends: Sequence[int], seed: int) -> Iterator[tuple[int, int]]:
    """Go through all positions but the passages' first in random order."""
    generator = torch.Generator().manual_seed(seed)
    for drawn in torch.randperm(ends[-1], generator=generator).tolist():
        passage = bisect_right(ends, drawn)
        before = ends[passage - 1] if passage else 0
        yield passage, drawn - before + 1
