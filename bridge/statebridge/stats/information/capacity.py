"""Bits that the channels of a run carry in one use, from rows whose answer is one of K symbols.

The rows name K in the attribute `symbols` (`statebridge.tasks.symbols`), and the receiver's text
names one of the K answers, or none. Seeds of one row are not independent: they are averaged first,
and the rows are the sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from statebridge.errors import ResultError
from statebridge.experiment.conditions import Role
from statebridge.records import CellResult, DatasetRow, Direction, Record, ResultSet
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.results.cost import ConditionCost, condition_costs
from statebridge.scoring.metrics import normalize
from statebridge.stats.inference.intervals import Floats
from statebridge.stats.information.channel_bits import bits_at_least, estimated_bits

SYMBOLS = "symbols"
LEVEL = 0.95


class ChannelUse(Record):
    """Bits that one use of a condition carries of which of K symbols was sent."""

    direction: Direction
    condition: str
    role: Role
    symbols: int
    """K; the symbols hold log2 K bits."""
    seeds: int
    n_rows: int
    right: float
    """Share of rows, each the mean of its seeds, whose right symbol is named."""
    named: float
    """Share whose text names any of the K symbols."""
    bits_at_least: float
    """Fano's bound; see `statebridge.stats.information.channel_bits`, also for the estimate."""
    low: float
    """Ends of the 95 % interval of `bits_at_least`."""
    high: float
    bits_estimate: float
    sent_bytes: float | None
    """Mean bytes of a message; None for what sends none (controls and bounds)."""
    name_bytes: float
    """Mean bytes of a symbol's name as UTF-8: what a text that says it would need."""

    @property
    def bits_per_kilobyte(self) -> float | None:
        """Bits carried at least, for each 1,000 bytes sent."""
        return None if not self.sent_bytes else 1000 * self.bits_at_least / self.sent_bytes


class Capacity(Record):
    """Uses of every condition at every number of symbols, ascending."""

    uses: tuple[ChannelUse, ...]

    def of(self, condition: str) -> tuple[ChannelUse, ...]:
        """Return the uses of one condition, by number of symbols.

        Raises:
            ResultError: No such condition.
        """
        found = tuple(use for use in self.uses if use.condition == condition)
        if not found:
            known = ", ".join(dict.fromkeys(use.condition for use in self.uses))
            raise ResultError(f"capacity: condition {condition!r} is not there; known: {known}")
        return found


class NamedSymbol:
    """Which of some symbols a text names: the first one, on its first line, as whole words."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """Take the symbols in the order of their numbers."""
        self._numbers = {normalize(symbol): number for number, symbol in enumerate(symbols)}
        longest_first = sorted(self._numbers, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def __call__(self, text: str) -> int | None:
        """Return the number of the symbol, or None."""
        first_line = text.strip().splitlines()[0] if text.strip() else ""
        found = self._pattern.search(normalize(first_line))
        return None if found is None else self._numbers[found[0]]


def capacity(results: ResultSet) -> Capacity:
    """Return the bits that each condition of a run carries, at each number of symbols.

    Raises:
        ResultError: No row names a number of symbols, not every symbol is sent, or nothing was
            decoded.
    """
    by_count: dict[int, dict[str, DatasetRow]] = {}
    for row_id, row in results.dataset.items():
        count = row.attributes.get(SYMBOLS)
        if isinstance(count, int) and not isinstance(count, bool):
            by_count.setdefault(count, {})[row_id] = row
    if not by_count:
        raise ResultError(
            "capacity: no row names its number of symbols; run rows of `generate: {symbols: [8]}`, "
            "as `statebridge capacity` does"
        )
    return Capacity(
        uses=tuple(
            use for count in sorted(by_count) for use in _uses(results, count, by_count[count])
        )
    )


def _uses(results: ResultSet, count: int, rows: Mapping[str, DatasetRow]) -> list[ChannelUse]:
    some = replace(results, cells=[_of_rows(cell, rows) for cell in results.cells])
    symbols = sorted({row.answer for row in rows.values()})
    named = NamedSymbol(symbols)
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    sent_bytes = {cost.condition: cost.sent_bytes for cost in _costs(some)}
    uses = []
    for group in condition_cells(some):
        table, right, naming = _counts(group, rows, numbers, named)
        if (missing := count - int((table.sum(axis=1) > 0).sum())) > 0:
            raise ResultError(
                f"capacity: {missing} of {count} symbols are in no row of {group.condition} yet; "
                f"run all rows, at least {count} for {count} symbols"
            )
        value, low, high = bits_at_least(right, naming, count, level=LEVEL)
        uses.append(
            ChannelUse(
                direction=group.direction,
                condition=group.condition,
                role=group.role,
                symbols=count,
                seeds=len(group.cells),
                n_rows=len(right),
                right=float(right.mean()),
                named=float(naming.mean()),
                bits_at_least=value,
                low=low,
                high=high,
                bits_estimate=estimated_bits(table),
                sent_bytes=sent_bytes.get(group.condition) or None,
                name_bytes=fmean(len(symbol.encode()) for symbol in symbols),
            )
        )
    return uses


def _of_rows(cell: CellResult, rows: Mapping[str, DatasetRow]) -> CellResult:
    return replace(cell, lanes=[lane for lane in cell.lanes if lane.row_id in rows])


def _costs(results: ResultSet) -> list[ConditionCost]:
    try:
        return condition_costs(results)
    except ResultError:  # the shapes of the models are not known: the bits are
        return []


def _counts(
    group: ConditionCells,
    rows: Mapping[str, DatasetRow],
    numbers: Mapping[str, int],
    named: NamedSymbol,
) -> tuple[Floats, Floats, Floats]:
    """Counts (K, K + 1) of symbol sent by symbol named, and each row's shares right and named.

    A row counts once over its seeds. The shares have shape (rows,).
    """
    found: dict[str, list[int | None]] = {}
    for lane in (lane for cell in group.cells for lane in cell.lanes):
        if lane.prediction is None:
            raise ResultError(
                f"capacity: {group.condition} was not decoded; run without --no-decode"
            )
        found.setdefault(lane.row_id, []).append(named(lane.prediction))
    table = np.zeros((len(numbers), len(numbers) + 1))
    right, naming = np.zeros(len(found)), np.zeros(len(found))
    for place, (row_id, symbols) in enumerate(found.items()):
        sent = numbers[rows[row_id].answer]
        for symbol in symbols:
            table[sent, len(numbers) if symbol is None else symbol] += 1 / len(symbols)
        right[place] = symbols.count(sent) / len(symbols)
        naming[place] = (len(symbols) - symbols.count(None)) / len(symbols)
    return table, right, naming
