"""Pairing: a condition's rows beside the same rows of its baseline.

Rows are paired by id, ids sorted as text. A condition may hold fewer rows than its baseline
(the strict shuffle leaves lone rows out) and is then compared over its own; a row that the
baseline lacks is an error, because leaving it out would change the number in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from statebridge.errors import ResultError, nearest
from statebridge.records import CellResult, Direction, ResultSet
from statebridge.scoring.aggregate import row_values
from statebridge.scoring.measures import MEASURES
from statebridge.stats.comparison import measures_change
from statebridge.stats.inference.intervals import Floats

_COMPARABLE_DECODING = ("max_new_tokens", "repetition_penalty", "no_repeat_ngram_size")


def is_zero_one(metric: str) -> bool:
    """Whether a metric is 0 or 1 for each row (a text metric, or whether the text changed)."""
    return metric in MEASURES and MEASURES[metric].kind == "zero_one"


def is_bounded(metric: str) -> bool:
    """Whether a metric is from 0 to 1 for each row, so that the mean of its deltas has limits."""
    return metric in MEASURES and MEASURES[metric].kind != "number"


@dataclass(frozen=True)
class PairedRun:
    """One cell beside its baseline cell, on the rows that both have a value for."""

    cell: CellResult
    baseline: CellResult
    row_ids: tuple[str, ...]
    """Sorted as text."""
    values: Floats
    """The condition's values, shape (rows,)."""
    baseline_values: Floats
    """The baseline's values, shape (rows,)."""
    seed: int | None
    """The seed by which this run differs from the condition's others: its own or its baseline's."""

    @property
    def deltas(self) -> Floats:
        """Condition less baseline, shape (rows,)."""
        return self.values - self.baseline_values

    def restricted(self, row_ids: Set[str]) -> PairedRun:
        """Return the run over some of its rows."""
        kept = np.array([row_id in row_ids for row_id in self.row_ids])
        return replace(
            self,
            row_ids=tuple(row_id for row_id in self.row_ids if row_id in row_ids),
            values=self.values[kept],
            baseline_values=self.baseline_values[kept],
        )


@dataclass(frozen=True)
class ClusteredRows:
    """A condition's runs with rows as clusters, over the rows that every run has."""

    row_ids: tuple[str, ...]
    """Sorted as text."""
    sums: Floats
    """Each row's deltas summed over the runs, shape (rows,)."""
    values: Floats
    """Each row's values under the condition, averaged over the runs, shape (rows,)."""
    baseline_values: Floats
    """The same under the baseline."""
    runs: int
    left_out: int
    """Rows that the fullest run has and some other run lacks."""

    @property
    def deltas(self) -> Floats:
        """Each row's delta, averaged over the runs, shape (rows,)."""
        return self.sums / self.runs


@dataclass(frozen=True)
class PairedCondition:
    """All runs (seeds) of a condition beside a baseline, for one metric."""

    direction: Direction
    condition: str
    baseline: str
    metric: str
    runs: tuple[PairedRun, ...]
    """In the order of their seeds as text: 123, 42, 456."""
    warnings: tuple[str, ...]

    @property
    def untested(self) -> bool:
        """Whether the baseline's value is zero by definition, so that no test makes sense."""
        return measures_change(self.metric) and self.runs[0].baseline.condition.is_baseline

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The names that key this comparison's random draws."""
        return (self.direction, self.condition, self.baseline, self.metric)

    def over(self, seeds: Sequence[int | None]) -> PairedCondition:
        """Return the same comparison over some of its seeds."""
        return replace(self, runs=tuple(run for run in self.runs if run.seed in seeds))

    @cached_property
    def by_row(self) -> ClusteredRows:
        """The deltas with rows as clusters, over the rows that every run has.

        Raises:
            ResultError: The runs have no row in common.
        """
        shared = set(self.runs[0].row_ids).intersection(*(run.row_ids for run in self.runs[1:]))
        if not shared:
            raise ResultError(
                f"{self.condition} against {self.baseline} ({self.direction}, {self.metric}): "
                "the seeds have no row in common; compare runs over the same rows"
            )
        runs = [run.restricted(shared) for run in self.runs]
        return ClusteredRows(
            row_ids=runs[0].row_ids,
            sums=np.sum([run.deltas for run in runs], axis=0),
            values=np.mean([run.values for run in runs], axis=0),
            baseline_values=np.mean([run.baseline_values for run in runs], axis=0),
            runs=len(runs),
            left_out=max(len(run.row_ids) for run in self.runs) - len(shared),
        )


