"""Fitting translators on a pair's states over a text corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from statebridge.channels.prompts import tokenise
from statebridge.data import row_identity, rows_sha256
from statebridge.data.text_corpus import TextCorpus
from statebridge.engine.fitting.causal_training import train_fits_causally
from statebridge.engine.fitting.stitched import stitched_cross_entropy
from statebridge.errors import PairError, TranslatorError
from statebridge.experiment.dataset import CorpusPositions
from statebridge.experiment.experiment import Corpus, Experiment, Fit, Prompts
from statebridge.experiment.random_streams import row_key
from statebridge.experiment.translator_settings import SOLVED
from statebridge.models.onednn_layers import onednn_products
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.translator_card import (
    CausalRecord,
    CorpusRecord,
    QualityReport,
    StateOrigin,
)
from statebridge.tasks.declared_rows import generated_rows, resolve_dataset
from statebridge.translators import (
    PositionStore,
    Translator,
    make_card,
    measure_quality,
    train_translator,
)
from statebridge.translators.centred_sums import PositionSums
from statebridge.translators.fit import Fit as Fitted
from statebridge.translators.fit import solved
from statebridge.translators.positions import PositionBatch
from statebridge.translators.procrustes import solve_procrustes
from statebridge.translators.ridge import solve_ridge

PASSAGES_TOGETHER = 16
"""Passages captured in one pass, sorted by length within a window of eight times as many."""

SOLVED_FOLDS = 10
"""A map solved for under one seed sees all but one in so many of the fitting passages."""

HELD_OUT_SHARE = 0.1
"""Last share of the passages, which no fit sees; quality is measured on it."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and out of how much."""


@dataclass(frozen=True, slots=True)
class CorpusTexts:
    """The passages of a corpus, and where they come from."""

    passages: tuple[str, ...]
    record: CorpusRecord

    @property
    def held_out_start(self) -> int:
        """Index of the first passage that is kept for the quality report."""
        return len(self.passages) - max(1, round(len(self.passages) * HELD_OUT_SHARE))


def read_corpus(
    corpus: Corpus, prompts: Prompts, evaluated: Sequence[DatasetRow] = ()
) -> CorpusTexts:
    """Return the passages of a declared corpus.

    Generated rows are turned into task prompts followed by their answers; a generated row
    that is among the `evaluated` ones is left out.

    Raises:
        TranslatorError: Fewer than two passages.
        DatasetError: The file is missing, unreadable or not the one declared.
    """
    if corpus.generate is not None:
        known = {row_identity(row) for row in evaluated}
        rows = [row for row in generated_rows(corpus.generate) if row_identity(row) not in known]
        passages = tuple(
            prompts.task.format(context=row.context, question=row.question) + f" {row.answer}"
            for row in rows[: corpus.max_passages]
        )
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
    return CorpusTexts(passages, record)


