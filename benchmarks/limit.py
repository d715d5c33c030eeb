"""The limit: how long the arithmetic alone would take at this machine's speed."""

from __future__ import annotations

import torch

from benchmarks.measured import timed
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel

REPEATS = 5


def matrix_seconds(pair: Pair, lanes: int, cells: int, prompt: int, new: int) -> float:
    """Seconds a lane of the matrix products alone, at the engine's own batch shapes.

    Every shape is timed five times and the best one counts. Attention is left out.
    """
    receiver, rows = pair.receiver, max(1, lanes // cells)
    depth, layer = len(receiver.block_paths), receiver.layer
    head = tuple(receiver.module.get_output_embeddings().weight.shape)
    step = depth * _block(receiver, lanes) + _product(receiver, lanes, head)
    upper = (depth - layer - 1) * _block(receiver, lanes * prompt)
    lower = (layer + 1) * _block(receiver, rows * prompt)
    sender = (pair.sender.layer + 1) * _block(pair.sender, rows * prompt)
    return (new * step + upper + lower + sender) / lanes


def counted_flops(pair: Pair, cells: int, prompt: int, new: int) -> float:
    """Multiplications and additions a lane, from the weights' shapes, attention included."""
    receiver = pair.receiver
    depth, lower = len(receiver.block_paths), receiver.layer + 1
    head = receiver.module.get_output_embeddings().weight.numel()
    per_token = 2 * _block_weights(receiver)
    flops = 2 * head * new + per_token * depth * (new - 1)
    flops += per_token * prompt * ((depth - lower) + lower / cells)
    flops += 2 * _block_weights(pair.sender) * prompt * (pair.sender.layer + 1) / cells
    seen = sum(prompt + step for step in range(1, new))
    return flops + 4 * receiver.width * depth * seen


def throughput(pair: Pair) -> float:
    """Multiplications and additions a second in a large square product."""
    device, side = pair.receiver.device, 8192 if pair.receiver.device.type == "cuda" else 1536
    a, b = (torch.randn((side, side), device=device, dtype=pair.receiver.dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: a @ b, device) for _ in range(REPEATS))


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    block = torch.empty(256 * 2**20 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(block)
    best = min(timed(lambda: target.copy_(block), device) for _ in range(REPEATS))
    return 2 * block.numel() * block.element_size() / best


def moved_bytes(pair: Pair, lanes: int, cells: int, prompt: int, new: int) -> float:
    """Bytes a lane that decoding has to read: the weights, keys and values of each step."""
    receiver = pair.receiver
    item = torch.finfo(receiver.dtype).bits // 8
    depth, lower = len(receiver.block_paths), receiver.layer + 1
    weights = depth * _block_weights(receiver)
    weights += receiver.module.get_output_embeddings().weight.numel()
    prompts = 2 * receiver.width * prompt * ((depth - lower) + lower / cells)
    own = sum(2 * receiver.width * depth * step for step in range(1, new))
    return item * (new * weights / lanes + (new - 1) * prompts + own)


def _linears(model: TracedModel) -> list[tuple[int, int]]:
    block = model.module.get_submodule(model.block_paths[0])
    return [
        (part.out_features, part.in_features)
        for part in block.modules()
        if isinstance(part, torch.nn.Linear)
    ]


def _block_weights(model: TracedModel) -> int:
    return sum(out * width for out, width in _linears(model))


def _block(model: TracedModel, batch: int) -> float:
    return sum(_product(model, batch, shape) for shape in _linears(model))


def _product(model: TracedModel, batch: int, shape: tuple[int, ...]) -> float:
    like = {"device": model.device, "dtype": model.dtype}
    a, w = torch.randn((batch, shape[1]), **like), torch.randn(shape, **like)
    work = torch.nn.functional.linear
    return min(timed(lambda: work(a, w), model.device) for _ in range(REPEATS))
