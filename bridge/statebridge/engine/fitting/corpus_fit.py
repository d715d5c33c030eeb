"""Fitting translators on a pair's states over a text corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from statebridge.data.training_texts import TrainingTexts
from statebridge.engine.fitting.causal_training import train_fits_causally
from statebridge.engine.fitting.corpus import (
    CorpusTexts,
    in_fold,
    paired_positions,
    positions_by_passage,
)
from statebridge.engine.fitting.fit_check import check_fit
from statebridge.engine.fitting.frozen_rows import prepare_rows
from statebridge.engine.fitting.key_value_fit import fit_key_values, key_value_sums
from statebridge.engine.fitting.message_training import fit_through, train_messages
from statebridge.engine.fitting.stitched import stitched_cross_entropy
from statebridge.engine.fitting.training import of_several
from statebridge.engine.layer_captures import searched_pair
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.experiment.translator_settings import KEY_VALUE_KIND, SOLVED, THROUGH_ONLY
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.translator_card import (
    CausalRecord,
    QualityReport,
    StateOrigin,
)
from statebridge.tasks.declared_rows import resolve_dataset
from statebridge.translators import (
    PositionStore,
    Translator,
    make_card,
    measure_quality,
    train_translator,
)
from statebridge.translators.closed_form.centred_sums import PositionSums
from statebridge.translators.closed_form.procrustes import solve_procrustes
from statebridge.translators.closed_form.ridge import solve_ridge
from statebridge.translators.fit import Fit as Fitted
from statebridge.translators.fit import solved

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and out of how much."""


class Sums(Protocol):
    """Sums over positions from which a closed form solves for a map."""

    def merge(self, other: Any) -> None:
        """Take in the sums over positions that follow."""

    def to(self, device: torch.device | str) -> None:
        """Move the sums."""


def fit_translators(  # noqa: PLR0913 - the last five have their defaults
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    seeds: Iterable[int],
    progress: Progress = lambda *_: None,
    *,
    stitched: bool = False,
    experiment: Experiment | None = None,
    evaluated: Sequence[DatasetRow] | None = None,
    sums: Mapping[int, Sums] | None = None,
) -> dict[int, Translator]:
    """Fit one translator per seed and measure it on held-out passages.

    `stitched` adds the stitched next-token cross-entropy to each card: five receiver
    passes more over the held-out passages. It replaces states at every token, and so is left
    out of maps that were fitted on last tokens.

    The states of the corpus are captured once for all seeds. A map solved for in closed form has
    no randomness of its own: its seed chooses which nine tenths of the fitting passages it sees.
    Where `fit.causal` is set, each map is then trained on through the receiver; this needs the
    `experiment`, whose prompts it takes, and refuses rows that are `evaluated` (by default all
    rows of the experiment's dataset). Quality is that of the returned map. Each translator
    carries its card. `sums` are those of a closed form, by seed, where they were gathered before.

    Raises:
        TranslatorError: The corpus has too few positions, the kind does not fit, or a row to
            train on is evaluated.
        NumericError: A state or a loss is not finite.
    """
    seeds = list(seeds)
    evaluated = check_fits(pair, fit, corpus, seeds, experiment, evaluated)
    if fit.kind in THROUGH_ONLY and experiment is not None and evaluated is not None:
        return fit_through(experiment, pair, fit, seeds, evaluated, progress)
    if fit.kind == KEY_VALUE_KIND:
        train = None
        if fit.causal is not None and experiment is not None and evaluated is not None:
            on = partial(train_messages, experiment, pair, fit.causal)
            train = partial(on, evaluated=evaluated, progress=progress)
        key_values: Any = sums or gathered_sums(pair, fit, corpus, seeds, progress)
        return fit_key_values(pair, fit, corpus, key_values, progress, train)
    start = corpus.held_out_start
    if fit.kind in SOLVED:
        found = sums or gathered_sums(pair, fit, corpus, seeds, progress)
        fitted = _solved(fit, found)
    else:
        fitted = _trained(pair, fit, corpus, seeds, progress)
    causal: dict[int, CausalRecord] = {}
    trained_on = corpus.trained_on
    if fit.causal is not None and experiment is not None and evaluated is not None:
        fitted, causal, rows = train_fits_causally(
            experiment, pair, fit.causal, fitted, evaluated, progress
        )
        trained_on = trained_on.joined(TrainingTexts.of(rows))
    translators: dict[int, Translator] = {}
    held_out = corpus.passages[start:]
    for seed, result in fitted.items():
        translators[seed] = result.translator
        report = measure_quality(
            result.translator,
            paired_positions(pair, held_out, fit.fitted_on, partial(progress, "quality")),
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
            trained_on=trained_on,
            quality=(report,),
        )
        if stitched and fit.fitted_on.positions == "all":
            entropies = stitched_cross_entropy(
                pair,
                result.translator,
                held_out,
                fit.fitted_on.max_tokens,
                result.means.raw,
                partial(progress, "stitch"),
            )
            card = card.model_copy(update={"stitched": entropies})
        result.translator.card = card
    return translators