def paired_positions(
    pair: Pair, passages: Sequence[str], corpus: Corpus, progress: Callable[[int], None]
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
    for _, batch in _positions_by_passage(pair, passages, corpus, progress):
        yield batch


def _positions_by_passage(
    pair: Pair, passages: Sequence[str], corpus: Corpus, progress: Callable[[int], None]
) -> Iterator[tuple[torch.Tensor, PositionBatch]]:
    """The same, each batch with the number of the passage of each position, (positions,)."""
    window, limit = PASSAGES_TOGETHER * 8, corpus.max_tokens
    one_tokenizer = pair.sender.tokenizer is pair.receiver.tokenizer
    for start in range(0, len(passages), window):
        texts = passages[start : start + window]
        names = [f"passage {start + i}" for i in range(len(texts))]
        # One token more than the limit shows which passages are cut.
        sent = tokenise(pair.sender, texts, names, limit + 1)
        received = sent if one_tokenizer else tokenise(pair.receiver, texts, names, limit + 1)
        kept: Sequence[int] = range(len(texts))
        if corpus.positions == "last" and not one_tokenizer:
            kept = [i for i in kept if max(len(sent[i]), len(received[i])) <= limit]
        sent, received = (tuple(ids[:limit] for ids in side) for side in (sent, received))
        if corpus.positions == "all":
            _check_alike(pair, names, sent, received)
        order = iter(sorted(kept, key=lambda i: (len(sent[i]), i)))
        while chosen := list(islice(order, PASSAGES_TOGETHER)):
            counts = [len(sent[i]) if corpus.positions == "all" else 1 for i in chosen]
            numbers = torch.tensor([start + i for i in chosen])
            yield (
                numbers.repeat_interleave(torch.tensor(counts)),
                (
                    _states(pair.sender, [sent[i] for i in chosen], corpus.positions),
                    _states(pair.receiver, [received[i] for i in chosen], corpus.positions),
                ),
            )
        progress(min(start + window, len(passages)))


def _check_alike(
    pair: Pair,
    names: Sequence[str],
    sent: Sequence[tuple[int, ...]],
    received: Sequence[tuple[int, ...]],
) -> None:
    for name, ours, theirs in zip(names, sent, received, strict=True):
        if ours != theirs:
            raise PairError(
                f"corpus {name}: {pair.sender.name} and {pair.receiver.name} tokenise it "
                "differently; a translator over all positions needs one tokenizer: fit on "
                "corpus.positions last"
            )


def fit_translators(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    seeds: Iterable[int],
    progress: Progress = lambda *_: None,
    *,
    stitched: bool = False,
    experiment: Experiment | None = None,
    evaluated: Sequence[DatasetRow] | None = None,
) -> dict[int, Translator]:
    """Fit one translator per seed and measure it on held-out passages.

    `stitched` adds the stitched next-token cross-entropy to each card: five receiver
    passes more over the held-out passages. It replaces states at every token, and so is left
    out of maps that were fitted on last tokens.

    The states of the corpus are captured once for all seeds. A map solved for in closed form has
    no randomness of its own: its seed chooses which nine tenths of the fitting
    passages it sees. Where `fit.causal` is set, each map is then trained on through the
    receiver; this needs the `experiment`, whose prompts it takes, and refuses rows that are
    `evaluated` (if not given: all rows of the experiment's dataset). Quality is that of the
    map that is returned. Each translator carries its card.

    Raises:
        TranslatorError: The corpus has too few positions, the kind does not fit, or a row to
            train on is evaluated.
        NumericError: A state or a loss is not finite.
    """
    seeds = list(seeds)
    start = corpus.held_out_start
    fit_all = _solved if fit.kind in SOLVED else _trained
    fitted = fit_all(pair, fit, corpus, seeds, progress)
    causal: dict[int, CausalRecord] = {}
    if fit.causal is not None:
        if experiment is None:
            raise TranslatorError(
                "fit.causal: training through the receiver needs the experiment's prompts; give "
                "fit_translators the experiment"
            )
        if evaluated is None:
            evaluated, _ = resolve_dataset(experiment.dataset)
        fitted, causal = train_fits_causally(
            experiment, pair, fit.causal, fitted, evaluated, progress
        )
    translators: dict[int, Translator] = {}
    held_out = corpus.passages[start:]
    for seed, result in fitted.items():
        translators[seed] = result.translator
        report = measure_quality(
            result.translator,
            paired_positions(
                pair,
                held_out,
                fit.corpus,
                lambda done: progress("quality", done, len(held_out)),
            ),
            result.means,
            sender_layer=pair.sender.layer_path,
            receiver_layer=pair.receiver.layer_path,
        )
        card = make_card(
            result.translator,
            sender=_origin(pair.sender),
            receiver=_origin(pair.receiver),
            corpus=corpus.record,
            training=result.record,
            causal=causal.get(seed),
            quality=(report,),
        )
        if stitched and fit.corpus.positions == "all":
            entropies = stitched_cross_entropy(
                pair,
                result.translator,
                held_out,
                fit.corpus.max_tokens,
                result.means.raw,
                lambda done, total: progress("stitch", done, total),
            )
            card = card.model_copy(update={"stitched": entropies})
        result.translator.card = card
    return translators


def layer_quality(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    sender_layers: Sequence[int | float | str],
    receiver_layers: Sequence[int | float | str],
    progress: Progress = lambda *_: None,
) -> list[QualityReport]:
    """Fit a ridge translator for every pair of layers and report how well each predicts.

    One pass over the corpus captures and fits, one over the held-out passages measures,
    for each pair of layers.
    """
    reports: list[QualityReport] = []
    total = len(sender_layers) * len(receiver_layers)
    for sender_layer in sender_layers:
        for receiver_layer in receiver_layers:
            at = Pair(pair.sender.at_layer(sender_layer), pair.receiver.at_layer(receiver_layer))
            ridge = fit.model_copy(update={"kind": "ridge", "rank": None, "causal": None})
            fitted = fit_translators(at, ridge, corpus, (0,))
            card = fitted[0].card
            if card is not None:
                reports += card.quality
            progress("layers", len(reports), total)
    return reports


def _solved(
    pair: Pair, fit: Fit, corpus: CorpusTexts, seeds: Sequence[int], progress: Progress
) -> dict[int, Fitted]:
    """Solve for every seed's map in one pass over the corpus."""
    fitting = corpus.passages[: corpus.held_out_start]
    # The solution has no randomness in it, so the seed chooses the passages: seeds then show
    # how much the map depends on its text.
    chosen = {
        seed: torch.tensor([row_key(seed, str(i)) % SOLVED_FOLDS != 0 for i in range(len(fitting))])
        for seed in seeds
    }
    device = pair.receiver.device
    sums = {seed: PositionSums(normalize=fit.normalize, device=device) for seed in seeds}
    for passages, (sender, receiver) in _positions_by_passage(
        pair, fitting, fit.corpus, lambda done: progress("capture", done, len(fitting))
    ):
        for seed in seeds:
            taken = chosen[seed][passages]
            sums[seed].add((sender[taken.to(sender.device)], receiver[taken.to(receiver.device)]))
    if fit.kind == "ridge":
        return {seed: solved(sums[seed], solve_ridge, fit.ridge) for seed in seeds}
    return {seed: solved(sums[seed], solve_procrustes, fit.procrustes) for seed in seeds}


def _trained(
    pair: Pair, fit: Fit, corpus: CorpusTexts, seeds: Sequence[int], progress: Progress
) -> dict[int, Fitted]:
    start = corpus.held_out_start
    results: dict[int, Fitted] = {}
    positions = paired_positions(
        pair,
        corpus.passages[:start],
        fit.corpus,
        lambda done: progress("capture", done, start),
    )
    with PositionStore.from_batches(positions, dtype=fit.training.store_dtype) as store:
        for place, seed in enumerate(seeds):
            results[seed] = train_translator(
                store,
                fit.training,
                kind=fit.kind,
                rank=fit.rank,
                seed=seed,
                normalize=fit.normalize,
                device=pair.receiver.device,
                progress=lambda step, steps, place=place: progress(  # type: ignore[misc]
                    "train", place * steps + step, len(seeds) * steps
                ),
            )
    return results


def _states(
    model: TracedModel, prompts: Sequence[tuple[int, ...]], positions: CorpusPositions
) -> torch.Tensor:
    batch = TokenBatch.pack(prompts, model.pad_id, model.device)
    with onednn_products():
        states = model.capture(batch)
    # Padding is on the left.
    return (states[:, -1] if positions == "last" else states[batch.mask]).float()


def _origin(model: TracedModel) -> StateOrigin:
    return StateOrigin(
        model=model.name, revision=model.revision, layer=model.layer_path, width=model.width
    )
