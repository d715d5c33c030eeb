"""Whether a fit can succeed, found out from its text before a state is captured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from statebridge.channels.messages.message_maps import empty_message_map
from statebridge.engine.fitting.corpus import CorpusTexts, in_fold, passage_ids
from statebridge.engine.fitting.key_value_fit import check_key_value_fit
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Fit
from statebridge.experiment.translator_settings import CLOSED_FORM, KEY_VALUE_KIND, THROUGH_ONLY
from statebridge.models.pair import Pair
from statebridge.translators import Translator
from statebridge.translators.optimiser import count_steps, validation_start


@dataclass(frozen=True, slots=True)
class FitSize:
    """Numbers from which the time of a fit is estimated.

    Attributes:
        tokens: Tokens of all passages, as the sender reads them; the receiver reads as many or so.
        positions: Positions that a fit sees, of every seed.
        cut: Passages that are longer than `corpus.max_tokens`.
    """

    tokens: int
    positions: int
    cut: int


def check_fit(pair: Pair, fit: Fit, corpus: CorpusTexts, seeds: Iterable[int]) -> FitSize:
    """Refuse a fit that would fail after the states are captured; return its size.

    Raises:
        TranslatorError: Options that do not fit the widths, or too few positions.
        PairError: The two models tokenise a passage differently where they may not.
    """
    if fit.kind in THROUGH_ONLY:
        with torch.device("meta"):
            empty_message_map(pair, fit.kind, fit)
        return FitSize(0, 0, 0)
    widths = pair.sender.width, pair.receiver.width
    kind = "affine" if fit.kind in CLOSED_FORM else fit.kind
    options = {name: value for name, value in fit.options.items() if value is not None}
    with torch.device("meta"):
        Translator(kind, *widths, options=options)
    counts = [0] * len(corpus.passages)
    tokens = cut = 0
    limit = fit.fitted_on.max_tokens
    for number, sent, _ in passage_ids(pair, corpus.passages, fit.fitted_on):
        read = min(len(sent), limit)
        counts[number] = read if fit.fitted_on.positions == "all" else 1
        tokens, cut = tokens + read, cut + (len(sent) > limit)
    start = corpus.held_out_start
    fitting = counts[:start]
    if not sum(counts[start:]):
        raise TranslatorError(
            f"corpus {corpus.record.name}: no passage is left to measure quality on; give more "
            "text, or raise max_tokens"
        )
    if fit.kind not in CLOSED_FORM:
        kept = validation_start(sum(fitting), fit.training.validation_fraction)
        count_steps(fit.training, kept, fit.training.batch_size)
        return FitSize(tokens, sum(fitting), cut)
    smallest = min(
        sum(count for place, count in enumerate(fitting) if in_fold(seed, place)) for seed in seeds
    )
    if fit.kind == KEY_VALUE_KIND:
        check_key_value_fit(pair, fit.key_values, smallest)
        return FitSize(tokens, sum(fitting), cut)
    underdetermined = fit.kind == "ridge" and fit.ridge.allow_underdetermined
    needed = 1 if underdetermined else (widths[0] if fit.kind == "ridge" else min(widths)) + 1
    if smallest < needed:
        raise TranslatorError(
            f"corpus {corpus.record.name}: gives {smallest} positions, but a map from width "
            f"{widths[0]} to {widths[1]} of kind {fit.kind} needs at least {needed}; give more text"
            + (
                ", or set allow_underdetermined with a regularisation above 0"
                if fit.kind == "ridge" and not underdetermined
                else ""
            )
        )
    return FitSize(tokens, sum(fitting), cut)
