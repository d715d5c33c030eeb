"""Timing and memory of one piece of work."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Entry:
    """Seconds a lane of every repeat, and the largest memory of any."""

    name: str
    seconds: list[float] = field(default_factory=list)
    gigabytes: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "median_seconds_per_lane": self.median,
            "spread": round(self.spread, 4),
            "repeats": len(self.seconds),
            "peak_gigabytes": round(self.gigabytes, 3),
        }


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that a call takes, its queue on a GPU included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def forget_peak(device: torch.device) -> None:
    """Let the peak memory start anew: the GPU's, or the process's where Linux allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_gigabytes(device: torch.device) -> float:
    """The largest memory since `forget_peak`: allocated on the GPU, or the process's own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(entry: Entry, work: Callable[[], int], device: torch.device) -> None:
    """Add a repeat; `work` returns how many lanes it ran."""
    forget_peak(device)
    lanes = 0

    def counted() -> None:
        nonlocal lanes
        lanes = work()

    seconds = timed(counted, device)
    entry.seconds.append(seconds / lanes)
    entry.gigabytes = max(entry.gigabytes, peak_gigabytes(device))
