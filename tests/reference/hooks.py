"""Reading and writing a block's output with torch forward hooks, one row at a time.

"Layer L" is the output of block L, the residual stream after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_LISTS = ("gpt_neox.layers", "model.layers", "transformer.h")
"""GPT-NeoX; Llama, Qwen and Gemma; GPT-2."""


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the model's list of transformer blocks, first to last."""
    for path in _BLOCK_LISTS:
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return found
    raise ValueError(f"{type(model).__name__} has its blocks at none of {', '.join(_BLOCK_LISTS)}")


def relative_layer(depth: float, n_layers: int) -> int:
    """Return the layer at a relative depth: `int(depth * n_layers)`, at most the last one."""
    return min(int(depth * n_layers), n_layers - 1)


def first_of(output: Any) -> Tensor:
    """Return the hidden states of a block's output, which some releases wrap in a tuple."""
    state: Tensor = output[0] if isinstance(output, tuple) else output
    return state


@contextmanager
def reading(block: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the block's output, (1, T, width), of every forward inside the `with`."""
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(first_of(output).detach().clone())

    handle = block.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def writing(block: nn.Module, state: Tensor | None) -> Iterator[None]:
    """Write `state`, (1, T, width), over the block's first T positions in the first forward.

    Only the first forward inside the `with` is changed: in `generate` that is the prompt's
    (prefill), of whatever length, one token included. Positions beyond T, as in a forward
    over prompt and answer, keep what the block gave. None writes nothing.
    """
    pending = [] if state is None else [state]

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not pending:
            return output
        written = pending.pop()
        own = first_of(output)
        if own.shape[1] < written.shape[1] or own.shape[2] != written.shape[2]:
            raise ValueError(f"cannot write {tuple(written.shape)} over {tuple(own.shape)}")
        changed = torch.cat([written.to(own.dtype), own[:, written.shape[1] :]], dim=1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = block.register_forward_hook(hook)
    try:
        yield
        if pending:
            raise RuntimeError("nothing was written: the block's forward never ran")
    finally:
        handle.remove()


@torch.no_grad()
def capture(model: Any, layer: int, ids: list[int]) -> Tensor:
    """Return the states at `layer` of one unpadded row of token ids: (1, T, width)."""
    with reading(blocks(model)[layer]) as outputs:
        model(input_ids=torch.tensor([ids]), use_cache=False)
    (state,) = outputs
    return state
