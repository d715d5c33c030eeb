"""Checks of the channel of states: do positions and widths of the two models meet?"""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError, TranslatorError
from statebridge.experiment.conditions import Condition, Positions
from statebridge.experiment.experiment import DEFAULT_SET, Experiment
from statebridge.models.chat import template_tail
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.runs.plan import PromptTable


def check_positions(positions: Positions, length: int, condition: str, row_id: str) -> None:
    """Refuse explicit positions that a prompt of `length` tokens does not have.

    Raises:
        ExperimentError: A position is out of range, or two of them are the same.
    """
    if isinstance(positions, str):
        return
    for position in positions:
        if not -length <= position < length:
            raise ExperimentError(
                f"condition {condition}: row {row_id} has {length} prompt tokens, so position "
                f"{position} does not exist; they run from 0 to {length - 1} or -{length} to -1"
            )
    if len({position % length for position in positions}) != len(positions):
        raise ExperimentError(
            f"condition {condition}: positions {list(positions)} name one token of row {row_id} "
            "twice"
        )


def check_meeting(workload: Workload) -> None:
    """Refuse rows in which the positions read and written do not meet.

    Raises:
        PairError: Sender and receiver tokenise differently where positions must meet.
        ExperimentError: Explicit positions that a prompt does not have.
    """
    plan, pair = workload.plan, workload.pair
    experiment, prompts = plan.experiment, plan.prompts
    for condition in experiment.resolved_conditions:
        if condition.uses_text:
            continue
        cells = [cell for cell in plan.cells if cell.condition == condition]
        received = prompts.read(condition.prompt)
        for index, row in enumerate(plan.rows[: plan.limit]):
            length = len(received[index])
            check_positions(condition.positions, length, condition.name, row.row_id)
            if condition.positions == "question":
                _check_question(condition, experiment, pair, row.row_id, prompts, index)
            if not condition.reads_sender:
                check_positions(condition.source_positions, length, condition.name, row.row_id)
                continue
            # A donor may come after the rows that run.
            donors = {plan.donor(cell, index) for cell in cells} if condition.shuffled else {index}
            for place in sorted(donors):
                sent, row_id = prompts.sender[place], plan.rows[place].row_id
                check_positions(condition.source_positions, len(sent), condition.name, row_id)
                _check_meet(condition, pair, plan.rows, prompts, index, place)


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


def check_widths(workload: Workload) -> None:
    """Refuse raw states or translators whose widths do not fit the pair.

    Raises:
        PairError: Raw states of another width than the receiver's.
        TranslatorError: A translator's widths are not those of the pair.
    """
    experiment, pair, translators = workload.plan.experiment, workload.pair, workload.translators
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
