"""Training a translator through the frozen receiver: for its effect there, and not for fit.

From the fitted map on, the loss is gold_weight · cross-entropy of the gold answer +
skyline_weight · KL(skyline || receiver), of the receiver with the state written. The gradient
goes through the upper blocks into the map and nowhere else: no weight of either model changes.
Such a map shows whether a state of the sender *can* reach the receiver at all, which
a fit for likeness leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from statebridge.channels.operators import position_mask
from statebridge.engine.fitting.causal_loss import RowLosses, row_losses
from statebridge.engine.fitting.frozen_rows import FrozenRows, freeze_rows
from statebridge.engine.fitting.training import Asked, Progress, Training, carry_out, chunks
from statebridge.errors import TranslatorError
from statebridge.experiment.experiment import Causal, Experiment
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.results.translator_card import CausalRecord, StateOrigin
from statebridge.translators import Translator
from statebridge.translators.fit import Fit
from statebridge.translators.modules.maps import SMALLEST_NORM, rescale

ROWS_TOGETHER = 64
"""Most rows of several seeds in one pass, unless a single seed's step has more."""

LEAST_ROWS = 4
"""Rows of a pass where the rows have one shape; with fewer, MKL multiplies in another way."""


def train_causally(
    rows: FrozenRows,
    translator: Translator,
    *,
    seed: int = 42,
    progress: Progress = lambda *_: None,
) -> tuple[Translator, CausalRecord]:
    """Train a copy of a fitted translator through the receiver; return it with its record.

    The copy comes as every fit does: on the CPU, in float32, gradients off. The first epoch of
    the lowest validation loss is kept, which may be the start (epoch 0). The same rows, map,
    seed, machine and thread count give the same bytes.

    Where the condition does not match norms, the map is first scaled so that its output is as
    long as the states it stands for: a map of normalised states gives vectors of length about
    1, a residual stream has tens. The learning rate is that of a map between states of length
    1, however long they are.

    Raises:
        TranslatorError: The translator does not fit the pair, or there are too few rows for
            the split or the warm-up.
        NumericError: The loss leaves the finite numbers.
        EnvironmentFault: The activations of `batch_rows` rows do not fit into memory.
    """
    return train_seeds(rows, {seed: translator}, progress)[seed]


def train_seeds(
    rows: FrozenRows, starts: Mapping[int, Translator], progress: Progress = lambda *_: None
) -> dict[int, tuple[Translator, CausalRecord]]:
    """Train the maps of several seeds, each as `train_causally` does.

    Where the rows have one shape (`FrozenRows.one_shape`), steps of several seeds are taken in one
    pass through the receiver. Each row then has the loss and the gradient that it has in a pass of
    its own seed: to the bit where a product of matrices adds in the same order whatever the number
    of rows, as MKL does from `LEAST_ROWS` on, and to rounding elsewhere.

    Raises:
        StatebridgeError: As `train_causally`.
    """
    for translator in starts.values():
        _check_fits(translator, rows.pair)
    trainings = [_StateTraining(rows, start, seed) for seed, start in starts.items()]
    together = ROWS_TOGETHER // rows.causal.training.batch_rows if rows.one_shape else 1
    return dict(zip(starts, carry_out(trainings, progress, max(1, together)), strict=True))


