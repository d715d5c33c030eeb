"""The channel of fused caches: the receiver's own keys and values, changed by a fuser.

Source: C2C (arXiv 2510.03215). Both models read tokens that meet one by one. Of the receiver's
cache, all but the last token's entries pass a fuser that also sees the sender's; the last token and
the answer are the receiver's own. Block t of the receiver meets block t + (depth of the sender −
depth of the receiver) of the sender, or block 0. Beyond the paper, the receiver may read the
question alone: the question's tokens then meet, and the sender's keys are moved to the receiver's
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from statebridge.channels.channel import CHANNELS, LaneRow, Operations
from statebridge.channels.inputs.prompts import TEXTLESS, build_prompts
from statebridge.channels.messages.sending import check_family
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError, TranslatorError
from statebridge.experiment.cells import Cell
from statebridge.experiment.message import Fusing
from statebridge.experiment.translator_settings import FUSER_KIND, FuserSettings
from statebridge.models.messages.key_values import KeyValues, cache_heads
from statebridge.models.messages.rotary import check_rotary, moved
from statebridge.models.messages.token_alignment import TokenAlignment
from statebridge.models.pair import Pair
from statebridge.runs.plan import PromptTable, TokenIds, shared_end
from statebridge.translators import Translator
from statebridge.translators.modules.fuser import Gates, fuser_options


@CHANNELS.add("fused")
class FusedChannel:
    """Fuses the sender's keys and values into the receiver's own."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse fusers of another pair, and prompts whose tokens do not meet."""
        for model in (workload.pair.sender, workload.pair.receiver):
            check_family(model, "fused")
        for cell in cells:
            condition = cell.condition
            if condition.operator != "fuse" or condition.prompt not in TEXTLESS:
                raise ExperimentError(
                    f"condition {condition.name}: channel fused takes operator: fuse and prompt "
                    f"{', '.join(TEXTLESS)}"
                )
            translator = workload.translators[workload.plan.translator_key(cell)]
            check_fuser(workload.pair, translator, cell)
            for row in range(workload.plan.limit):
                if workload.plan.included(cell, row):
                    _check_row(workload, cell, row)

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Read both caches once for all cells that share them, fuse, and let the receiver go on."""
        work = operations.workload
        own, sent = _Latest(), _Latest()

        def messages(cell: Cell, some: Sequence[int]) -> KeyValues:
            return _fused(work, cell, some, own, sent)

        # One after the other those that read the same.
        order = sorted(cells, key=lambda cell: (_sharer(cell), str(cell.condition.sender_context)))
        return operations.prepend(order, rows, messages)

    def message(self, work: Workload, cell: Cell, rows: Sequence[int]) -> KeyValues:
        """Return the rows' fused caches; gradients reach the fuser where it has any."""
        return _fused(work, cell, rows, _Latest(), _Latest())


@dataclass
class _Latest:
    """The last cache that was read, which the next cell may share."""

    key: Any = None
    found: KeyValues | None = None

    def of(self, key: Any, read: Callable[[], KeyValues]) -> KeyValues:
        """Return the cache of a key, read unless it is the last one."""
        if self.found is None or self.key != key:
            self.key, self.found = key, read()
        return self.found


def empty_fuser(pair: Pair, settings: FuserSettings) -> Translator:
    """Return a fuser of the pair's shapes, all of its linear weights zero."""
    (sent, _), (received, heads) = (_widths(model) for model in (pair.sender, pair.receiver))
    options = fuser_options(settings, len(pair.receiver.block_paths), heads)
    return Translator(FUSER_KIND, sent, received, options=options, normalize_input=False)


def check_fuser(pair: Pair, translator: Translator, cell: Cell) -> None:
    """Refuse a translator that is no fuser of the pair's caches.

    Raises:
        TranslatorError: States what it fuses.
        PairError: The receiver is to be its own sharer, and its heads are others than the sender's.
    """
    name = cell.condition.name
    if translator.kind != FUSER_KIND:
        raise TranslatorError(
            f"condition {name}: its translator is of kind {translator.kind}, and operator fuse "
            f"needs {FUSER_KIND}"
        )
    (sent, _), (received, heads) = (_widths(model) for model in (pair.sender, pair.receiver))
    depth = len(pair.receiver.block_paths)
    options = translator.options
    found = (translator.width_in, translator.width_out, options["blocks_out"], options["groups"])
    if found != (sent, received, depth, heads):
        words = "keys of width {} into keys of width {}, in {} blocks of {} heads"
        raise TranslatorError(
            f"condition {name}: its fuser takes {words.format(*found)}; {pair.sender.name} to "
            f"{pair.receiver.name} needs {words.format(sent, received, depth, heads)}"
        )
    if _declared(cell).sharer == "receiver" and sent != received:
        raise PairError(
            f"condition {name}: {pair.receiver.name} cannot be its own sharer: the fuser takes "
            f"keys of width {sent}, and its own have {received}; leave this control out"
        )


