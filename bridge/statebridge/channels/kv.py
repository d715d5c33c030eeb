"""The channel of keys and values: the sender's cache in front of the receiver's prompt.

Source: KVComm (arXiv 2510.03346). There is no map, so both models have the same key-value heads,
as one model or fine-tunes of one base have. The receiver reads its own whole prompt; its tokens
take the positions behind the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statebridge.channels.channel import CHANNELS, LaneRow, Operations
from statebridge.channels.layer_choice import chosen_layers, measured_importance
from statebridge.channels.prompts import TEXTLESS
from statebridge.channels.states import prompts_to_send
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.cells import Cell
from statebridge.experiment.message import LayerShare
from statebridge.models.families import FAMILIES, turning_point
from statebridge.models.input_vectors import LatentMap, latent_step, roll_out
from statebridge.models.key_values import KeyValues, cache_heads, sliding_window
from statebridge.models.rotary import check_rotary, moved
from statebridge.runs.plan import TokenIds


@CHANNELS.add("kv")
class KeyValueChannel:
    """Prepends the sender's keys and values, of all layers or some of them."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse models whose caches do not fit, and messages that the receiver cannot see."""
        for condition in (cell.condition for cell in cells):
            if condition.site != "kv" or condition.prompt not in TEXTLESS:
                raise ExperimentError(
                    f"condition {condition.name}: channel kv takes site: kv and prompt "
                    f"{', '.join(TEXTLESS)}"
                )
        _check_pair(workload)
        if any(cell.condition.reposition == "rotate" for cell in cells):
            check_rotary(workload.pair.sender.module)
        for cell in cells:
            _check_layers(workload, cell)
            _check_lengths(workload, cell)

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Run the sender once for all cells that send the same prompts, and prepend its cache."""
        work = operations.workload
        by_pass: dict[Any, list[Cell]] = {}
        for cell in cells:
            needed = prompts_to_send(work, [cell], rows)
            if needed:
                by_pass.setdefault((tuple(needed), _latent_steps(cell)), []).append(cell)
        results: list[LaneRow] = []
        for same in by_pass.values():
            needed = prompts_to_send(work, same[:1], rows)
            sent = _sent(work, list(needed.values()), same[0])
            place = {prompt: i for i, prompt in enumerate(needed.values())}

            def messages(
                cell: Cell,
                some: Sequence[int],
                sent: KeyValues = sent,
                place: dict[TokenIds, int] = place,
            ) -> KeyValues:
                chosen = sent.select([place[work.plan.sent(cell, row)] for row in some])
                return _kept(work, cell, chosen).shortened(_layers(work, cell))

            results += operations.prepend(same, rows, messages)
        return results


def _latent_steps(cell: Cell) -> tuple[int, LatentMap | None, int | None]:
    """Return the number of latent steps, their map, and the seed that it is drawn by."""
    rollout = cell.condition.rollout
    if rollout is None or rollout.steps == 0:
        return 0, None, None
    return rollout.steps, rollout.by, cell.seed if cell.condition.latent_seeded else None


def _sent(work: Workload, prompts: Sequence[TokenIds], cell: Cell) -> KeyValues:
    """Return the sender's keys and values after prompts, on the receiver's device."""
    sender, (steps, by, seed) = work.pair.sender, _latent_steps(cell)
    batch = sender.pack(prompts)
    if by is None:
        found = sender.key_values(batch)
    else:
        key: Any = ("latent step", by, seed)
        if key not in work.found:
            work.found[key] = latent_step(sender, by, seed)
        found = roll_out(sender, batch, steps, work.found[key])
    return found.to(work.pair.receiver.device)


def _kept(work: Workload, cell: Cell, sent: KeyValues) -> KeyValues:
    """Return the entries that a cell sends: all, or those of the latent steps alone."""
    rollout = cell.condition.rollout
    if rollout is None or rollout.keep == "both":
        return sent
    latents = sent.last(rollout.steps)
    if cell.condition.reposition != "rotate" or rollout.steps == 0:
        return latents
    starts = [length - rollout.steps for length in sent.lengths]
    return moved(work.pair.sender.module, latents, starts)


def _layers(work: Workload, cell: Cell) -> frozenset[int]:
    layers, prompt = cell.condition.layers, cell.condition.prompt

    def importance() -> list[float]:
        """Return each layer's importance, measured once for all groups: row by row, own content."""
        key: Any = ("kv importance", layers, prompt, _latent_steps(cell), cell.condition.rollout)
        if key not in work.found:
            assert isinstance(layers, LayerShare)  # noqa: S101 - nothing else asks for it
            rows = work.plan.rows_of(layers)
            of_rows = [
                measured_importance(
                    work.pair.receiver,
                    work.plan.prompts.read(prompt)[row],
                    _kept(work, cell, _sent(work, [work.plan.prompts.sender[row]], cell)),
                )
                for row in rows
            ]
            work.found[key] = [sum(values) / len(rows) for values in zip(*of_rows, strict=True)]
        found: list[float] = work.found[key]
        return found

    return chosen_layers(layers, len(work.pair.receiver.block_paths), cell.seed, importance)


