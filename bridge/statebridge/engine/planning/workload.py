"""Everything that a group of rows needs to be run: pair, prompts, translators, draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from statebridge.channels.donors import Donors, choose_donors
from statebridge.channels.noise import Noise, noise_of
from statebridge.channels.operators import check_positions
from statebridge.engine.planning.chat import template_tail
from statebridge.engine.planning.prompts import (
    TEXTLESS,
    PromptTable,
    answer_ids,
    build_prompts,
    check_answer_window,
    prompt_text,
)
from statebridge.errors import PairError, TranslatorError
from statebridge.experiment.cells import Cell, experiment_cells
from statebridge.experiment.conditions import Condition, Prompt
from statebridge.experiment.experiment import DEFAULT_SET, Experiment
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.translators import Translator

TranslatorKey = tuple[str, int]
"""Name of a set of translators, and a seed."""


@dataclass(frozen=True, slots=True)
class Workload:
    """An experiment made ready: nothing in it changes while groups run.

    Row indices are those of the whole dataset, of which `limit` rows run; donors and
    published draws are chosen over the whole.

    Attributes:
        prompts: Prompts of all rows.
        answers: Gold token ids of the rows that run, by the prompt that they follow.
        translators: By name of their set and seed.
        donors: By seed, where a condition shuffles.
        noise: By prompt and seed, where a condition draws.
    """

    experiment: Experiment
    pair: Pair
    rows: Sequence[DatasetRow]
    limit: int
    cells: tuple[Cell, ...]
    prompts: PromptTable
    answers: Mapping[Prompt, tuple[tuple[int, ...], ...]]
    translators: Mapping[TranslatorKey, Translator]
    donors: Mapping[int, Donors]
    noise: Mapping[tuple[Prompt, int], Noise]

    def included(self, cell: Cell, row: int) -> bool:
        """Whether the row runs in the cell (a strict shuffle leaves lone rows out)."""
        if not cell.condition.shuffled or cell.condition.lone_rows == "self":
            return True
        donors = self.donors[seed_of(cell)]
        if cell.condition.lone_rows == "nearest":
            return row not in donors.lone or row in donors.nearest
        return row not in donors.lone

    def donor(self, cell: Cell, row: int) -> int:
        """Whose translated states the row gets in a shuffled cell."""
        return _donor(self.donors[seed_of(cell)], cell.condition, row)

    def noise_of(self, cell: Cell, row: int) -> torch.Tensor:
        """Return the row's draw in a random cell, (positions of its prompt, width)."""
        return self.noise[cell.condition.prompt, seed_of(cell)].draw(row)

    def translator_key(self, cell: Cell) -> TranslatorKey:
        """Return which translator a translating cell uses."""
        return self.experiment.translator_set(cell.condition), seed_of(cell)


def prepare(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    translators: Mapping[TranslatorKey, Translator] | Mapping[int, Translator],
) -> Workload:
    """Tokenise, choose donors and draws, and check what can be checked before a forward pass.

    `translators` are by name of their set and seed, or by seed where there is one set.

    Raises:
        PairError: Sender and receiver tokenise differently where positions must meet,
            widths that differ where raw states are sent, prompts beyond the window.
        TranslatorError: A translator's widths do not fit the pair.
        ExperimentError: Explicit positions that a prompt does not have.
    """
    cells = experiment_cells(experiment)
    conditions = experiment.resolved_conditions
    # Where a question stands follows from the sender's prompt, whatever is written there.
    reads_sender = any(c.reads_sender or c.positions == "question" for c in conditions)
    used = {condition.prompt for condition in conditions}
    prompts = build_prompts(
        pair, rows, experiment.prompts, experiment.decoding, sender=reads_sender, used=used
    )
    limit = min(experiment.limit or len(rows), len(rows))
    row_ids = [row.row_id for row in rows]
    shuffles = any(condition.shuffled for condition in conditions)
    donors = {
        seed: choose_donors(prompts.lengths, row_ids, seed, experiment.rng)
        for seed in (experiment.seeds if shuffles else ())
    }
    _check_positions_meet(experiment, pair, rows, prompts, donors, limit)
    keyed = {
        (DEFAULT_SET, key) if isinstance(key, int) else key: translator
        for key, translator in translators.items()
    }
    _check_widths(experiment, pair, keyed)
    return Workload(
        experiment=experiment,
        pair=pair,
        rows=rows,
        limit=limit,
        cells=cells,
        prompts=prompts,
        answers=_answers(experiment, pair, rows[:limit], prompts, used),
        translators=keyed,
        donors=donors,
        noise=_noise(experiment, pair, row_ids, prompts),
    )