@dataclass
class Pairing:
    """Pairs the cells of a result set; values are computed once per cell and metric."""

    results: ResultSet
    log_ranks: bool = False
    """Whether ranks enter as their natural logarithm: their mean is that of the few worst rows."""
    _values: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse two cells of the same direction, condition and seed."""
        self._cells: dict[tuple[Direction, str], list[CellResult]] = {}
        for cell in self.results.cells:
            group = self._cells.setdefault((cell.direction, cell.condition.name), [])
            for twin in group:
                if twin.seed == cell.seed:
                    raise ResultError(
                        f"{cell.source}: {cell.name} ({cell.direction}) was already given in "
                        f"{twin.source}; give each condition and seed once"
                    )
            group.append(cell)
        for group in self._cells.values():
            group.sort(key=lambda cell: (cell.seed is not None, str(cell.seed)))

    @property
    def directions(self) -> list[Direction]:
        """The directions present, sorted."""
        return sorted({direction for direction, _ in self._cells})

    def conditions(self, direction: Direction) -> list[str]:
        """The conditions present in a direction, sorted."""
        return sorted(name for found, name in self._cells if found == direction)

    def cells(self, direction: Direction, condition: str) -> Sequence[CellResult]:
        """The cells of a condition in the order of their seeds as text; may be empty."""
        return self._cells.get((direction, condition), [])

    def has_values(self, direction: Direction, condition: str, metric: str) -> bool:
        """Whether any cell of the condition has a value of the metric for any row."""
        return any(self._cell_values(cell, metric) for cell in self.cells(direction, condition))

    def pair(
        self,
        direction: Direction,
        condition: str,
        baseline: str,
        metric: str,
        *,
        rows: Set[str] | None = None,
    ) -> PairedCondition:
        """Pair a condition with a baseline, over all rows or over `rows` alone.

        A seeded baseline is matched by seed; a deterministic cell pairs with every seed of
        the other side.

        Raises:
            ResultError: Nothing to pair; a row that the baseline lacks; the same row with
                two gold answers; a cell without rows or with a row twice.
        """
        warnings: list[str] = []
        pairs = self._matched(direction, condition, baseline, warnings)
        runs = []
        for cell, other in pairs:
            run = self._paired_run(cell, other, metric, warnings, rows)
            if run is not None:
                runs.append(run)
        if not runs:
            raise ResultError(
                f"{condition} against {baseline} ({direction}): no row has a value of {metric} "
                "under both"
            )
        return PairedCondition(
            direction, condition, baseline, metric, tuple(runs), tuple(dict.fromkeys(warnings))
        )

    def _matched(
        self, direction: Direction, condition: str, baseline: str, warnings: list[str]
    ) -> list[tuple[CellResult, CellResult]]:
        cells, others = self.cells(direction, condition), self.cells(direction, baseline)
        for name, found in ((condition, cells), (baseline, others)):
            if not found:
                raise ResultError(
                    f"{name} is not among the {direction} results; "
                    f"{nearest(name, self.conditions(direction))}"
                )
        by_seed = {other.seed: other for other in others}
        if None in by_seed:
            if len(others) > 1:
                raise ResultError(
                    f"{baseline} ({direction}) is given both with and without a seed; keep one kind"
                )
            return [(cell, others[0]) for cell in cells]
        if [cell.seed for cell in cells] == [None]:
            return [(cells[0], other) for other in others]
        matched = [(cell, by_seed[cell.seed]) for cell in cells if cell.seed in by_seed]
        alone = sorted(str(cell.seed) for cell in cells if cell.seed not in by_seed)
        if not matched:
            raise ResultError(
                f"{condition} and {baseline} ({direction}) have no seed in common; "
                "a seeded baseline is matched by seed"
            )
        if alone:
            warnings.append(
                f"{condition} ({direction}): seed {', '.join(alone)} has no {baseline} cell and "
                "is left out"
            )
        return matched

    def _cell_values(self, cell: CellResult, metric: str) -> dict[str, float]:
        key = (id(cell), metric)
        if key not in self._values:
            values = row_values(cell, metric)
            if metric == "gold_rank" and self.log_ranks:
                if min(values.values(), default=1) < 1:
                    raise ResultError(f"{cell.source}: {cell.name} has a rank below 1")
                values = {row_id: math.log(rank) for row_id, rank in values.items()}
            self._values[key] = values
        return self._values[key]

    def _paired_run(
        self,
        cell: CellResult,
        baseline: CellResult,
        metric: str,
        warnings: list[str],
        rows: Set[str] | None,
    ) -> PairedRun | None:
        values = self._cell_values(cell, metric)
        baseline_values = self._cell_values(baseline, metric)
        if rows is not None:
            cell, baseline = _over(cell, rows), _over(baseline, rows)
            values = {row_id: values[row_id] for row_id in values.keys() & rows}
        if metric == "kl_from_no_inject" and baseline.condition.is_baseline:
            # The divergence of a distribution from itself, recorded or not.
            baseline_values = dict.fromkeys((row.row_id for row in baseline.lanes), 0.0)
        _check_same_rows(cell, baseline, warnings)
        _check_same_setting(cell, baseline, warnings)
        row_ids = tuple(sorted(values.keys() & baseline_values.keys()))
        unvalued = len(cell.lanes) - len(row_ids)
        if unvalued and row_ids:
            reason = "a null prediction" if MEASURES[metric].text else f"no {metric}"
            warnings.append(
                f"{cell.name} against {baseline.name} ({cell.direction}, {metric}): {unvalued} "
                f"row(s) have {reason} under one of the two and are left out"
            )
        if not row_ids:
            warnings.append(
                f"{cell.name} against {baseline.name} ({cell.direction}): no row has a value of "
                f"{metric} under both; the run is left out"
            )
            return None
        return PairedRun(
            cell,
            baseline,
            row_ids,
            np.array([values[row_id] for row_id in row_ids]),
            np.array([baseline_values[row_id] for row_id in row_ids]),
            cell.seed if cell.seed is not None else baseline.seed,
        )


def _over(cell: CellResult, rows: Set[str]) -> CellResult:
    return replace(cell, lanes=[lane for lane in cell.lanes if lane.row_id in rows])


def _check_same_rows(cell: CellResult, baseline: CellResult, warnings: list[str]) -> None:
    gold: Mapping[str, str] = {row.row_id: row.gold for row in baseline.lanes}
    absent = sorted(row.row_id for row in cell.lanes if row.row_id not in gold)
    if absent:
        raise ResultError(
            f"{cell.source}: {cell.name} holds {len(absent)} row(s) that the baseline "
            f"{baseline.source} lacks, the first {absent[0]!r}; compare runs over the same rows"
        )
    for row in cell.lanes:
        if row.gold != gold[row.row_id]:
            raise ResultError(
                f"{cell.source}: row {row.row_id!r} has gold answer {row.gold!r}, but "
                f"{gold[row.row_id]!r} in {baseline.source}; the runs are over different data"
            )
    fewer = len(gold) - len(cell.lanes)
    declared = cell.excluded_rows or 0
    if fewer and fewer != declared:
        warnings.append(
            f"{cell.name} ({cell.direction}): holds {len(cell.lanes)} of the {len(gold)} rows of "
            f"{baseline.name} (exclusions declared: {declared}); compared over its own rows"
        )


def _check_same_setting(cell: CellResult, baseline: CellResult, warnings: list[str]) -> None:
    where = f"{cell.name} and {baseline.name} ({cell.direction})"
    hashes = {cell.dataset_sha256, baseline.dataset_sha256} - {None}
    if len(hashes) > 1:
        warnings.append(f"{where}: the data hashes differ")
    for name in _COMPARABLE_DECODING:
        pair = (cell.decoding.get(name), baseline.decoding.get(name))
        if None not in pair and pair[0] != pair[1]:
            warnings.append(f"{where}: {name} differs, {pair[0]} and {pair[1]}")
    for one in (cell, baseline):
        if not one.complete:
            warnings.append(f"{one.name} ({one.direction}): the run is not complete")
