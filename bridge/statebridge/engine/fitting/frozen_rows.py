"""Outputs of the two frozen models on the rows trained on: computed once, kept on disk.

While a translator is trained, neither model changes, so the sender's states, the receiver's
own states at the injection layer and the skyline are the same in every epoch and for every
seed. Memory is that of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from transformers import DynamicCache

from statebridge.channels.operators import ALIGNED_AT_THE_END, position_mask
from statebridge.channels.workload import Workload
from statebridge.engine.fitting.causal_rows import ChosenRows, choose_rows
from statebridge.engine.fitting.kept_prefixes import KeptPrefixes
from statebridge.engine.planning.prepare import prepare, stand_ins
from statebridge.errors import EnvironmentFault, TranslatorError
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Causal, Experiment
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.records import DatasetRow
from statebridge.runs.plan import Span, TokenIds
from statebridge.translators.state_file import StateFile, places

MOST_PADDING = 1.5
"""Positions of batches of one shape over those of the rows alone, at most."""


@dataclass(frozen=True, slots=True)
class FrozenBatch:
    """Some rows, with all that no map changes.

    Attributes:
        prompts: The receiver's prompts.
        whole: The same, each followed by its gold answer but for the last token.
        own: (rows, positions of `prompts`, receiver width) its own states there; 0 at padding.
        states: (rows, positions of `whole`, receiver width) its own states there; 0 at padding.
        prompted: (rows, positions of `whole`) bool: those of the prompts.
        sent: (positions read of all rows, sender width), row by row.
        source: The prompts that the positions read are counted in.
        read: (rows, positions of `source`) bool: where `sent` belongs.
        spans: As `combine_states` takes them.
        answers: Gold token ids.
        skyline: (rows, vocabulary) log-probabilities of the next token after the task prompt.
        before: Keys and values at the first columns of `whole`, which no written state reaches;
            None where there are no such columns.
    """

    prompts: TokenBatch
    whole: TokenBatch
    own: torch.Tensor
    states: torch.Tensor
    prompted: torch.Tensor
    sent: torch.Tensor
    source: TokenBatch
    read: torch.Tensor
    spans: tuple[Span, ...] | None
    answers: tuple[TokenIds, ...]
    skyline: torch.Tensor
    before: KeyValues | None


class FrozenRows:
    """The rows of a causal training and the frozen models' states at them."""

    def __init__(self, workload: Workload, causal: Causal, chosen: ChosenRows) -> None:
        self.pair = workload.pair
        self.causal = causal
        self.chosen = chosen
        self.condition: Condition = causal.condition
        self._work = workload
        self._answers = workload.plan.answers[self.condition.prompt]
        receiver = self.pair.receiver
        dtype = receiver.exact_dtype
        vocabulary = int(receiver.module.config.get_text_config().vocab_size)
        self._sent = StateFile(self.pair.sender.width, dtype)
        self._own = StateFile(receiver.width, dtype)
        self._skyline = StateFile(vocabulary, dtype)
        kept = self._first_written()
        self._prefixes = KeptPrefixes(kept, receiver.layer + 1, dtype)
        self._shape = self._one_shape(kept)
        # Where each row's states begin in the first two files, and after the last row.
        self._sent_start, self._own_start = [0], [0]

    def __len__(self) -> int:
        return len(self.chosen.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the disk space back; nothing can be read afterwards."""
        for file in (self._sent, self._own, self._skyline, self._prefixes):
            file.close()

    def capture(self, rows: Sequence[int]) -> None:
        """Run both models over the next rows and keep their states."""
        sender, receiver, prompts = self.pair.sender, self.pair.receiver, self._work.plan.prompts
        sent = sender.pack([prompts.sender[row] for row in rows])
        read = position_mask(
            sent, self.condition.source_positions, prompts.spans(self.condition, rows)
        )
        whole = self._whole(rows)
        task = receiver.pack([prompts.receiver[row] for row in rows])
        skyline = receiver.next_logits(task).to(receiver.exact_dtype)
        layers, cache = {receiver.layer}, DynamicCache()
        if self._prefixes.wanted:
            layers.add(len(receiver.block_paths) - 1)
        own = receiver.capture_layers(whole, sorted(layers), cache)[0]
        try:
            self._sent.write(sender.capture(sent)[read])
            self._own.write(own[whole.mask])
            if self._prefixes.wanted:
                self._prefixes.write(whole, cache)
            self._skyline.write(skyline.log_softmax(dim=-1))
        except OSError as error:
            positions = sum(whole.lengths) // len(rows)
            taken = self._skyline.bytes_per_state + positions * (
                self._own.bytes_per_state + self._prefixes.bytes_per_position
            )
            raise EnvironmentFault(
                f"cannot store the states of training row {rows[0]} on: {error.strerror}; a row "
                f"takes about {taken} bytes of temporary space"
            ) from error
        for count in read.sum(dim=1).tolist():
            self._sent_start.append(self._sent_start[-1] + count)
        for length in whole.lengths:
            self._own_start.append(self._own_start[-1] + length)

    def batch(self, rows: Sequence[int]) -> FrozenBatch:
        """Return some rows, in that order, on the receiver's device."""
        condition, receiver, table = self.condition, self.pair.receiver, self._work.plan.prompts
        width, columns = (0, None) if self._shape is None or not self.one_shape else self._shape
        prompts = receiver.pack([table.read(condition.prompt)[row] for row in rows])
        whole = self._whole(rows, width)
        read = self._own.read(places([self._own_start[row] for row in rows], whole.lengths))
        states = torch.zeros(*whole.ids.shape, receiver.width, dtype=receiver.dtype)
        states = states.to(receiver.device)
        states[whole.mask] = read.to(receiver.device, receiver.dtype)
        answered = [len(self._answers[row]) - 1 for row in rows]
        from_end = torch.arange(whole.ids.shape[1], 0, -1, device=receiver.device)
        after = from_end <= torch.tensor(answered, device=receiver.device)[:, None]
        prompted = whole.mask & ~after
        own = states.new_zeros(*prompts.ids.shape, receiver.width)
        own[prompts.mask] = states[prompted]
        spans, source = table.spans(condition, rows), prompts
        if condition.source_positions not in ALIGNED_AT_THE_END:
            source = receiver.pack([table.sender[row] for row in rows])
        return FrozenBatch(
            prompts=prompts,
            whole=whole,
            own=own,
            states=states,
            prompted=prompted,
            sent=self.sent(rows),
            source=source,
            read=position_mask(source, condition.source_positions, spans),
            spans=spans,
            answers=tuple(self._answers[row] for row in rows),
            skyline=self._skyline.read(np.array(rows)).to(receiver.device),
            before=self._prefixes.read(rows, whole, receiver.dtype, columns),
        )

    def sent(self, rows: Sequence[int]) -> torch.Tensor:
        """Return the sender's states at the positions read, (positions of all rows, width)."""
        starts = [self._sent_start[row] for row in rows]
        return self._sent.read(places(starts, self.sent_counts(rows))).to(self.pair.receiver.device)

    def sent_counts(self, rows: Sequence[int]) -> list[int]:
        """Return how many positions of each row the sender's states are read at."""
        return [self._sent_start[row + 1] - self._sent_start[row] for row in rows]

    @property
    def one_shape(self) -> bool:
        """Whether every batch has one shape: a row's loss then is the same beside any rows.

        It has where keys and values are kept, if that makes few positions of a batch padding.
        """
        return self._shape is not None and self._prefixes.wanted

    def _one_shape(self, kept: Sequence[int]) -> tuple[int, int] | None:
        """Return a width for every batch, and the columns before any written token of a row."""
        prompts = self._work.plan.prompts.read(self.condition.prompt)
        lengths = [len(p) + len(a) - 1 for p, a in zip(prompts, self._answers, strict=True)]
        # One more than the longest row: each batch is padded and goes with a mask, since the
        # attention of a batch without one adds in another order.
        width = max(lengths) + 1
        columns = width - max(whole - before for whole, before in zip(lengths, kept, strict=True))
        even = width * len(lengths) <= MOST_PADDING * sum(lengths) and 2 * columns >= width
        return (width, columns) if even and self.pair.receiver.rows_are_alone else None

    def _first_written(self) -> list[int]:
        """Return of each row how many tokens precede the first written one.

        0 for all where no block is above the injection layer: there is nothing to keep.
        """
        prompts, condition = self._work.plan.prompts, self.condition
        if self.pair.receiver.layer == len(self.pair.receiver.block_paths) - 1:
            return [0] * len(self)
        found = []
        for row, ids in enumerate(prompts.read(condition.prompt)):
            batch = TokenBatch.pack([ids], 0)
            mask = position_mask(batch, condition.positions, prompts.spans(condition, [row]))
            found.append(int(mask[0].int().argmax()))
        return found

    def _whole(self, rows: Sequence[int], width: int = 0) -> TokenBatch:
        prompts = self._work.plan.prompts.read(self.condition.prompt)
        ids = [(*prompts[row], *self._answers[row][:-1]) for row in rows]
        return self.pair.receiver.pack(ids, width=width)


def freeze_rows(
    experiment: Experiment,
    pair: Pair,
    causal: Causal,
    evaluated: Sequence[DatasetRow],
    progress: Callable[[int, int], None] = lambda *_: None,
) -> FrozenRows:
    """Choose the rows of a causal training and run both models over them once.

    Args:
        experiment: Gives prompts and decoding limits.
        evaluated: Rows that must not be trained on.
        progress: Called with rows done and rows in all.

    Raises:
        TranslatorError: The rows are evaluated ones or too few, or the receiver runs remotely.
        PairError, ExperimentError: As `prepare`, for the condition that is trained through.
        DatasetError: The file of rows is missing, unreadable or not the one declared.
        EnvironmentFault: No disk space for the states.
    """
    chosen, workload = prepare_rows(experiment, pair, causal, evaluated)
    frozen = FrozenRows(workload, causal, chosen)
    try:
        size = causal.training.batch_rows
        for start in range(0, len(frozen), size):
            stop = min(start + size, len(frozen))
            frozen.capture(range(start, stop))
            progress(stop, len(frozen))
    except BaseException:
        with suppress(Exception):
            frozen.close()
        raise
    return frozen


def prepare_rows(
    experiment: Experiment, pair: Pair, causal: Causal, evaluated: Sequence[DatasetRow]
) -> tuple[ChosenRows, Workload]:
    """Choose the rows of a causal training and make their prompts; no model runs.

    Raises:
        StatebridgeError: As `freeze_rows`.
    """
    if experiment.remotes[1] is not None:
        raise TranslatorError(
            f"causal: the receiver runs remotely ({experiment.remotes[1]}), and training through "
            "it needs its weights here; leave its remote out"
        )
    chosen = choose_rows(causal, evaluated)
    declared = _as_experiment(experiment, causal)
    return chosen, prepare(declared, pair, chosen.rows, stand_ins(declared, pair))


_SEED = 0


def _as_experiment(experiment: Experiment, causal: Causal) -> Experiment:
    """Return the training rows under the one condition as an experiment of their own."""
    return Experiment(
        name=experiment.name,
        sender=experiment.sender,
        receiver=experiment.receiver,
        dataset=causal.rows,
        translators={_SEED: Path("in-training.safetensors")},
        conditions=[causal.condition.model_copy(update={"translator": None})],
        seeds=(_SEED,),
        dtype=experiment.dtype,
        prompts=experiment.prompts,
        decoding=experiment.decoding,
    )