def _answers(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    used: Collection[Prompt],
) -> dict[Prompt, tuple[tuple[int, ...], ...]]:
    answers: dict[Prompt, tuple[tuple[int, ...], ...]] = {}
    # The text of a placeholder prompt is not its own; its end, and so its answer, is.
    for prompt in (prompt for prompt in TEXTLESS if prompt in used):
        ids = tuple(
            answer_ids(
                pair.receiver,
                prompt_text(experiment.prompts, prompt, row),
                row.answer,
                experiment.prompts.chat,
            )
            for row in rows
        )
        row_ids = [row.row_id for row in rows]
        check_answer_window(pair.receiver, prompts.read(prompt)[: len(rows)], ids, row_ids)
        answers[prompt] = ids
    return answers


def _noise(
    experiment: Experiment, pair: Pair, row_ids: Sequence[str], prompts: PromptTable
) -> dict[tuple[Prompt, int], Noise]:
    noise: dict[tuple[Prompt, int], Noise] = {}
    drawing = {c.prompt for c in experiment.resolved_conditions if c.source == "random"}
    width = pair.receiver.width
    for prompt in drawing:
        lengths = [len(ids) for ids in prompts.read(prompt)]
        for seed in experiment.seeds:
            noise[prompt, seed] = noise_of(experiment.rng, seed, row_ids, lengths, width)
    return noise


def seed_of(cell: Cell) -> int:
    """Return the seed of a cell that has one."""
    if cell.seed is None:
        raise ValueError(f"cell {cell.name} has no seed")
    return cell.seed


def _donor(donors: Donors, condition: Condition, row: int) -> int:
    if condition.lone_rows == "nearest" and row in donors.nearest:
        return donors.nearest[row]
    return donors.of_row[row]


def _check_positions_meet(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    donors: Mapping[int, Donors],
    limit: int,
) -> None:
    for condition in experiment.resolved_conditions:
        received = prompts.read(condition.prompt)
        for index, row in enumerate(rows[:limit]):
            length = len(received[index])
            check_positions(condition.positions, length, condition.name, row.row_id)
            if condition.positions == "question":
                _check_question(condition, experiment, pair, row.row_id, prompts, index)
            if not condition.reads_sender:
                check_positions(condition.source_positions, length, condition.name, row.row_id)
                continue
            # A donor may stand beyond the rows that run.
            read = {_donor(found, condition, index) for found in donors.values()}
            for place in sorted(read) if condition.shuffled else [index]:
                sent, row_id = prompts.sender[place], rows[place].row_id
                check_positions(condition.source_positions, len(sent), condition.name, row_id)
                _check_meet(condition, pair, rows, prompts, index, place)