def check_fits(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    seeds: Iterable[int],
    experiment: Experiment | None,
    evaluated: Sequence[DatasetRow] | None,
) -> Sequence[DatasetRow] | None:
    """Refuse what `fit_translators` would, before the corpus is captured.

    Returns the rows that no map may be trained on through the receiver: by default those of the
    experiment's dataset.

    Raises:
        TranslatorError: As `fit_translators`.
    """
    check_fit(pair, fit, corpus, seeds)
    if fit.causal is None:
        return evaluated
    if experiment is None:
        raise TranslatorError(
            "fit.causal: training through the receiver needs the experiment's prompts; give "
            "fit_translators the experiment"
        )
    if evaluated is None:
        evaluated, _ = resolve_dataset(experiment.dataset)
    prepare_rows(experiment, pair, fit.causal, evaluated)
    return evaluated


def layer_quality(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    sender_layers: Sequence[int | float | str],
    receiver_layers: Sequence[int | float | str],
    progress: Progress = lambda *_: None,
) -> list[QualityReport]:
    """Fit a ridge translator for every pair of layers and report how well each predicts.

    One pass over the corpus captures all layers, as far as there is memory to keep their states.
    """
    senders = [pair.sender.at_layer(layer).layer for layer in sender_layers]
    receivers = [pair.receiver.at_layer(layer).layer for layer in receiver_layers]
    pair = searched_pair(pair, senders, receivers)
    reports: list[QualityReport] = []
    total = len(senders) * len(receivers)
    for sender_layer in senders:
        for receiver_layer in receivers:
            at = Pair(pair.sender.at_layer(sender_layer), pair.receiver.at_layer(receiver_layer))
            ridge = fit.model_copy(update={"kind": "ridge", "rank": None, "causal": None})
            fitted = fit_translators(at, ridge, corpus, (0,))
            card = fitted[0].card
            if card is not None:
                reports += card.quality
            progress("layers", len(reports), total)
    return reports


def gathered_sums(
    pair: Pair, fit: Fit, corpus: CorpusTexts, seeds: Sequence[int], progress: Progress
) -> dict[int, Sums]:
    """Return the sums of a closed form for every seed, in one pass over the corpus."""
    first, *others = corpus.parts
    sums = part_sums(pair, fit, corpus, first, seeds, progress)
    for part in others:
        merge_sums(sums, part_sums(pair, fit, corpus, part, seeds, progress))
    return sums


def merge_sums(sums: Mapping[int, Sums], following: Mapping[int, Sums]) -> None:
    """Add the sums of the part that follows, for every seed."""
    for seed, own in sums.items():
        own.merge(following[seed])


def part_sums(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    part: range,
    seeds: Sequence[int],
    progress: Progress = lambda *_: None,
) -> dict[int, Sums]:
    """Return the sums of a closed form over a part of the fitting passages, for every seed."""
    fitting, shown = corpus.passages[: corpus.held_out_start], partial(progress, "capture")
    if fit.kind == KEY_VALUE_KIND:
        return dict(key_value_sums(pair, fit, fitting, part, seeds, shown))
    chosen = {
        seed: torch.tensor([in_fold(seed, passage) for passage in range(part.stop)])
        for seed in seeds
    }
    device = pair.receiver.device
    sums = {seed: PositionSums(normalize=fit.normalize, device=device) for seed in seeds}
    for passages, (sender, receiver) in positions_by_passage(
        pair, fitting, part, fit.fitted_on, shown
    ):
        for seed in seeds:
            taken = chosen[seed][passages]
            sums[seed].add((sender[taken.to(sender.device)], receiver[taken.to(receiver.device)]))
    return dict(sums)


def _solved(fit: Fit, sums: Mapping[int, Any]) -> dict[int, Fitted]:
    if fit.kind == "ridge":
        return {seed: solved(each, solve_ridge, fit.ridge) for seed, each in sums.items()}
    return {seed: solved(each, solve_procrustes, fit.procrustes) for seed, each in sums.items()}


def _trained(
    pair: Pair, fit: Fit, corpus: CorpusTexts, seeds: Sequence[int], progress: Progress
) -> dict[int, Fitted]:
    results: dict[int, Fitted] = {}
    fitting = corpus.passages[: corpus.held_out_start]
    positions = paired_positions(pair, fitting, fit.fitted_on, partial(progress, "capture"))
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
                progress=of_several(progress, "train", place, len(seeds)),
            )
    return results


def _origin(model: TracedModel) -> StateOrigin:
    return StateOrigin(
        model=model.name, revision=model.revision, layer=model.layer_path, width=model.width
    )