def train_fits_causally(
    experiment: Experiment,
    pair: Pair,
    causal: Causal,
    fits: Mapping[int, Fit],
    evaluated: Sequence[DatasetRow],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[dict[int, Fit], dict[int, CausalRecord], Sequence[DatasetRow]]:
    """Train the fits of several seeds, all on the same captured states.

    Returns fits, records and the rows trained and validated on.

    `progress` is called with `causal_capture` and `causal_train`. Raises as `freeze_rows` and
    `train_causally` do.
    """
    trained: dict[int, Fit] = {}
    records: dict[int, CausalRecord] = {}
    capturing = partial(progress, "causal_capture")
    with freeze_rows(experiment, pair, causal, evaluated, capturing) as rows:
        starts = {seed: fit.translator for seed, fit in fits.items()}
        found = train_seeds(rows, starts, partial(progress, "causal_train"))
        for seed, (translator, record) in found.items():
            trained[seed], records[seed] = replace(fits[seed], translator=translator), record
        return trained, records, rows.chosen.rows


class _StateTraining(Training[FrozenRows]):
    """A map of states, in units of state lengths."""

    def set_up(self) -> None:
        """Scale the map to the lengths of states, and train it between states of length 1."""
        rows = self.rows
        sent, translated, written = _lengths(rows, self.map, self.training)
        matched = rows.condition.match_norm
        self.start_scale = 1.0 if matched else written / translated
        # Trained between states of length 1: one learning rate then serves every pair.
        self.inputs = 1.0 if self.map.normalize_input else 1 / sent
        self.outputs = translated if matched else written
        rescale(self.map.map, inputs=1 / self.inputs, outputs=self.start_scale / self.outputs)

    def set_back(self) -> None:
        """Scale the map to its inputs and outputs."""
        rescale(self.map.map, inputs=self.inputs, outputs=self.outputs)

    @staticmethod
    def row_losses(asked: Sequence[Asked]) -> list[RowLosses]:
        """Return the losses of rows with their states translated and written, in one pass."""
        rows = asked[0].training.rows
        sent = [sum(rows.sent_counts(each.rows)) for each in asked]

        every = [row for each in asked for row in each.rows]
        counts, count = [len(each.rows) for each in asked], len(every)
        if rows.one_shape:
            every += every[-1:] * (LEAST_ROWS - count)

        def translate(states: torch.Tensor) -> torch.Tensor:
            own, spare = states[: sum(sent)], states[sum(sent) :]
            parts = zip(asked, torch.split(own, sent), strict=True)
            translated = [each.training.translated(part) for each, part in parts]
            unused = states.new_zeros(len(spare), rows.pair.receiver.width)
            return torch.cat((*translated, unused))

        found = row_losses(rows.pair.receiver, rows.condition, rows.batch(every), translate)
        terms = (torch.split(term[:count], counts) for term in (found.gold, found.divergence))
        return [RowLosses(gold, divergence) for gold, divergence in zip(*terms, strict=True)]

    def translated(self, states: torch.Tensor) -> torch.Tensor:
        """Return the states to write, (positions, receiver width)."""
        translated: torch.Tensor = self.outputs * self.map(self.inputs * states)
        return translated


def _lengths(
    rows: FrozenRows, translator: Translator, chosen: Sequence[int]
) -> tuple[float, float, float]:
    """Return median L2 norms over the training rows; a median, since some states are huge.

    They are of the sender's states read, of their translations by the fitted map, and of the
    receiver's own states at the positions to be written.
    """
    sent, translated, written = [], [], []
    with torch.no_grad():
        for some in chunks(chosen, rows.causal.training.batch_rows):
            batch = rows.batch(some)
            where = position_mask(batch.prompts, rows.condition.positions, batch.spans)
            sent.append(batch.sent.norm(dim=-1))
            translated.append(translator(batch.sent).norm(dim=-1))
            written.append(batch.own[where].norm(dim=-1))
    return _median(sent), _median(translated), _median(written)


def _median(parts: Sequence[torch.Tensor]) -> float:
    median = float(torch.cat(list(parts)).double().median())
    # States of zero have no length to go by.
    return median if median > SMALLEST_NORM else 1.0


def _check_fits(translator: Translator, pair: Pair) -> None:
    sides = (("sender", pair.sender), ("receiver", pair.receiver))
    if (translator.width_in, translator.width_out) != (pair.sender.width, pair.receiver.width):
        raise TranslatorError(
            f"the translator maps width {translator.width_in} to {translator.width_out}; "
            f"{pair.sender.name} to {pair.receiver.name} needs {pair.sender.width} to "
            f"{pair.receiver.width}"
        )
    for side, model in sides if translator.card is not None else ():
        origin: StateOrigin | None = getattr(translator.card, side)
        if origin is not None and origin.layer != model.layer_path:
            raise TranslatorError(
                f"the translator was fitted to the {side}'s {origin.layer} of {origin.model}, but "
                f"the pair is at {model.layer_path} of {model.name}; fit one for these layers"
            )