def _check_question(
    condition: Condition,
    experiment: Experiment,
    pair: Pair,
    row_id: str,
    prompts: PromptTable,
    index: int,
) -> None:
    """Refuse a row whose prompts do not end in the same question."""
    limit = experiment.decoding.max_prompt_tokens
    if index in prompts.cut:
        raise PairError(
            f"row {row_id}: its prompt is cut at {limit} tokens, the question among what is cut, "
            f"so condition {condition.name} finds no question to write at; raise "
            "decoding.max_prompt_tokens, or use positions: last"
        )
    sent, received = prompts.sender[index], prompts.read(condition.prompt)[index]
    span = prompts.span(condition.prompt, "question", index)
    shared = 0 if span is None else -span[0]
    # Ids of two tokenizers can be equal by accident, and stand for different text.
    tokens = [
        model.tokenizer.convert_ids_to_tokens(list(ids[len(ids) - shared :]))
        for model, ids in ((pair.sender, sent), (pair.receiver, received))
    ]
    tail = template_tail(pair.receiver.tokenizer, experiment.prompts.chat, pair.receiver.name)
    if shared <= tail or tokens[0] != tokens[1]:
        raise PairError(
            f"row {row_id}: the prompts of {pair.sender.name} and {pair.receiver.name} do not end "
            f"in the same tokens, so condition {condition.name} finds no question to write at; "
            "use a pair with one tokenizer, or positions: last"
        )


def _check_meet(
    condition: Condition,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    index: int,
    place: int,
) -> None:
    """Refuse positions of the sender's row `place` that have no place in the receiver's `index`."""
    sent, received = prompts.sender[place], prompts.read(condition.prompt)[index]
    row_id = rows[place].row_id
    sides = f"{pair.sender.name} and {pair.receiver.name}"
    if condition.source_positions == "question":
        span = prompts.span(condition.prompt, "question", index)
        if span is not None and -span[0] > len(sent):
            raise PairError(
                f"row {row_id}: its prompt of {len(sent)} tokens is shorter than the question of "
                f"row {rows[index].row_id}, which takes its states in condition "
                f"{condition.name}; use positions: last"
            )
        return
    if condition.source_positions == "placeholder":
        if len(sent) != len(received) or not prompts.ids_match(place):
            raise PairError(
                f"row {row_id}: the sender reads {len(sent)} tokens and the placeholder prompt of "
                f"row {rows[index].row_id} has {len(received)}, so condition {condition.name} "
                "cannot write position by position; use one tokenizer and no prompts.sender"
            )
        return
    if condition.source_positions != "all":
        return
    if condition.prompt == "question_only":
        raise PairError(
            f"row {row_id}: the sender reads {len(sent)} tokens and the receiver, which does not "
            f"see the context, {len(received)}, so condition {condition.name} cannot write "
            "position by position; use positions last or question, or prompt: placeholder"
        )
    # Equal lengths alone could be those of two tokenizers that cut the text at other places.
    same = len(sent) == len(received) and prompts.ids_match(place)
    if not same:
        raise PairError(
            f"row {row_id}: {sides} tokenise the prompt differently ({len(sent)} and "
            f"{len(received)} tokens), so condition {condition.name} cannot write position by "
            "position; use a pair with one tokenizer, or source_positions: last"
        )


def _check_widths(
    experiment: Experiment, pair: Pair, translators: Mapping[TranslatorKey, Translator]
) -> None:
    sender, receiver = pair.sender, pair.receiver
    for condition in experiment.resolved_conditions:
        if condition.raw and condition.align == "equal" and sender.width != receiver.width:
            raise PairError(
                f"condition {condition.name}: raw states of width {sender.width} do not fit a "
                f"receiver of width {receiver.width}; set align: last_dimensions, or translate"
            )
        if not condition.translates:
            continue
        for seed in experiment.seeds:
            name = experiment.translator_set(condition)
            translator = translators[name, seed]
            if (translator.width_in, translator.width_out) != (sender.width, receiver.width):
                which = f"seed {seed}" if name == DEFAULT_SET else f"{name}, seed {seed},"
                raise TranslatorError(
                    f"translator of {which} maps width {translator.width_in} to "
                    f"{translator.width_out}; {sender.name} to {receiver.name} needs "
                    f"{sender.width} to {receiver.width}"
                )
