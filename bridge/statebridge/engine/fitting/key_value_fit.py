"""Fitting maps of keys and values over a text corpus, and measuring them.

Source: arXiv 2608.03893. Besides the share of variance that a map explains, which there did not
predict what a message keeps, the card has the cosine of the receiver's attention output, and both
for the mean cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch

from statebridge.channels.messages.key_value_maps import empty_map, mapped, mean_message, shapes_of
from statebridge.data.training_texts import TrainingTexts
from statebridge.engine.fitting.corpus import PASSAGES_TOGETHER, CorpusTexts, in_fold, passage_ids
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Fit
from statebridge.experiment.translator_settings import KeyValueSettings
from statebridge.models.messages.attention_output import attention_cosines
from statebridge.models.messages.rotary import bare_states
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.translator_card import (
    CausalRecord,
    KeyValueQuality,
    KeyValueRecord,
    StateOrigin,
)
from statebridge.runs.plan import TokenIds
from statebridge.translators import Translator, make_card
from statebridge.translators.modules.key_value_map import KeyValueFit, KeyValueSums

Progress = Callable[[str, int, int], None]

Train = Callable[
    [Mapping[int, Translator]],
    tuple[dict[int, Translator], dict[int, CausalRecord], Sequence[DatasetRow]],
]
"""Trains maps by seed; returns them with their records, and the rows."""

COMPARED = 32
"""Held-out passages at most on which the attention's output is compared."""


def fit_key_values(
    pair: Pair,
    fit: Fit,
    corpus: CorpusTexts,
    sums: Mapping[int, KeyValueSums],
    progress: Progress,
    train: Train | None = None,
) -> dict[int, Translator]:
    """Solve for each seed's map, and measure it on held-out passages.

    Args:
        sums: By seed.
        train: Trains the maps on, before they are measured.

    Raises:
        PairError: The models tokenise a passage differently, or their heads do not fit.
        TranslatorError: Too few positions.
    """
    settings, start = fit.key_values, corpus.held_out_start
    solved: dict[int, KeyValueFit] = {}
    translators: dict[int, Translator] = {}
    for seed, gathered in sums.items():
        fitted = solved[seed] = gathered.solved(settings)
        progress("solve", len(solved), len(sums))
        translator = empty_map(pair, settings)
        translator.set_weights(dict(fitted.map.state_dict()), where="kv_ridge")
        translators[seed] = translator.eval().requires_grad_(False)
    causal: Mapping[int, CausalRecord] = {}
    trained_on = corpus.trained_on
    if train is not None:
        translators, causal, rows = train(translators)
        trained_on = trained_on.joined(TrainingTexts.of(rows))
    for seed, translator in translators.items():
        translator.to(pair.receiver.device)
        fitted = solved[seed]
        chosen = fitted.map.chosen.long().tolist()
        translator.card = make_card(
            translator,
            sender=_origin(pair.sender, translator.width_in),
            receiver=_origin(pair.receiver, translator.width_out),
            corpus=corpus.record,
            training=KeyValueRecord(
                settings=settings,
                training_positions=fitted.positions,
                sources=tuple(tuple(read) for read in chosen),
            ),
            causal=causal.get(seed),
            trained_on=trained_on,
        ).model_copy(
            update={
                "key_values": measured(
                    pair, fit, corpus.passages[start:], translator, fitted, progress
                )
            }
        )
    return translators


def key_value_sums(
    pair: Pair,
    fit: Fit,
    passages: Sequence[str],
    part: range,
    seeds: Sequence[int],
    progress: Callable[[int, int], None],
) -> dict[int, KeyValueSums]:
    """Return the sums over a part of the fitting passages; each seed sees nine tenths of them.

    Raises:
        PairError: The models tokenise a passage differently, or their heads do not fit.
    """
    shapes = shapes_of(pair, fit.key_values)
    sums = {seed: KeyValueSums(shapes[0], shapes[1], pair.receiver.device) for seed in seeds}
    for number, sent, received in _pairs(pair, passages, part, fit, progress):
        for seed in seeds:
            if in_fold(seed, number):
                sums[seed].add(sent, received)
    return sums


