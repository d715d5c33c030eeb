"""An estimate of how long a run takes: operations by formula, and the measured throughput.

A pass takes two operations for each weight and token. Rough: it leaves out attention, and a step
of few lanes is bound by memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch

from statebridge.channels.workload import Workload
from statebridge.engine.fitting.fit_check import FitSize
from statebridge.experiment.cells import Cell
from statebridge.experiment.experiment import Fit
from statebridge.experiment.translator_settings import CLOSED_FORM
from statebridge.models.traced_model import TracedModel

EFFICIENCY = 0.6
"""Share of the measured matrix throughput that the shared path reaches."""

CHECKED_PASSES = 12
"""Passes of the sender for each row of the checks inside it, about."""


def estimate(
    work: Workload, fits: Mapping[str, tuple[Fit, FitSize, int]], operations_per_second: float
) -> str:
    """Return in words how long the parts of a run take.

    Args:
        work: The run, prepared without weights.
        fits: Each fit by the name of its set: settings, size, and rows that are trained on.
        operations_per_second: Of the receiver's device, as `throughput` measures it.
    """
    seconds = {
        part: operations / (EFFICIENCY * operations_per_second)
        for part, operations in _parts(work, fits)
        if operations
    }
    lanes = len(work.plan.cells) * work.plan.limit
    parts = ", ".join(f"{part} {duration(each)}" for part, each in seconds.items())
    return f"about {duration(sum(seconds.values()))} for {lanes} lanes (rough): {parts}"


def _parts(
    work: Workload, fits: Mapping[str, tuple[Fit, FitSize, int]]
) -> Iterator[tuple[str, float]]:
    experiment, limit = work.plan.experiment, work.plan.limit
    yield "fits", sum(_fit(work, *fit) for fit in fits.values())
    yield "texts", _texts(work)
    yield "rows", limit * _lanes(work, work.plan.cells)
    if experiment.sender_checks:
        sent = sum(len(ids) for ids in work.plan.prompts.sender[:limit])
        yield "sender checks", 2.0 * _weights(work.pair.sender) * sent * CHECKED_PASSES
    if experiment.positive_control is not None:
        # A floor, a skyline, and a channel with its control for each seed.
        cells = 2 + 2 * len(experiment.seeds)
        each = _lane(work, work.pair.receiver)
        yield "positive control", min(experiment.positive_control.rows, limit) * cells * each


def _fit(work: Workload, fit: Fit, size: FitSize, trained_rows: int) -> float:
    sender, receiver = work.pair.sender, work.pair.receiver
    seeds = len(work.plan.experiment.seeds)
    captured = 2.0 * size.tokens * (_lower(sender) + _lower(receiver))
    width, hidden = sender.width * receiver.width, fit.training.hidden_dim
    weights = width if hidden is None else hidden * (sender.width + receiver.width)
    if fit.kind in CLOSED_FORM:
        fitted = 2.0 * size.positions * (sender.width**2 + width)
    else:
        # Forwards and backwards, in every epoch.
        fitted = 6.0 * size.positions * weights * fit.training.epochs
    causal = 0.0
    if fit.causal is not None:
        tokens = trained_rows * _mean_prompt(work)
        upper = _weights(receiver) - _lower(receiver)
        causal = 6.0 * tokens * upper * fit.causal.training.epochs
    return captured + seeds * (fitted + causal)


def _texts(work: Workload) -> float:
    plan = work.plan
    new = plan.experiment.decoding.relay_max_new_tokens
    prompts = {c.prompt: c.rounds for c in plan.experiment.resolved_conditions}
    turns = ("relay" in prompts) + prompts.get("debate", 1) - 1
    both = 2.0 * (_weights(work.pair.sender) + _weights(work.pair.receiver))
    per_turn = {"relay": 2.0 * _weights(work.pair.sender), "debate": both}
    used = max((cost for prompt, cost in per_turn.items() if prompt in prompts), default=0.0)
    return plan.limit * turns * used * (_mean_prompt(work) + new)


def _lanes(work: Workload, cells: tuple[Cell, ...]) -> float:
    sent = any(cell.condition.reads_sender for cell in cells)
    sender = 2.0 * _lower(work.pair.sender) * _mean_prompt(work) if sent else 0.0
    return sender + len(cells) * _lane(work, work.pair.receiver)


def _lane(work: Workload, receiver: TracedModel) -> float:
    experiment = work.plan.experiment
    new = experiment.decoding.max_new_tokens if experiment.decode else 1
    # The lanes of a row share the receiver's lower blocks.
    return 2.0 * _weights(receiver) * (_mean_prompt(work) / 2 + new)


def _mean_prompt(work: Workload) -> float:
    lengths = work.plan.prompts.lengths[: work.plan.limit]
    return sum(lengths) / len(lengths)


def _weights(model: TracedModel) -> int:
    return sum(parameter.numel() for parameter in model.module.parameters())


def _lower(model: TracedModel) -> float:
    """Return the weights of the blocks up to the layer in use, about."""
    return _weights(model) * (model.layer + 1) / len(model.block_paths)


def throughput(device: torch.device) -> float:
    """Return float32 multiply-add operations per second of a matrix product, times two."""
    a = torch.ones((128, 1024), device=device)
    b = torch.ones((1024, 4096), device=device)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * 128 * 1024 * 4096 / (time.perf_counter() - start))
    return best


def duration(seconds: float) -> str:
    """Return seconds in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
