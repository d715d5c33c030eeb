"""Two nodes of a Ray cluster on this machine, each with room for one actor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

SETTINGS = {
    # An idle Python is not started beside each actor.
    "prestart_worker_first_driver": False,
    # A node that is dead is seen to be so in seconds.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
STORE_BYTES = 80_000_000


@contextmanager
def ray_cluster(nodes: int = 2, **head: Any) -> Iterator[Any]:
    """Give a cluster of nodes with one CPU each; the first is its head, with more arguments."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_system_config": SETTINGS,
            **head,
        },
    )
    try:
        for _ in range(nodes - 1):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, **options: Any) -> Any:
    """Add a node with one CPU."""
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **options)
