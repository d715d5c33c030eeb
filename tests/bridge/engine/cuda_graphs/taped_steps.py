"""A CUDA graph's substitute on the CPU, and groups of lanes to run it on.

A graph captures a list of operations on fixed addresses; Python and the host's numbers are gone
when it is repeated. `Tape` keeps only that list and repeats it, so a step that depends on
anything else fails here as it would on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import nnsight
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache

from statebridge.engine.decoding.lane_cache import LaneCache
from statebridge.engine.decoding.lanes import Prefilled
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from tests.tiny_models import tiny_tokenizer

WAITS_FOR_HOST = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::item",
        "aten::is_nonzero",
        "aten::equal",
        "aten::nonzero",
        "aten::masked_select",
        "aten::_unique2",
        "aten::repeat_interleave",
        "aten::lift_fresh",
    }
)
"""Operations whose result the host or a shape waits for; `lift_fresh` is a host's number."""

BY_INDEX = frozenset({"aten::index", "aten::index_put", "aten::index_put_"})
"""Where truth values choose, their number decides a shape."""


def _by_truth(index: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in index)


def _devices(values: Any) -> set[torch.device]:
    return {leaf.device for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


class Operations(TorchDispatchMode):
    """Every operation in its order, refused where it waits for the host.

    Attributes:
        calls: (operation, its arguments' and results' shapes and dtypes).
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        if name in WAITS_FOR_HOST or (name in BY_INDEX and _by_truth(args[1])):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        self.before(func, args, kwargs)
        found = func(*args, **kwargs)
        if name == "aten::_to_copy" and _devices(found) != _devices((args, kwargs)):
            raise RuntimeError("a copy to another device")
        self.calls.append(
            (str(func), [_described(leaf) for leaf in tree_leaves((args, kwargs, found))])
        )
        self.after(func, args, kwargs, found)
        return found

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        """Called with each operation before it runs."""

    def after(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        """Called with each operation and its result."""


def _described(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return tuple(leaf.shape), tuple(leaf.stride()), leaf.dtype, leaf.device
    return leaf


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The arguments that an operation changes."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs[argument.name]
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return found


class Tape(Operations):
    """Records what runs inside of it, and undoes it at the end: recording is not running."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[Any, Any]] = {}

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        for tensor in _written(func, args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._before:
                self._before[storage.data_ptr()] = storage, storage.clone()

    def after(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        self._steps.append((func, args, kwargs, found))

    def undo(self) -> None:
        for storage, copy in self._before.values():
            storage.copy_(copy)

    def play(self) -> None:
        """Repeat every operation on the addresses that it had."""
        for func, args, kwargs, found in self._steps:
            if any(value.alias_info is not None for value in func._schema.returns):
                if _written(func, args, kwargs):
                    func(*args, **kwargs)
                continue  # a view is where it was
            for old, new in zip(
                tree_leaves(found), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(old, torch.Tensor):
                    old.copy_(new)


class TapeRecorder:
    """Records steps on tapes.

    Attributes:
        warmed, recorded, played: How often each was done.
    """

    def __init__(self) -> None:
        self.warmed = self.recorded = self.played = 0

    def warm(self, step: Callable[[], None]) -> None:
        self.warmed += 1
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        tape = Tape()
        with tape:
            step()
        tape.undo()
        self.recorded += 1

        def play() -> None:
            self.played += 1
            tape.play()

        return play


def traced(module: Any) -> TracedModel:
    """A module as the engine holds it."""
    words = tiny_tokenizer()
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=words)
    return TracedModel.wrap(model, words, 0)


def lanes_sharing(
    model: TracedModel, prompts: Sequence[Sequence[int]], rows: Sequence[int], room: int
) -> Prefilled:
    """Lanes that read rows' prompts, shared in the blocks up to the middle one."""
    batch = TokenBatch.pack(prompts, model.pad_id)
    depth = len(model.block_paths)
    source = DynamicCache()
    with torch.no_grad():
        logits = model.module(**batch.inputs(), past_key_values=source, use_cache=True).logits
    cache = LaneCache(depth, batch.ids.shape[1] + room)
    middle = depth // 2 + 1
    cache.fill_from(source, range(middle, depth), rows)
    cache.share_from(source, range(middle), rows, batch.mask)
    return Prefilled(batch.select(rows), cache, logits[:, -1][list(rows)])
