"""Number of threads of torch on a machine that gives this process a part of its processors."""

from __future__ import annotations

import os

import loky
import torch


def take_usable_processors() -> None:
    """Lower torch's threads to the processors that this process may use.

    torch counts the processors of its affinity mask, but not the CPU quota of its control group
    (`docker run --cpus 4`, a limit of a Kubernetes pod): it would start 64 threads that share the
    time of four. The number is never raised, and `OMP_NUM_THREADS` goes before it.
    """
    if "OMP_NUM_THREADS" not in os.environ and loky.cpu_count() < torch.get_num_threads():
        torch.set_num_threads(loky.cpu_count())