def _widths(model: Any) -> tuple[int, int]:
    heads, width = cache_heads(model.module.config.get_text_config())
    return heads * width, heads


def _declared(cell: Cell) -> Fusing:
    return cell.condition.fuse or Fusing()


def _sharer(cell: Cell) -> str:
    return f"{_declared(cell).sharer} {_declared(cell).align_tokens} {cell.condition.source}"


def _alignment(work: Workload, cell: Cell) -> TokenAlignment:
    by = _declared(cell).align_tokens
    key = "token alignment", by
    if key not in work.found:
        work.found[key] = TokenAlignment(work.pair.sender, work.pair.receiver, by)
    found: TokenAlignment = work.found[key]
    return found


def _one_vocabulary(work: Workload) -> bool:
    sides = work.pair.sender.tokenizer, work.pair.receiver.tokenizer
    if sides[0] is sides[1]:
        return True
    if "one vocabulary" not in work.found:
        same = sides[0].get_vocab() == sides[1].get_vocab()
        # The same vocabulary may begin a text otherwise.
        work.found["one vocabulary"] = (
            same and sides[0]("a b").input_ids == sides[1]("a b").input_ids
        )
    return bool(work.found["one vocabulary"])


def _table(work: Workload) -> PromptTable:
    """Return the prompts of both sides, the sender's in the receiver's tokens."""
    plan = work.plan
    if _one_vocabulary(work):
        return plan.prompts
    if "aligned prompts" not in work.found:
        as_receiver = replace(work.pair.sender, tokenizer=work.pair.receiver.tokenizer)
        work.found["aligned prompts"] = build_prompts(
            Pair(as_receiver, work.pair.receiver),
            plan.rows,
            plan.experiment.prompts,
            plan.experiment.decoding,
            sender=True,
            used=TEXTLESS[:1],
            contexts=tuple(plan.prompts.contexts),
        )
    table: PromptTable = work.found["aligned prompts"]
    return table


def _sent_ids(work: Workload, cell: Cell, row: int) -> TokenIds:
    """Return what the sender reads for a row, in the receiver's tokens."""
    return _table(work).sent(cell.condition.sender_context, work.plan.origin(cell, row))


def _meeting(work: Workload, cell: Cell, row: int) -> int:
    """Return how many tokens meet at the end of both prompts, the last one included."""
    read = work.plan.prompts.read(cell.condition.prompt)[row]
    most = min(len(_sent_ids(work, cell, row)), len(read))
    if cell.condition.positions == "all":
        return most
    shared = shared_end(_table(work).sent(None, row), read)
    if cell.condition.prompt == "placeholder":
        shared = min(shared, -work.plan.prompts.slots[row][1])
    return min(most, shared)


def _check_row(work: Workload, cell: Cell, row: int) -> None:
    condition, plan = cell.condition, work.plan
    where = f"row {plan.rows[row].row_id}, condition {condition.name}"
    _alignment(work, cell).ids(_sent_ids(work, cell, row))
    sent = len(_sent_ids(work, cell, row))
    read = len(plan.prompts.read(condition.prompt)[row])
    sender = work.pair.sender
    if sender.window is not None and sent > sender.window:
        raise PairError(
            f"{where}: the sender reads {sent} tokens, beyond the context window of {sender.name} "
            f"({sender.window}); lower decoding.max_prompt_tokens"
        )
    if condition.positions == "all" and condition.sender_context is None and sent != read:
        raise PairError(
            f"{where}: the sender reads {sent} tokens and the receiver {read}, so they do not meet "
            "one by one; use one template for both, or positions: question"
        )
    if sent != read:
        check_rotary(sender.module)


def _cache(model: Any, prompts: Sequence[TokenIds]) -> KeyValues:
    found: KeyValues = model.key_values(model.pack(prompts))
    return found.without_last()


