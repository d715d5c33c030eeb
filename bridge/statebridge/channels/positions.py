"""Checks of the channel of states: whether positions and widths of the two models meet."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError, TranslatorError
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import DEFAULT_SET
from statebridge.experiment.positions import Positions
from statebridge.experiment.sources import SOURCES
from statebridge.experiment.translator_settings import MESSAGE_KINDS, RESAMPLER_KIND
from statebridge.models.chat import template_tail


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


def check_meeting(workload: Workload, cells: Sequence[Cell]) -> None:
    """Refuse rows in which the positions read and written do not meet.

    Raises:
        PairError: Sender and receiver tokenise differently where positions must meet.
        ExperimentError: Explicit positions that a prompt does not have.
    """
    plan = workload.plan
    prompts = plan.prompts
    for condition in dict.fromkeys(cell.condition for cell in cells):
        own = [cell for cell in cells if cell.condition == condition]
        received = prompts.read(condition.prompt)
        for index, row in enumerate(plan.rows[: plan.limit]):
            length = len(received[index])
            check_positions(condition.positions, length, condition.name, row.row_id)
            if condition.positions == "question":
                _check_question(workload, condition, index)
            if not condition.reads_sender:
                check_positions(condition.source_positions, length, condition.name, row.row_id)
                continue
            # A donor may come after the rows that run.
            donors = {plan.donor(cell, index) for cell in own} if condition.shuffled else {index}
            for donor in sorted(donors):
                length = len(prompts.sent(condition.sender_context, donor))
                row_id = plan.rows[donor].row_id
                check_positions(condition.source_positions, length, condition.name, row_id)
                _check_donor(workload, condition, index, donor)


def _check_question(workload: Workload, condition: Condition, index: int) -> None:
    """Refuse a row whose prompts do not end in the same question."""
    plan, pair = workload.plan, workload.pair
    prompts, row_id = plan.prompts, plan.rows[index].row_id
    if index in prompts.cut and plan.experiment.decoding.truncate == "right":
        raise PairError(
            f"row {row_id}: its prompt is cut at {plan.experiment.decoding.max_prompt_tokens} "
            f"tokens, the question among what is cut, so condition {condition.name} finds no "
            "question to write at; raise decoding.max_prompt_tokens, or use positions: last"
        )
    span = prompts.span(condition.prompt, "question", index)
    shared = 0 if span is None else -span[0]
    # Ids of two tokenizers can be equal by accident, for different text.
    sent, received = (
        model.tokenizer.convert_ids_to_tokens(list(ids[len(ids) - shared :]))
        for model, ids in (
            (pair.sender, prompts.sender[index]),
            (pair.receiver, prompts.read(condition.prompt)[index]),
        )
    )
    chat = plan.experiment.prompts.chat
    tail = template_tail(pair.receiver.tokenizer, chat, pair.receiver.name)
    if shared <= tail or sent != received:
        raise PairError(
            f"row {row_id}: the prompts of {pair.sender.name} and {pair.receiver.name} do not end "
            f"in the same tokens, so condition {condition.name} finds no question to write at; "
            "use a pair with one tokenizer, or positions: last"
        )


def _check_donor(workload: Workload, condition: Condition, index: int, donor: int) -> None:
    """Refuse positions of the sender's row `donor` that have no place in the receiver's `index`."""
    plan, pair = workload.plan, workload.pair
    prompts, row_id, own_id = plan.prompts, plan.rows[donor].row_id, plan.rows[index].row_id
    sent = len(prompts.sent(condition.sender_context, donor))
    received = len(prompts.read(condition.prompt)[index])
    # Equal lengths alone could be those of two tokenizers that cut the text at other places.
    alike = sent == received and prompts.ids_match(donor)
    if condition.sender_context == "empty" and condition.source_positions in (
        "all",
        "placeholder",
    ):
        raise PairError(
            f"row {row_id}: without its context the sender reads {sent} tokens, so condition "
            f"{condition.name} cannot write position by position; use sender_context: neutral, "
            "or positions last or question"
        )
    if condition.source_positions == "question":
        span = prompts.span(condition.prompt, "question", index)
        if span is not None and -span[0] > sent:
            raise PairError(
                f"row {row_id}: its prompt of {sent} tokens is shorter than the question of row "
                f"{own_id}, which takes its states in condition {condition.name}; use positions: "
                "last"
            )
    elif condition.source_positions == "placeholder" and not alike:
        raise PairError(
            f"row {row_id}: the sender reads {sent} tokens and the placeholder prompt of row "
            f"{own_id} has {received}, so condition {condition.name} cannot write position by "
            "position; use one tokenizer and no prompts.sender"
        )
    elif condition.source_positions == "all" and condition.prompt == "question_only":
        raise PairError(
            f"row {row_id}: the sender reads {sent} tokens and the receiver, which does not see "
            f"the context, {received}, so condition {condition.name} cannot write position by "
            "position; use positions last or question, or prompt: placeholder"
        )
    elif condition.source_positions == "all" and not alike:
        raise PairError(
            f"row {row_id}: {pair.sender.name} and {pair.receiver.name} tokenise the prompt "
            f"differently ({sent} and {received} tokens), so condition {condition.name} cannot "
            "write position by position; use a pair with one tokenizer, or source_positions: last"
        )


def check_widths(workload: Workload, cells: Sequence[Cell]) -> None:
    """Refuse raw states or translators whose widths do not fit the pair.

    Raises:
        PairError: Raw states of another width than the receiver's.
        TranslatorError: A translator's widths are not those of the pair.
    """
    sender, receiver = workload.pair.sender, workload.pair.receiver
    for cell in cells:
        condition = cell.condition
        if condition.raw and condition.align == "equal" and sender.width != receiver.width:
            translate = "translate"
            if condition.source in SOURCES.added_elsewhere():
                translate = f"declare translates in source {condition.source} if it translates"
            raise PairError(
                f"condition {condition.name}: raw states of width {sender.width} do not fit a "
                f"receiver of width {receiver.width}; set align: last_dimensions, or {translate}"
            )
        if condition.state_file is not None:
            width = len(condition.state_file.vector())
            if width != receiver.width:
                raise PairError(
                    f"condition {condition.name}: {condition.state_file.path} has width {width}, "
                    f"the receiver {receiver.width}; give a vector of its width"
                )
        if not condition.translates:
            continue
        name, seed = workload.plan.translator_key(cell)
        translator = workload.translators[name, seed]
        if translator.kind in MESSAGE_KINDS:
            what = (
                "makes soft tokens" if translator.kind == RESAMPLER_KIND else "maps keys and values"
            )
            raise TranslatorError(f"condition {condition.name}: its translator {what}, not states")
        if (translator.width_in, translator.width_out) != (sender.width, receiver.width):
            which = f"seed {seed}" if name == DEFAULT_SET else f"{name}, seed {seed},"
            raise TranslatorError(
                f"translator of {which} maps width {translator.width_in} to "
                f"{translator.width_out}; {sender.name} to {receiver.name} needs "
                f"{sender.width} to {receiver.width}"
            )
