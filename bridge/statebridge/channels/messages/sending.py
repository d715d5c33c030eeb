"""Sending a message: who cannot, and one pass of the sender for all cells that are alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from statebridge.channels.channel import LaneRow, Operations
from statebridge.channels.inputs.prompts import TEXTLESS
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Site
from statebridge.models.families import FAMILIES, turning_point
from statebridge.models.messages.key_values import KeyValues, sliding_window
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import Turns

T = TypeVar("T")

ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Names in a configuration's `layer_types` of blocks whose cache is keys and values."""


def carry_messages(
    operations: Operations,
    cells: Sequence[Cell],
    rows: Sequence[int],
    alike: Callable[[Cell], Hashable],
    read: Callable[[Cell, Sequence[Turns]], T],
    message: Callable[[Cell, T, Sequence[int]], KeyValues],
) -> list[LaneRow]:
    """Run the sender once for all cells that are alike and send the same prompts; prepend.

    Args:
        alike: Of cells, equal where one pass of the sender serves both.
        read: What the senders give for the prompts of their turns under a cell.
        message: A cell's message for some of the rows, by the places of their turns among those
            read.
    """
    work = operations.workload
    by_pass: dict[tuple[tuple[Turns, ...], Hashable], list[Cell]] = {}
    for cell in cells:
        included = (row for row in rows if work.plan.included(cell, row))
        # In order, each once: several rows may get the same.
        needed = tuple(dict.fromkeys(work.plan.turns(cell, row) for row in included))
        if needed:
            by_pass.setdefault((needed, alike(cell)), []).append(cell)
    results: list[LaneRow] = []
    for (needed, _), same in by_pass.items():
        sent = read(same[0], needed)
        place = {turns: i for i, turns in enumerate(needed)}

        def messages(
            cell: Cell,
            some: Sequence[int],
            sent: T = sent,
            place: dict[Turns, int] = place,
        ) -> KeyValues:
            return message(cell, sent, [place[work.plan.turns(cell, row)] for row in some])

        results += operations.prepend(same, rows, messages)
    return results


def check_appending(workload: Workload, cells: Sequence[Cell], channel: str, site: Site) -> None:
    """Refuse conditions, runs and receivers that no message can be in front of."""
    for condition in (cell.condition for cell in cells):
        if condition.site != site or condition.prompt not in TEXTLESS:
            raise ExperimentError(
                f"condition {condition.name}: channel {channel} takes site: {site} and prompt "
                f"{', '.join(TEXTLESS)}"
            )
    check_whole(workload, cells)
    receiver = workload.pair.receiver
    check_family(receiver, channel)
    attending = receiver.module.config._attn_implementation
    if attending != "sdpa":
        raise PairError(
            f"{receiver.name}: channel {channel} needs attention sdpa, and the model uses "
            f"{attending}"
        )


def check_whole(workload: Workload, cells: Sequence[Cell]) -> None:
    """Refuse messages of some layers where the receiver runs remotely."""
    remote = workload.plan.experiment.remotes[1]
    for condition in (cell.condition for cell in cells):
        if remote is not None and condition.layers not in (None, "all"):
            raise ExperimentError(
                f"condition {condition.name}: a remote receiver ({remote}) has one attention mask "
                "for all layers, so a message has all of them there; write layers: all, or leave "
                "the receiver's remote out"
            )


def check_family(model: TracedModel, channel: str) -> None:
    """Refuse a model whose cache may be of another kind."""
    kind = model.module.config.model_type
    if kind not in FAMILIES:
        raise PairError(
            f"{model.name}: channel {channel} does not know the cache of model type {kind!r}; it "
            f"knows {', '.join(FAMILIES)}"
        )


def check_attention(model: TracedModel, why: str) -> None:
    """Refuse a sender whose cache is not of keys and values alone: what it read before is lost.

    Args:
        why: What has to be read behind a cache, for the message.
    """
    config = model.module.config.get_text_config()
    kinds = {*(getattr(config, "layer_types", None) or ())}
    if getattr(model.module, "_is_stateful", False) or not kinds <= ATTENTION_LAYERS:
        raise PairError(
            f"{model.name}: {why} needs a sender with attention in every block, and model type "
            f"{config.model_type!r} has recurrent or convolutional ones; use soft_tokens by "
            "resampler, or channel states"
        )


def check_steps(
    workload: Workload,
    cell: Cell,
    row: int,
    prompt: int,
    steps: int,
    before: int = 0,
    side: Side = "sender",
) -> None:
    """Refuse steps of a sender that reach beyond what it can read.

    Args:
        side: The model that it is.
        prompt: Tokens of its prompt.
        before: Positions of other senders' messages in front of it.
    """
    sender = workload.model(side)
    positions = before + prompt + steps
    sliding = sliding_window(sender.module.config.get_text_config()) if before else None
    for limit, what in (
        (sender.window, "the context window"),
        (turning_point(sender.module), "the length up to which positions are encoded alike"),
        (sliding, "the sliding window"),
    ):
        if limit is not None and positions > limit:
            raise PairError(
                f"row {workload.plan.rows[row].row_id}, condition {cell.condition.name}: the "
                f"sender's prompt and its {steps} steps ({positions} positions"
                f"{', other messages included' if before else ''}) reach beyond {what} of "
                f"{sender.name} ({limit}); lower decoding.max_prompt_tokens or the number of steps"
            )


def check_lengths(workload: Workload, cell: Cell, positions: Callable[[int], int]) -> None:
    """Refuse rows whose message and prompt reach beyond what the receiver sees.

    Args:
        positions: Most positions of a row's message.
    """
    plan, receiver = workload.plan, workload.pair.receiver
    condition, sliding = cell.condition, sliding_window(receiver.module.config.get_text_config())
    turn = turning_point(receiver.module)
    new = plan.experiment.decoding.max_new_tokens if plan.experiment.decode else 0
    for row in range(plan.limit):
        if not plan.included(cell, row):
            continue
        message = positions(row)
        prompt = len(plan.prompts.read(condition.prompt)[row])
        beside = plan.others[condition.prompt][row] if plan.others else ()
        answers = plan.answers[condition.prompt][row], *beside
        whole = message + prompt + max(new, *map(len, answers))
        where = (
            f"row {plan.rows[row].row_id}, condition {condition.name}: a message of {message} "
            f"positions, a prompt of {prompt} tokens and the answer"
        )
        if receiver.window is not None and whole > receiver.window:
            raise PairError(
                f"{where} reach beyond the context window of {receiver.name} ({receiver.window}); "
                "lower decoding.max_prompt_tokens or decoding.max_new_tokens"
            )
        if turn is not None and whole > turn:
            raise PairError(
                f"{where} are longer than {turn} tokens, beyond which {receiver.name} encodes "
                "positions otherwise than before; use shorter contexts"
            )
        if sliding is not None and whole > sliding:
            raise PairError(
                f"{where} are longer than the sliding window of {receiver.name} ({sliding}), so "
                "some of its layers would not see the message; use shorter contexts, or a model "
                "without sliding windows"
            )
