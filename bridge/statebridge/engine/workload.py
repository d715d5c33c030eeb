"""Everything that a group of rows needs to be run: pair, prompts, translators, draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statebridge.engine.donors import Donors, choose_donors
from statebridge.engine.injection import check_positions
from statebridge.engine.noise import Noise, PerRowNoise, PublishedNoise
from statebridge.engine.prompts import (
    PromptTable,
    answer_ids,
    build_prompts,
    check_answer_window,
)
from statebridge.errors import PairError, TranslatorError
from statebridge.models.pair import Pair
from statebridge.results.table import DatasetRow
from statebridge.spec.cells import Cell, experiment_cells
from statebridge.spec.experiment import Experiment
from statebridge.translators import Translator


@dataclass(frozen=True, slots=True)
class Workload:
    """An experiment made ready: nothing in it changes while groups run.

    Row indices are those of the whole dataset, of which `limit` rows run; donors and
    published draws are chosen over the whole.

    Attributes:
        prompts: Task prompts of all rows.
        answers: Gold token ids of the rows that run.
        translators: By seed.
        donors: By seed, where a condition shuffles.
        noise: By seed, where a condition draws.
    """

    experiment: Experiment
    pair: Pair
    rows: Sequence[DatasetRow]
    limit: int
    cells: tuple[Cell, ...]
    prompts: PromptTable
    answers: tuple[tuple[int, ...], ...]
    translators: Mapping[int, Translator]
    donors: Mapping[int, Donors]
    noise: Mapping[int, Noise]

    def included(self, cell: Cell, row: int) -> bool:
        """Whether the row runs in the cell (a strict shuffle leaves lone rows out)."""
        if cell.condition.source != "shuffled" or cell.condition.lone_rows == "self":
            return True
        return row not in self.donors[_seed(cell)].lone

    def donor(self, cell: Cell, row: int) -> int:
        """Whose translated states the row gets in a shuffled cell."""
        return self.donors[_seed(cell)].of_row[row]


def prepare(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    translators: Mapping[int, Translator],
) -> Workload:
    """Tokenise, choose donors and draws, and check what can be checked before a forward pass.

    Raises:
        PairError: Sender and receiver tokenise differently where positions must meet,
            widths that differ where raw states are sent, prompts beyond the window.
        TranslatorError: A translator's widths do not fit the pair.
        ExperimentError: Explicit positions that a prompt does not have.
    """
    cells = experiment_cells(experiment)
    conditions = experiment.resolved_conditions
    reads_sender = any(condition.reads_sender for condition in conditions)
    prompts = build_prompts(
        pair, rows, experiment.prompts, experiment.decoding, sender=reads_sender
    )
    limit = min(experiment.limit or len(rows), len(rows))
    row_ids = [row.row_id for row in rows]
    seeds = experiment.seeds
    shuffles = any(condition.source == "shuffled" for condition in conditions)
    donors = {
        seed: choose_donors(prompts.lengths, row_ids, seed, experiment.rng)
        for seed in (seeds if shuffles else ())
    }
    _check_positions_meet(experiment, pair, rows, prompts, donors, limit)
    _check_widths(experiment, pair, translators)
    draws = any(condition.source == "random" for condition in conditions)
    width, lengths = pair.receiver.width, prompts.lengths
    noise: dict[int, Noise] = {}
    for seed in seeds if draws else ():
        noise[seed] = (
            PublishedNoise(seed, lengths, width)
            if experiment.rng == "published"
            else PerRowNoise(seed, row_ids, lengths, width)
        )
    answers = tuple(
        answer_ids(
            pair.receiver,
            experiment.prompts.task.format(context=row.context, question=row.question),
            row.answer,
        )
        for row in rows[:limit]
    )
    check_answer_window(pair.receiver, prompts.receiver[:limit], answers, row_ids[:limit])
    return Workload(
        experiment=experiment,
        pair=pair,
        rows=rows,
        limit=limit,
        cells=cells,
        prompts=prompts,
        answers=answers,
        translators=translators,
        donors=donors,
        noise=noise,
    )


def _seed(cell: Cell) -> int:
    if cell.seed is None:
        raise ValueError(f"cell {cell.name} has no seed")
    return cell.seed


def _check_positions_meet(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    donors: Mapping[int, Donors],
    limit: int,
) -> None:
    for condition in experiment.resolved_conditions:
        for index, row in enumerate(rows[:limit]):
            length = len(prompts.receiver[index])
            check_positions(condition.positions, length, condition.name, row.row_id)
            if not condition.reads_sender:
                check_positions(condition.source_positions, length, condition.name, row.row_id)
                continue
            # A donor may stand beyond the rows that run.
            shuffled = condition.source == "shuffled"
            read = {chosen.of_row[index] for chosen in donors.values()} if shuffled else {index}
            for place in sorted(read):
                sent, row_id = prompts.sender[place], rows[place].row_id
                check_positions(condition.source_positions, len(sent), condition.name, row_id)
                if condition.source_positions == "all" and not prompts.ids_match(place):
                    raise PairError(
                        f"row {row_id}: {pair.sender.name} and {pair.receiver.name} tokenise the "
                        f"prompt differently ({len(sent)} and {len(prompts.receiver[place])} "
                        f"tokens), so condition {condition.name} cannot write position by "
                        "position; use a pair with one tokenizer, or source_positions: last"
                    )


def _check_widths(
    experiment: Experiment, pair: Pair, translators: Mapping[int, Translator]
) -> None:
    sender, receiver = pair.sender, pair.receiver
    for condition in experiment.resolved_conditions:
        if (
            condition.source == "sender"
            and condition.align == "equal"
            and sender.width != receiver.width
        ):
            raise PairError(
                f"condition {condition.name}: raw states of width {sender.width} do not fit a "
                f"receiver of width {receiver.width}; set align: last_dimensions, or translate"
            )
    if not any(condition.translates for condition in experiment.resolved_conditions):
        return
    for seed in experiment.seeds:
        translator = translators[seed]
        if (translator.width_in, translator.width_out) != (sender.width, receiver.width):
            raise TranslatorError(
                f"translator of seed {seed} maps width {translator.width_in} to "
                f"{translator.width_out}; {sender.name} to {receiver.name} needs {sender.width} "
                f"to {receiver.width}"
            )
