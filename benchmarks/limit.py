"""The limit: how long the arithmetic alone would take at this machine's speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import torch

from benchmarks.measured import timed
from statebridge.models.onednn_layers import onednn_available
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel

REPEATS = 5

BEYOND_CACHE = 256 * 2**20
"""Bytes that no cache of a processor holds."""


Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(batch, in), (out, in) to (batch, out)."""


def products_on(device: torch.device, dtype: torch.dtype) -> dict[str, Product]:
    """The products that torch has for linear layers, by name; its own always comes first."""
    found: dict[str, Product] = {"torch's": torch.nn.functional.linear}
    if device.type == "cpu" and dtype == torch.float32 and onednn_available():
        found["oneDNN's"] = lambda values, weight: torch.ops.mkldnn._linear_pointwise(
            values, weight, None, "none", [], ""
        )
    return found


def matrix_seconds(
    pair: Pair, lanes: int, cells: int, prompt: int, new: int, product: Product
) -> float:
    """Seconds a lane of the linear layers' products alone, at the engine's own batch shapes.

    The models' own weights are gone through in their order, so that they come from memory as they
    do in a run. Each pass is made five times and the best one counts. Attention is left out.
    """
    receiver, sender, rows = pair.receiver, pair.sender, max(1, lanes // cells)
    blocks, layer = [_weights(receiver, path) for path in receiver.block_paths], receiver.layer
    head = receiver.module.get_output_embeddings().weight
    step = _seconds(receiver, [*chain(*blocks), head], lanes, product)
    upper = _seconds(receiver, chain(*blocks[layer + 1 :]), lanes * prompt, product)
    lower = _seconds(receiver, chain(*blocks[: layer + 1]), rows * prompt, product)
    read = [_weights(sender, path) for path in sender.block_paths[: sender.layer + 1]]
    sent = _seconds(sender, chain(*read), rows * prompt, product)
    return (new * step + upper + lower + sent) / lanes


def attention_seconds(pair: Pair, lanes: int, cells: int, prompt: int, new: int) -> float:
    """Seconds a lane of the products of decoding's attention, by torch, as the engine has them.

    Queries with keys, weights with values, at the mean length; up to the injection layer a row's
    prompt meets all of its lanes' queries at once. Several blocks' entries take turns, so that
    they come from memory as they do in a run. The best of five counts. Softmax and the prompts'
    own attention are left out.
    """
    receiver, rows = pair.receiver, max(1, lanes // cells)
    heads = receiver.module.config.num_attention_heads
    width, lower = receiver.width // heads, receiver.layer + 1
    like = {"device": receiver.device, "dtype": receiver.dtype}

    def products(of: int, queries: int, positions: int) -> float:
        query = torch.randn((of, heads, queries, width), **like)
        size = (of, heads, positions, width)
        bytes_each = 2 * math.prod(size) * query.element_size()
        count = min(len(receiver.block_paths), 1 + BEYOND_CACHE // bytes_each)
        entries = [(torch.randn(size, **like), torch.randn(size, **like)) for _ in range(count)]

        def work() -> None:
            for keys, values in entries:
                (query @ keys.transpose(2, 3)) @ values

        return _best(work, receiver.device) / count

    own = products(lanes, 1, max(1, new // 2)) + products(rows, lanes // rows, prompt)
    whole = products(lanes, 1, prompt + new // 2)
    depth = len(receiver.block_paths)
    return (new - 1) * (lower * own + (depth - lower) * whole) / lanes


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
    """Multiplications and additions a second in a large square product, the quickest there is."""
    device, side = pair.receiver.device, 8192 if pair.receiver.device.type == "cuda" else 1536
    a, b = (torch.randn((side, side), device=device, dtype=pair.receiver.dtype) for _ in range(2))
    with torch.no_grad():
        products = products_on(device, pair.receiver.dtype).values()
        return 2 * side**3 / min(_best(partial(product, a, b), device) for product in products)


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    block = torch.empty(256 * 2**20 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(block)
    best = _best(lambda: target.copy_(block), device)
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


def _weights(model: TracedModel, path: str) -> list[torch.Tensor]:
    """Return the weights of a block's linear layers, (out, in) each."""
    parts = model.module.get_submodule(path).modules()
    return [part.weight for part in parts if isinstance(part, torch.nn.Linear)]


def _block_weights(model: TracedModel) -> int:
    return sum(weight.numel() for weight in _weights(model, model.block_paths[0]))


def _seconds(
    model: TracedModel, weights: Iterable[torch.Tensor], batch: int, product: Product
) -> float:
    """Seconds of a batch's products with some weights, one after the other."""
    weights = list(weights)
    widths = {weight.shape[1] for weight in weights}
    like = {"device": model.device, "dtype": model.dtype}
    values = {width: torch.randn((batch, width), **like) for width in widths}

    def work() -> None:
        for weight in weights:
            product(values[weight.shape[1]], weight)

    with torch.no_grad():
        return _best(work, model.device)


def _best(work: Callable[[], Any], device: torch.device) -> float:
    return min(timed(work, device) for _ in range(REPEATS))
