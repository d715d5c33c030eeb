"""Does a difference depend on the stratum? A permutation test of the interaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from statebridge.stats.clustered import Floats
from statebridge.stats.keyed_random import keyed_generator

PERMUTATIONS = 1999
_BLOCK = 250
"""Permutations arranged at a time, which bounds the memory that many rows take."""


@dataclass
class InteractionTest:
    """A permutation test of whether the mean delta differs between strata.

    The statistic is the sum of squares between strata; the strata's labels are permuted over
    the rows. The permutations depend on the attribute and the rows alone, never on the
    condition, so they are drawn once and a further condition changes nothing.
    """

    permutations: int = PERMUTATIONS
    _drawn: dict[tuple[str, tuple[str, ...]], npt.NDArray[np.int32]] = field(default_factory=dict)

    def p_value(
        self, attribute: str, row_ids: Sequence[str], labels: Sequence[str], deltas: Floats
    ) -> float | None:
        """Return the p-value; None where there is a single stratum.

        `row_ids`, `labels` and `deltas` go together, shape (rows,), sorted by row id.
        """
        codes = np.unique(np.array(labels), return_inverse=True)[1]
        sizes = np.bincount(codes)
        if len(sizes) < 2:
            return None
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        by_stratum = np.argsort(codes, kind="stable")
        centred = deltas - math.fsum(deltas) / len(deltas)

        def between(arranged: Floats) -> Floats:
            sums = np.add.reduceat(arranged, starts, axis=-1)
            return np.asarray((sums**2 / sizes).sum(axis=-1), dtype=np.float64)

        observed = float(between(centred[by_stratum]))
        orders = self._orders(attribute, tuple(row_ids))
        blocks = range(0, self.permutations, _BLOCK)
        shuffled = np.concatenate([between(centred[orders[at : at + _BLOCK]]) for at in blocks])
        tie = 1e-9 * max(observed, 1e-300)
        as_extreme = int(np.count_nonzero(shuffled >= observed - tie))
        return (1 + as_extreme) / (1 + self.permutations)

    def _orders(self, attribute: str, row_ids: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Random orders of the rows, shape (permutations, rows)."""
        key = (attribute, row_ids)
        if key not in self._drawn:
            generator = keyed_generator("interaction", attribute, *row_ids)
            rows = np.tile(np.arange(len(row_ids), dtype=np.int32), (self.permutations, 1))
            self._drawn[key] = generator.permuted(rows, axis=1, out=rows)
        return self._drawn[key]