def _check_pair(workload: Workload) -> None:
    """Refuse two models whose caches do not fit each other."""
    sender, receiver = workload.pair.sender, workload.pair.receiver
    experiment = workload.plan.experiment
    if experiment.runs_remotely:
        raise ExperimentError(
            "remote: a cache of keys and values cannot enter a remote job, so channel kv runs "
            "here only; leave remote out"
        )
    for model in (sender, receiver):
        kind = model.module.config.model_type
        if kind not in FAMILIES:
            raise PairError(
                f"{model.name}: channel kv does not know the cache of model type {kind!r}; it "
                f"knows {', '.join(FAMILIES)}"
            )
    if sender.tokenizer.get_vocab() != receiver.tokenizer.get_vocab():
        raise PairError(
            f"{sender.name} and {receiver.name} have different tokenizers, and channel kv needs "
            "one; use one model, or fine-tunes of one base"
        )
    ours, theirs = (
        (len(model.block_paths), *cache_heads(model.module.config.get_text_config()))
        for model in (sender, receiver)
    )
    if ours != theirs:
        words = "{} blocks of {} key-value heads of width {}"
        raise PairError(
            f"channel kv has no map between {words.format(*ours)} ({sender.name}) and "
            f"{words.format(*theirs)} ({receiver.name}); use one model, or fine-tunes of one base"
        )
    attending = receiver.module.config._attn_implementation
    if attending != "sdpa":
        raise PairError(
            f"{receiver.name}: channel kv needs attention sdpa, and the model uses {attending}"
        )


def _check_layers(workload: Workload, cell: Cell) -> None:
    layers, depth = cell.condition.layers, len(workload.pair.receiver.block_paths)
    for layer in layers if isinstance(layers, tuple) else ():
        if not -depth <= layer < depth:
            raise ExperimentError(
                f"condition {cell.condition.name}: layer {layer} is out of range; the models have "
                f"{depth} blocks, 0 to {depth - 1} (or -{depth} to -1)"
            )


def _check_rollout(workload: Workload, cell: Cell, row: int, positions: int) -> None:
    sender = workload.pair.sender
    turn = turning_point(sender.module)
    for limit, words in (
        (sender.window, "reach beyond the context window"),
        (turn, "reach beyond the length at which positions are encoded otherwise"),
    ):
        if limit is not None and positions > limit:
            raise PairError(
                f"row {workload.plan.rows[row].row_id}, condition {cell.condition.name}: the "
                f"sender's prompt and its latent steps ({positions} positions) {words} of "
                f"{sender.name} ({limit}); lower decoding.max_prompt_tokens or rollout.steps"
            )


def _check_lengths(workload: Workload, cell: Cell) -> None:
    """Refuse rows whose message and prompt reach beyond what the receiver sees."""
    plan, receiver = workload.plan, workload.pair.receiver
    condition, sliding = cell.condition, sliding_window(receiver.module.config.get_text_config())
    turn = turning_point(receiver.module)
    new = plan.experiment.decoding.max_new_tokens if plan.experiment.decode else 0
    for row in range(plan.limit):
        if not plan.included(cell, row):
            continue
        read = len(plan.sent(cell, row))
        message = read
        if condition.rollout is not None:
            steps = condition.rollout.steps
            message = steps + (read if condition.rollout.keep == "both" else 0)
            _check_rollout(workload, cell, row, read + steps)
        prompt = len(plan.prompts.read(condition.prompt)[row])
        beside = plan.others[condition.prompt][row] if plan.others else ()
        answers = plan.answers[condition.prompt][row], *beside
        whole = message + prompt + max(new, *map(len, answers))
        where = (
            f"row {plan.rows[row].row_id}, condition {condition.name}: a message of {message} "
            f"tokens, a prompt of {prompt} and the answer"
        )
        if receiver.window is not None and whole > receiver.window:
            raise PairError(
                f"{where} reach beyond the context window of {receiver.name} ({receiver.window}); "
                "lower decoding.max_prompt_tokens or decoding.max_new_tokens"
            )
        if turn is not None and whole > turn:
            raise PairError(
                f"{where} are longer than {turn} tokens, beyond which {receiver.name} encodes "
                "positions otherwise than the sender did; use shorter contexts"
            )
        if sliding is not None and whole > sliding:
            raise PairError(
                f"{where} are longer than the sliding window of {receiver.name} ({sliding}), so "
                "some of its layers would not see the message; use shorter contexts, or a model "
                "without sliding windows"
            )
