"""How long a server says that it took over its answers, from the histogram in its `/metrics`."""

from __future__ import annotations

import math

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.pollers import QUANTILES

NAME = "statebridge_http_request_seconds"
Histogram = dict[float, int]
"""Answers that took no longer than so many seconds, by the upper end of each bucket."""


def read_histogram(url: str, key: str, route: str) -> Histogram:
    """Ask for the histogram of GET requests to a route; empty where there was none."""
    answer = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    return histogram_of(answer.raise_for_status().text, route)


def histogram_of(metrics: str, route: str) -> Histogram:
    """Find the histogram of GET requests to a route in a page of metrics."""
    return {
        float(sample.labels["le"]): int(sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == f"{NAME}_bucket"
        and (sample.labels["method"], sample.labels["route"]) == ("GET", route)
    }


def time_between(before: Histogram, after: Histogram) -> dict[str, float | int | None]:
    """Return the requests between two readings, and for each quantile a bound in milliseconds.

    A bound is the upper end of the bucket that the quantile lies in; None is the last bucket,
    which has none.
    """
    counts = {end: count - before.get(end, 0) for end, count in sorted(after.items())}
    total = counts.get(math.inf, 0)
    found: dict[str, float | int | None] = {"requests": total}
    for name, share in QUANTILES.items():
        end = next((end for end, count in counts.items() if count >= share * total), math.inf)
        found[name] = None if math.isinf(end) else 1000 * end
    return found