def measured(
    pair: Pair,
    fit: Fit,
    passages: Sequence[str],
    translator: Translator,
    fitted: KeyValueFit,
    progress: Progress,
) -> KeyValueQuality:
    """Return how well a map predicts the receiver's keys and values of passages."""
    shape = fitted.map.shape_out
    means = fitted.map.mean.flatten()
    squares = torch.zeros(3, shape[0], 2, dtype=torch.float64)
    total = torch.zeros(shape, dtype=torch.float64)
    count, cosines, compared = 0, torch.zeros(2, shape[0], dtype=torch.float64), 0
    everything, shown = range(len(passages)), partial(progress, "quality")
    for _, sent, received in _pairs(pair, passages, everything, fit, shown):
        with torch.no_grad():
            guessed = translator(sent)
        truth = received.double().cpu()
        for place, guess in enumerate((guessed.double().cpu(), means.double(), 0.0)):
            errors = (truth - guess).square().reshape(-1, *shape)
            squares[place] += errors.sum(dim=(0, 3, 4))
        total += truth.sum(dim=0).reshape(shape)
        count += len(truth)
    if not count:
        raise TranslatorError("corpus: no passage is left to measure quality on; give more text")
    variation = squares[2] - (total.square() / count).sum(dim=(2, 3))
    r2 = 1 - squares[:2] / variation.clamp_min(1e-30)
    for _, ids, _ in passage_ids(pair, passages[:COMPARED], fit.fitted_on):
        read = ids[: fit.fitted_on.max_tokens]
        cache = pair.sender.key_values(pair.sender.pack([read])).to(pair.receiver.device)
        average = mean_message(pair, translator, (len(read),))
        for place, message in enumerate((mapped(pair, translator, cache), average)):
            cosines[place] += torch.tensor(
                attention_cosines(pair.receiver, read, message), dtype=torch.float64
            )
        compared += 1
    cosines /= compared
    return KeyValueQuality(
        positions=count,
        passages_compared=compared,
        r2_keys=tuple(r2[0, :, 0].tolist()),
        r2_values=tuple(r2[0, :, 1].tolist()),
        attention_cosine=tuple(cosines[0].tolist()),
        baseline_r2_keys=tuple(r2[1, :, 0].tolist()),
        baseline_r2_values=tuple(r2[1, :, 1].tolist()),
        baseline_attention_cosine=tuple(cosines[1].tolist()),
    )


def _pairs(
    pair: Pair,
    passages: Sequence[str],
    part: range,
    fit: Fit,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield each passage's number, and both models' keys and values, (positions, width) each."""
    limit, sides = fit.fitted_on.max_tokens, (pair.sender, pair.receiver)
    for start in part[::PASSAGES_TOGETHER]:
        stop = min(start + PASSAGES_TOGETHER, part.stop)
        some = passages[start:stop]
        found = list(passage_ids(pair, some, fit.fitted_on, start))
        prompts: list[TokenIds] = [ids[:limit] for _, ids, _ in found]
        caches = [model.key_values(model.pack(prompts)) for model in sides]
        states = [
            bare_states(m.module, cache).to(pair.receiver.device).float()
            for m, cache in zip(sides, caches, strict=True)
        ]
        for place, (number, _, _) in enumerate(found):
            count = len(prompts[place])
            yield number, states[0][place, -count:], states[1][place, -count:]
        progress(stop, len(passages))


def _origin(model: TracedModel, width: int) -> StateOrigin:
    return StateOrigin(
        model=model.name, revision=model.revision, layer="keys and values", width=width
    )


def check_key_value_fit(pair: Pair, settings: KeyValueSettings, positions: int) -> None:
    """Refuse a corpus that does not determine a map, and a receiver that is elsewhere.

    Raises:
        TranslatorError: States how many positions are needed.
    """
    if pair.receiver.host.remote:
        raise TranslatorError(
            f"fit: kind kv_ridge is judged by the attention of {pair.receiver.name}, whose "
            "weights are elsewhere; fit it where the receiver runs here, and give its files"
        )
    (blocks, _, _, inputs), _ = shapes_of(pair, settings)
    needed = min(settings.sources, blocks) * inputs + 1
    if positions < needed and not settings.allow_underdetermined:
        raise TranslatorError(
            f"corpus: gives {positions} positions, but a map of keys and values from "
            f"{min(settings.sources, blocks)} blocks needs at least {needed}; give more text, "
            "lower key_values.sources, or set key_values.allow_underdetermined"
        )
