"""Correction for testing a family of hypotheses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_by_family(
    p_values: Sequence[float | None], families: Sequence[Hashable]
) -> list[float | None]:
    """Return Holm's adjusted p-values within each family; None stays None and does not count."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (p, family) in enumerate(zip(p_values, families, strict=True)):
        if p is not None:
            members[family].append(index)
    adjusted: list[float | None] = [None] * len(p_values)
    for indices in members.values():
        raw = [p for index in indices if (p := p_values[index]) is not None]
        for index, p in zip(indices, holm(raw), strict=True):
            adjusted[index] = p
    return adjusted
