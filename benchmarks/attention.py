"""One decoding step's attention in one block: torch's kernel, matrix products, shared prompts.

    python benchmarks/attention.py

Every way gives the same numbers, which is checked; times are milliseconds on one thread, the
best of many. `kernel` is `scaled_dot_product_attention` over a copy of the prompt's keys and
values for each lane, `products` two matrix products over the same copy, `shared` the engine's
way in the blocks up to the injection layer: the prompt's entries once per row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from statebridge.engine.decoding.lane_attention import attend
from statebridge.engine.decoding.lane_cache import LaneCache

SHAPES = {"demo": (20, 6, 16), "160m": (5, 12, 64), "410m": (5, 16, 64)}
"""Rows, heads, head width of the receiver."""
CELLS = 25


def best(work: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of the quickest of several calls, after one."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


@torch.no_grad()
def ways(
    shape: tuple[int, int, int], prompt: int, own: int, repeats: int
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Milliseconds and results of each way."""
    rows, heads, width = shape
    lanes = rows * CELLS
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator)

    source = DynamicCache()
    source.update(draw(rows, heads, prompt, width), draw(rows, heads, prompt, width), 0)
    mask = torch.ones((rows, prompt), dtype=torch.bool)
    mask[0, 0] = False
    of_lane = [lane % rows for lane in range(lanes)]
    shared, copied = LaneCache(1, prompt + 64), LaneCache(1, prompt + 64)
    shared.share_from(source, range(1), of_lane, mask)
    copied.fill_from(source, range(1), of_lane)
    new = draw(lanes, heads, own, width), draw(lanes, heads, own, width)
    own_only, everything = shared.update(*new, 0), copied.update(*new, 0)
    visible = torch.nn.functional.pad(mask[of_lane], (0, own), value=True)[:, None, None, :]
    query = draw(lanes, heads, 1, width)
    block: Any = SimpleNamespace(layer_idx=0, is_causal=True)
    works: dict[str, Callable[[], Any]] = {
        "kernel": lambda: sdpa_attention_forward(block, query, *everything, visible)[0],
        "products": lambda: attend(block, query, *everything, visible, lane_cache=copied)[0],
        "shared": lambda: attend(block, query, *own_only, visible, lane_cache=shared)[0],
    }
    times = {name: best(work, repeats) for name, work in works.items()}
    return times, {name: work() for name, work in works.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", type=int, default=45)
    parser.add_argument("--own", type=int, nargs="+", default=[1, 32, 64], help="new tokens so far")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"| receiver | lanes | new tokens | {' | '.join(('kernel', 'products', 'shared'))} |")
    print("|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        for own in options.own:
            times, found = ways(shape, options.prompt, own, options.repeats)
            for result in found.values():
                # Float32 sums in another order.
                torch.testing.assert_close(result, found["kernel"], rtol=1e-4, atol=1e-5)
            figures = " | ".join(f"{value:.2f}" for value in times.values())
            print(f"| {name} | {shape[0] * CELLS} | {own} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
