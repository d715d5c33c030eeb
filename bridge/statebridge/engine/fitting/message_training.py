"""Training what makes a message through the frozen receiver, by the loss on its own next tokens.

Each step makes the rows' messages with the very channel that a run uses. The frozen models read
their prompts anew at each step: caches of all rows would take more disk than time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

import torch

from statebridge.channels.channel import CHANNELS
from statebridge.channels.messages.message_maps import empty_message_map
from statebridge.channels.workload import Workload
from statebridge.data.training_texts import TrainingTexts
from statebridge.engine.fitting.causal_loss import RowLosses, answer_losses
from statebridge.engine.fitting.causal_rows import ChosenRows
from statebridge.engine.fitting.frozen_rows import prepare_rows
from statebridge.engine.fitting.training import Asked, Training, carry_out
from statebridge.errors import TranslatorError
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Causal, Experiment, Fit
from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.translator_card import CausalRecord, StateOrigin
from statebridge.runs.plan import TokenIds
from statebridge.translators import Translator, make_card
from statebridge.translators.modules.maps import initialise
from statebridge.translators.state_file import StateFile

Progress = Callable[[str, int, int], None]


class MessageRows:
    """The rows of a training, and the skyline's log-probabilities after each."""

    def __init__(self, workload: Workload, causal: Causal, chosen: ChosenRows) -> None:
        """Take rows whose prompts are made."""
        self.pair: Pair = workload.pair
        self.causal, self.chosen = causal, chosen
        self.condition: Condition = causal.condition
        self._work = workload
        (self._cell,) = workload.plan.cells
        receiver = self.pair.receiver
        vocabulary = int(receiver.module.config.get_text_config().vocab_size)
        self._skyline = StateFile(vocabulary, receiver.exact_dtype)

    def __len__(self) -> int:
        return len(self.chosen.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._skyline.close()

    def capture(self, progress: Callable[[int, int], None]) -> None:
        """Keep the skyline of all rows."""
        receiver, size = self.pair.receiver, self.causal.training.batch_rows
        prompts = self._work.plan.prompts.receiver
        for start in range(0, len(self), size):
            some = prompts[start : start + size]
            logits = receiver.next_logits(receiver.pack(some)).to(receiver.exact_dtype)
            self._skyline.write(logits.log_softmax(dim=-1))
            progress(min(start + size, len(self)), len(self))

    def losses(self, rows: Sequence[int], translator: Translator) -> RowLosses:
        """Return the losses of rows behind the messages that a map makes of them."""
        plan, cell, receiver = self._work.plan, self._cell, self.pair.receiver
        work = replace(self._work, translators={plan.translator_key(cell): translator})
        channel = CHANNELS.get(cell.condition.channel_name)()
        make = getattr(channel, "message", None)
        if make is None:
            raise TranslatorError(
                f"through: {cell.condition.name}: channel {cell.condition.channel_name} has no "
                "message of its own (no method `message`), so no map is trained through it"
            )
        answers = [plan.answers[cell.condition.prompt][row] for row in rows]
        prompts = [plan.prompts.read(cell.condition.prompt)[row] for row in rows]
        logits = answer_logits(receiver, make(work, cell, rows), prompts, answers)
        skyline = torch.cat([self._skyline.read(slice(row, row + 1)) for row in rows])
        return answer_losses(logits, answers, skyline.to(receiver.device))


def answer_logits(
    receiver: TracedModel,
    message: KeyValues,
    prompts: Sequence[TokenIds],
    answers: Sequence[TokenIds],
) -> torch.Tensor:
    """Return the logits before each token of answers behind messages and prompts.

    Differentiable in the messages.

    Returns:
        (rows, tokens of the longest answer, vocabulary), shorter answers at the end.
    """
    if message.fused is not None:
        prompts = [prompt[-1:] for prompt in prompts]
    batch = receiver.pack([(*p, *a[:-1]) for p, a in zip(prompts, answers, strict=True)])
    mask, places = message.before(batch.mask)
    with attention(receiver.module):
        logits: torch.Tensor = receiver.module(
            input_ids=batch.ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=message.cache(),
            use_cache=True,
            logits_to_keep=max(map(len, answers)),
        ).logits
    return logits


class _MessageTraining(Training[MessageRows]):
    @staticmethod
    def row_losses(asked: Sequence[Asked]) -> list[RowLosses]:
        """Return the losses of rows behind their messages, which each map makes in its own pass."""
        return [each.training.rows.losses(each.rows, each.training.map) for each in asked]


def train_messages(
    experiment: Experiment,
    pair: Pair,
    causal: Causal,
    starts: Mapping[int, Translator],
    evaluated: Sequence[DatasetRow],
    progress: Progress = lambda *_: None,
) -> tuple[dict[int, Translator], dict[int, CausalRecord], Sequence[DatasetRow]]:
    """Train the maps of several seeds on the same rows; return maps, records and the rows.

    Raises:
        TranslatorError: The rows are evaluated ones or too few, or the receiver runs remotely.
        NumericError: The loss leaves the finite numbers.
        EnvironmentFault: The activations of `batch_rows` rows do not fit into memory.
    """
    chosen, workload = prepare_rows(experiment, pair, causal, evaluated)
    with MessageRows(workload, causal, chosen) as rows:
        rows.capture(partial(progress, "causal_capture"))
        trainings = [_MessageTraining(rows, start, seed) for seed, start in starts.items()]
        found = carry_out(trainings, partial(progress, "causal_train"))
    trained = {seed: translator for seed, (translator, _) in zip(starts, found, strict=True)}
    records = {seed: record for seed, (_, record) in zip(starts, found, strict=True)}
    return trained, records, chosen.rows


def fit_through(
    experiment: Experiment,
    pair: Pair,
    fit: Fit,
    seeds: Sequence[int],
    evaluated: Sequence[DatasetRow],
    progress: Progress = lambda *_: None,
) -> dict[int, Translator]:
    """Draw each seed's map of a kind that has no fit of its own, and train it.

    Raises:
        StatebridgeError: As `train_messages`.
    """
    assert fit.causal is not None  # noqa: S101 - the declaration of such a kind has it
    starts = {seed: drawn_map(pair, fit, seed) for seed in seeds}
    trained, records, rows = train_messages(
        experiment, pair, fit.causal, starts, evaluated, progress
    )
    for seed, translator in trained.items():
        translator.card = make_card(
            translator,
            sender=message_origin(pair.sender, translator.width_in, fit.kind),
            receiver=message_origin(pair.receiver, translator.width_out, fit.kind),
            causal=records[seed],
            trained_on=TrainingTexts.of(rows),
        )
    return trained


def drawn_map(pair: Pair, fit: Fit, seed: int) -> Translator:
    """Return a map with weights drawn by a seed."""
    drawn = empty_message_map(pair, fit.kind, fit)
    initialise(drawn.map, torch.Generator().manual_seed(seed))
    begin = getattr(drawn.map, "begin", None)
    if begin is not None:
        begin()
    return drawn


def message_origin(model: TracedModel, width: int, kind: str) -> StateOrigin:
    """Return what a map of messages reads or makes of a model."""
    layer = model.layer_path if kind == "resampler" else "keys and values"
    return StateOrigin(model=model.name, revision=model.revision, layer=layer, width=width)