def _fused(
    work: Workload, cell: Cell, rows: Sequence[int], own: _Latest, sent: _Latest
) -> KeyValues:
    """Return the receiver's cache of its prompts but for the last token, fused."""
    pair, declared, table = work.pair, _declared(cell), work.plan.prompts
    prompts = [table.read(cell.condition.prompt)[row] for row in rows]
    cache = own.of(tuple(prompts), lambda: _cache(pair.receiver, prompts))
    counts = tuple(_meeting(work, cell, row) - 1 for row in rows)
    translator = work.translators[work.plan.translator_key(cell)]
    if declared.sharer == "receiver":
        found = fused_into(translator, cache, cache, counts, declared.gates)
        return replace(found, payload=(0,) * len(rows))
    aligned = [_alignment(work, cell).ids(_sent_ids(work, cell, row)) for row in rows]
    share = sent.of(tuple(aligned), lambda: _shared(work, aligned, prompts))
    if declared.sharer == "zero":
        layers = tuple(
            (keys.new_zeros(()).expand_as(keys), keys.new_zeros(()).expand_as(values))
            for keys, values in share.layers
        )
        share = replace(share, layers=layers)
    found = fused_into(translator, share, cache, counts, declared.gates)
    if declared.sharer == "zero":
        found = replace(found, payload=(0,) * len(rows))
    if _one_vocabulary(work):
        return found
    read_ids = [_sent_ids(work, cell, row) for row in rows]
    shares = map(_alignment(work, cell).one_to_one, read_ids)
    return replace(found, aligned=tuple(zip(map(len, read_ids), shares, strict=True)))


def fused_into(
    translator: Translator, sent: KeyValues, own: KeyValues, counts: Sequence[int], gates: Gates
) -> KeyValues:
    """Return a receiver's caches, the last positions fused with those of a sender.

    Args:
        translator: A fuser.
        sent: The sender's caches, on the receiver's device.
        own: The receiver's, of prompts but for their last token.
        counts: Of each row, positions to fuse.
    """
    fuser: Any = translator.map
    whole, width = fuser.open_blocks(gates), max(counts)
    nothing = replace(own, whole=whole, fused=tuple(counts), payload=(0,) * len(counts))
    if next(fuser.parameters()).requires_grad:
        # While it is trained, a shut gate has a gradient too.
        whole = tuple(range(len(own.layers)))
    if not whole or width == 0:
        return nothing
    device, depths = own.layers[0][0].device, (len(sent.layers), len(own.layers))
    first = width - torch.tensor(list(counts), device=device)[:, None]
    meets = (torch.arange(width, device=device) >= first)[..., None]
    layers, read = list(own.layers), set()
    for block in whole:
        source = max(0, block + depths[0] - depths[1])
        read.add(source)
        changed = []
        for kind, (mine, theirs) in enumerate(
            zip(own.layers[block], sent.layers[source], strict=True)
        ):
            was = _flat(_last(mine, width)).to(translator.dtype)
            share = _flat(_last(theirs, width)).to(translator.dtype)
            made = torch.where(meets, fuser(block, kind, share, was, gates), was)
            made = made.reshape(*made.shape[:2], mine.shape[1], -1).transpose(1, 2)
            changed.append(torch.cat((mine[:, :, : mine.shape[2] - width], made.to(mine.dtype)), 2))
        layers[block] = changed[0], changed[1]
    bytes_of = sum(part[0, :, 0].nbytes for source in read for part in sent.layers[source])
    payload = tuple(bytes_of * count for count in counts)
    return replace(nothing, layers=tuple(layers), payload=payload)


def _last(entries: torch.Tensor, width: int) -> torch.Tensor:
    """Return the last positions of (rows, heads, n, head width), zeros where there are fewer."""
    missing = width - entries.shape[2]
    if missing > 0:
        return torch.nn.functional.pad(entries, (0, 0, missing, 0))
    return entries[:, :, entries.shape[2] - width :]


def _flat(entries: torch.Tensor) -> torch.Tensor:
    """Return (rows, heads, n, head width) as (rows, n, heads · head width)."""
    return entries.transpose(1, 2).flatten(2)


def _shared(work: Workload, aligned: Sequence[TokenIds], prompts: Sequence[TokenIds]) -> KeyValues:
    """Return the sender's cache of what it reads, its keys at the receiver's positions."""
    sender, receiver = work.pair.sender, work.pair.receiver
    read = _cache(sender, aligned)
    further = [len(mine) - len(theirs) for mine, theirs in zip(prompts, aligned, strict=True)]
    if any(further):
        away = moved(sender.module, read, [0] * len(further), further)
        # Rows that stay where they are stay as they are, to the bit.
        stays = torch.tensor([by == 0 for by in further], device=read.layers[0][0].device)
        stays = stays[:, None, None, None]
        layers = tuple(
            (torch.where(stays, old[0], new[0]), old[1])
            for old, new in zip(read.layers, away.layers, strict=True)
        )
        read = replace(read, layers=layers)
    return read.to(receiver.device)
