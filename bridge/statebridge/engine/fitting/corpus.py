"""Text corpora: their passages, and the states of both models at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from statebridge.channels.inputs.token_ids import fill, tokenise
from statebridge.data import row_identity, rows_sha256
from statebridge.data.text_corpus import TextCorpus
from statebridge.data.training_texts import TrainingTexts, answer_names, held_out_answers
from statebridge.errors import PairError, TranslatorError
from statebridge.experiment.dataset import CorpusPositions
from statebridge.experiment.experiment import Corpus, Prompts
from statebridge.experiment.random_streams import row_key
from statebridge.models.onednn_layers import onednn_products
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.translator_card import CorpusRecord
from statebridge.runs.plan import TokenIds
from statebridge.tasks.declared_rows import generated_rows
from statebridge.translators.positions import PositionBatch

PASSAGES_TOGETHER = 16
"""Passages captured in one pass, sorted by length within a window."""

WINDOW = 8 * PASSAGES_TOGETHER

PART_WINDOWS, MOST_PARTS = 8, 16
"""Least windows of a part of a corpus, and most parts: the sums of each are gathered apart."""

HELD_OUT_SHARE = 0.1
"""Last share of the passages, which no fit sees; quality is measured on it."""

SOLVED_FOLDS = 10
"""A map solved for under one seed sees all but one in so many of the fitting passages."""

Count = Callable[[int, int], None]
"""Called with passages done and passages in all."""


@dataclass(frozen=True, slots=True)
class CorpusTexts:
    """The passages of a corpus, and where they come from."""

    passages: tuple[str, ...]
    record: CorpusRecord
    rows: tuple[DatasetRow, ...] = ()
    """Rows that the passages were made of, in their order; empty for running text."""

    @property
    def held_out_start(self) -> int:
        """Index of the first passage that is kept for the quality report."""
        return len(self.passages) - max(1, round(len(self.passages) * HELD_OUT_SHARE))

    @property
    def parts(self) -> tuple[range, ...]:
        """Fitting passages in parts: closed forms add the sums of each in this order.

        They depend on the corpus alone, so that a map is the same wherever its sums come from.
        """
        windows = -(-self.held_out_start // WINDOW)
        size = WINDOW * max(PART_WINDOWS, -(-windows // MOST_PARTS))
        starts = range(0, self.held_out_start, size)
        return tuple(range(start, min(start + size, self.held_out_start)) for start in starts)

    @property
    def trained_on(self) -> TrainingTexts:
        """Hashes of what a fit sees of it."""
        start = self.held_out_start
        if self.rows:
            return TrainingTexts.of(rows=self.rows[:start])
        return TrainingTexts.of(passages=self.passages[:start])


NO_CORPUS = CorpusTexts((), CorpusRecord(name="none", sha256=""))
"""That of a map which is trained through the receiver alone."""


def in_fold(seed: int, passage: int) -> bool:
    """Whether a map that is solved for under a seed sees a fitting passage.

    The solution has no randomness in it, so the seed chooses the passages: seeds then show how
    much the map depends on its text.
    """
    return row_key(seed, str(passage)) % SOLVED_FOLDS != 0


def read_corpus(
    corpus: Corpus | None, prompts: Prompts, evaluated: Sequence[DatasetRow] = ()
) -> CorpusTexts:
    """Return the passages of a declared corpus.

    Generated rows are turned into task prompts followed by their answers; a generated row
    that is among the `evaluated` ones, or whose answer is held out, is left out.

    Raises:
        TranslatorError: Fewer than two passages.
        DatasetError: The file is missing, unreadable or not the one declared.
    """
    if corpus is None:
        return NO_CORPUS
    rows_read: Sequence[DatasetRow] = ()
    if corpus.generate is not None:
        known = {row_identity(row) for row in evaluated}
        held = held_out_answers(evaluated, corpus.hold_out_answers)
        made = generated_rows(corpus.generate)
        rows = [
            row
            for row in made
            if row_identity(row) not in known and held.isdisjoint(answer_names(row))
        ]
        if len(rows) < 2 <= len(made):
            raise TranslatorError(
                f"corpus: {len(made) - len(rows)} of {len(made)} generated rows are rows of the "
                "experiment's dataset, or have answers that are held out, and no translator may be "
                "fitted on them; give corpus.generate another seed, or more rows"
            )
        rows_read = rows[: corpus.max_passages]
        texts = fill(prompts.task, rows_read)
        passages = tuple(f"{text} {row.answer}" for text, row in zip(texts, rows_read, strict=True))
        digest, name = rows_sha256(rows) if rows else "", "generated multi-hop rows"
    else:
        if corpus.path is None:
            raise TranslatorError("corpus: neither path nor generate is given")
        text = TextCorpus(corpus.path, max_passages=corpus.max_passages)
        digest, name = text.sha256(), corpus.name or text.name
        if corpus.sha256 is not None and corpus.sha256 != digest:
            raise TranslatorError(
                f"{corpus.path}: has SHA-256 {digest}, not the declared {corpus.sha256}"
            )
        passages = tuple(text)
    if len(passages) < 2:
        raise TranslatorError(
            f"corpus {name}: {len(passages)} passages; at least 2 are needed, one to fit on and "
            "one to measure quality on"
        )
    record = CorpusRecord(
        name=name,
        sha256=digest,
        passages=len(passages),
        max_tokens=corpus.max_tokens,
        positions=corpus.positions,
    )
    return CorpusTexts(passages, record, tuple(rows_read))


def paired_positions(
    pair: Pair, passages: Sequence[str], corpus: Corpus, progress: Count = lambda *_: None
) -> Iterator[PositionBatch]:
    """Yield (sender states, receiver states) of the same tokens, (positions, width) each.

    All real positions of every passage, or its last one, in passage order within a batch of
    similar lengths; memory is bounded by one batch. At their ends two tokenizers meet; of two
    different ones, a passage that is cut for either model is left out, since its last tokens
    are then at different places of the text (source of the last-token pairs: arXiv 2501.14082,
    section 3).

    Raises:
        PairError: All positions are asked for, and the two models tokenise a passage differently.
    """
    everything = range(len(passages))
    for _, batch in positions_by_passage(pair, passages, everything, corpus, progress):
        yield batch


def positions_by_passage(
    pair: Pair, passages: Sequence[str], part: range, corpus: Corpus, progress: Count
) -> Iterator[tuple[torch.Tensor, PositionBatch]]:
    """Yield what `paired_positions` does, with the passage of each position, (positions,).

    Args:
        pair: Both models.
        passages: Of the whole corpus.
        part: Numbers of the passages to read.
        corpus: As declared.
        progress: Called with passages done, counted from the first of all, and passages in all.
    """
    limit, done = corpus.max_tokens, part.start
    for start in part[::WINDOW]:
        texts = passages[start : min(start + WINDOW, part.stop)]
        found = list(passage_ids(pair, texts, corpus, start))
        order = iter(sorted(found, key=lambda each: (min(len(each[1]), limit), each[0])))
        left_out = len(texts) - len(found)
        while chosen := list(islice(order, PASSAGES_TOGETHER)):
            numbers = [number for number, _, _ in chosen]
            sent = [ours[:limit] for _, ours, _ in chosen]
            received = [theirs[:limit] for _, _, theirs in chosen]
            counts = [len(ids) if corpus.positions == "all" else 1 for ids in sent]
            yield (
                torch.tensor(numbers).repeat_interleave(torch.tensor(counts)),
                (
                    _states(pair.sender, sent, corpus.positions),
                    _states(pair.receiver, received, corpus.positions),
                ),
            )
            done += len(chosen)
            progress(done, len(passages))
        if left_out:
            done += left_out
            progress(done, len(passages))


def passage_ids(
    pair: Pair, passages: Sequence[str], corpus: Corpus, first: int = 0
) -> Iterator[tuple[int, TokenIds, TokenIds]]:
    """Yield the number of each passage in use, and its ids for the sender and the receiver.

    A passage that is cut has one token more than `corpus.max_tokens`.

    Args:
        pair: Both models.
        passages: Some passages of the corpus.
        corpus: As declared.
        first: Number of the first of them in the corpus.

    Raises:
        PairError: All positions are asked for, and the two models tokenise a passage differently.
    """
    limit = corpus.max_tokens
    one_tokenizer = pair.sender.tokenizer is pair.receiver.tokenizer
    names = [f"passage {first + i}" for i in range(len(passages))]
    # One token more than the limit shows which passages are cut.
    sent = tokenise(pair.sender, passages, names, limit + 1)
    received = sent if one_tokenizer else tokenise(pair.receiver, passages, names, limit + 1)
    if corpus.positions == "all":
        why = "a translator over all positions needs one tokenizer: fit on corpus.positions last"
        cut = [tuple(ids[:limit] for ids in side) for side in (sent, received)]
        check_alike(pair, names, cut[0], cut[1], why)
    for place, (ours, theirs) in enumerate(zip(sent, received, strict=True)):
        if corpus.positions == "all" or one_tokenizer or max(len(ours), len(theirs)) <= limit:
            yield first + place, ours, theirs


def check_alike(
    pair: Pair,
    names: Sequence[str],
    sent: Sequence[TokenIds],
    received: Sequence[TokenIds],
    why: str,
) -> None:
    """Refuse passages that the two models tokenise differently.

    Raises:
        PairError: Names the first such passage, and `why` one tokenizer is needed.
    """
    for name, ours, theirs in zip(names, sent, received, strict=True):
        if ours != theirs:
            raise PairError(
                f"corpus {name}: {pair.sender.name} and {pair.receiver.name} tokenise it "
                f"differently; {why}"
            )


def _states(
    model: TracedModel, prompts: Sequence[TokenIds], positions: CorpusPositions
) -> torch.Tensor:
    batch = model.pack(prompts)
    with onednn_products():
        states = model.capture(batch)
    # Padding is on the left.
    return (states[:, -1] if positions == "last" else states[batch.mask]).float()
