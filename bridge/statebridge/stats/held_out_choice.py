"""A choice among layers and conditions, made on some rows and reported on the others.

The highest of many means is too high by chance: picked and reported on the same rows, a search
over noise finds an effect. Here the cell is chosen by its mean on the choosing rows, by a
function that is given these rows only, and every number reported of it is computed on the reporting
rows, which are then as fresh as those of an experiment that declared the cell beforehand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from statebridge.errors import ResultError
from statebridge.experiment.layer_search import candidates
from statebridge.records import CellResult, Record, ResultSet
from statebridge.results.layer_search import Layers, LayerSearchResults, Split, restricted
from statebridge.scoring.aggregate import row_values
from statebridge.stats.compare import compare
from statebridge.stats.comparison import Comparison, Settings
from statebridge.stats.inference.intervals import Floats, keyed_generator

RESAMPLES = 2000
"""Number of resamples of the choosing rows, to see how firm the choice is."""

_SENSITIVE = "gold_logprob"


class Choice(Record):
    """One condition at one pair of layers."""

    sender_layer: int
    receiver_layer: int
    condition: str

    @property
    def layers(self) -> Layers:
        """Sender's and receiver's layer."""
        return self.sender_layer, self.receiver_layer


class SeedChoice(Record):
    """The choice that one seed alone would have made on the same rows."""

    seed: int
    choice: Choice
    mean: float


class ChoiceOnRows(Record):
    """A choice and how firm it is; from the choosing rows alone."""

    metric: str
    n_rows: int
    cells: int
    """Chosen among."""
    chosen: Choice
    mean: float
    """On the choosing rows; too high by chance, as the highest of many."""
    runner_up: Choice
    runner_up_mean: float
    tied: int
    """Cells with the same mean as the one chosen, which is the first of them in the plan."""
    chosen_again: float
    """Share of bootstrap resamples of the choosing rows in which the same cell is chosen."""
    by_seed: tuple[SeedChoice, ...]
    """Empty where nothing that is chosen among is seeded."""
    rank_correlation: float | None
    """Mean Spearman correlation of two seeds' means over all cells; None below two seeds, or
    where a seed's means are all the same."""

    @property
    def seeds_agreeing(self) -> int:
        """Seeds that choose the same cell."""
        return sum(seed.choice == self.chosen for seed in self.by_seed)


class CellMeans(Record):
    """The means of one condition at one pair of layers on both parts of the rows."""

    sender_layer: int
    receiver_layer: int
    condition: str
    seeds: int
    candidate: bool
    chosen: bool
    choosing_mean: float | None
    choosing_rows: int
    reporting_mean: float | None
    reporting_rows: int


@dataclass(frozen=True, slots=True)
class HeldOutChoice:
    """A choice with what holds of it on the rows that had no part in it."""

    split: Split
    on_choosing: ChoiceOnRows
    cells: tuple[CellMeans, ...]
    """Every condition at every pair of layers, in the order of the plan."""
    reported: ResultSet
    """The run of the chosen layers, on the reporting rows."""
    comparison: Comparison
    """Each condition within its setting on the reported rows, by the metric of the choice and by
    the gold answer's log-probability."""


def choose_held_out(search: LayerSearchResults, settings: Settings | None = None) -> HeldOutChoice:
    """Choose a cell of a layer search as it declares, and compare it on the reporting rows.

    Raises:
        ResultError: A row without a value of the metric, or results that cannot be compared.
    """
    declared = search.plan.declared
    if declared.layer_search is None:
        raise ResultError(f"{search.path}: its experiment declares no layer search")
    metric, split = declared.layer_search.choose.metric, search.plan.split
    names = [condition.name for condition in candidates(declared)]
    choosing = {layers: restricted(run, split.choosing) for layers, run in search.runs.items()}
    choice = choose(choosing, names, metric)
    reported = restricted(search.runs[choice.chosen.layers], split.reporting)
    settings = settings or Settings(stratify_by=())
    return HeldOutChoice(
        split=split,
        on_choosing=choice,
        cells=tuple(_all_means(search, names, metric, choice.chosen)),
        reported=reported,
        comparison=compare(
            reported, metrics=tuple(dict.fromkeys([metric, _SENSITIVE])), settings=settings
        ),
    )


def choose(choosing: Mapping[Layers, ResultSet], names: Sequence[str], metric: str) -> ChoiceOnRows:
    """Choose the cell with the highest mean, each row's value averaged over the seeds first.

    Args:
        choosing: Results by layers, holding the choosing rows and no others.
        names: The conditions to choose among.
        metric: What is averaged.

    Raises:
        ResultError: A condition is missing, or a row has no value of the metric.
    """
    row_ids = _row_ids(choosing)
    cells = [
        Choice(sender_layer=layers[0], receiver_layer=layers[1], condition=name)
        for layers in choosing
        for name in names
    ]
    by_seed = [_seed_values(choosing[cell.layers], cell, metric, row_ids) for cell in cells]
    # Sums before quotients: equal scores of 0 and 1 then give equal means, whatever their order.
    sums = np.stack([np.sum(list(of.values()), axis=0) for of in by_seed])
    runs = np.array([len(of) for of in by_seed])
    means = _means(sums) / runs
    order = np.argsort(-means, kind="stable")
    best, second = int(order[0]), int(order[1])
    seeds = sorted({seed for of in by_seed for seed in of if seed is not None})
    maps = [_means(np.stack([_of_seed(of, seed) for of in by_seed])) for seed in seeds]
    return ChoiceOnRows(
        metric=metric,
        n_rows=len(row_ids),
        cells=len(cells),
        chosen=cells[best],
        mean=float(means[best]),
        runner_up=cells[second],
        runner_up_mean=float(means[second]),
        tied=int((means == means[best]).sum()) - 1,
        chosen_again=_chosen_again(sums, runs, best, metric),
        by_seed=tuple(
            SeedChoice(
                seed=seed, choice=cells[int(np.argmax(found))], mean=float(found[np.argmax(found)])
            )
            for seed, found in zip(seeds, maps, strict=True)
        ),
        rank_correlation=_rank_correlation(maps),
    )


def _row_ids(choosing: Mapping[Layers, ResultSet]) -> tuple[str, ...]:
    """Return the rows, sorted as text: no order of files moves a mean."""
    first = next(iter(choosing.values()))
    return tuple(sorted({row.row_id for cell in first.cells for row in cell.lanes}))


def _seed_values(
    results: ResultSet, cell: Choice, metric: str, row_ids: Sequence[str]
) -> dict[int | None, Floats]:
    """Return the values of one condition by seed, (rows,) each."""
    found: dict[int | None, Floats] = {}
    for each in results.cells:
        if each.condition.name != cell.condition:
            continue
        values = row_values(each, metric)
        lacking = next((row_id for row_id in row_ids if row_id not in values), None)
        if lacking is not None:
            raise ResultError(
                f"{each.source}: {each.name} has no {metric} of row {lacking}, so its mean is not "
                "over the rows of the others; choose among conditions that every row runs in"
            )
        found[each.seed] = np.array([values[row_id] for row_id in row_ids])
    if not found:
        raise ResultError(
            f"condition {cell.condition} has no results at sender layer {cell.sender_layer} and "
            f"receiver layer {cell.receiver_layer}"
        )
    return found


def _of_seed(values: Mapping[int | None, Floats], seed: int) -> Floats:
    """Return a seed's values; of a condition without seeds, the ones it has."""
    return values[seed] if seed in values else values[None]


def _means(values: Floats) -> Floats:
    # fsum rounds once: cells that are equal in their values are equal in their means.
    return np.array([math.fsum(row) / len(row) for row in values])


def _chosen_again(sums: Floats, runs: npt.NDArray[np.int64], best: int, metric: str) -> float:
    generator = keyed_generator("held_out_choice", metric, *sums.shape)
    rows = sums.shape[1]
    counts = generator.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    # A tie goes to the first cell, as in the choice itself.
    return float((np.argmax(sums @ counts.T / runs[:, None], axis=0) == best).mean())


def _rank_correlation(maps: Sequence[Floats]) -> float | None:
    found = []
    for place, one in enumerate(maps):
        for other in maps[place + 1 :]:
            with warnings.catch_warnings():
                # A map without variance has no ranks; scipy warns and gives NaN.
                warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
                found.append(float(scipy.stats.spearmanr(one, other).statistic))
    if not found or any(math.isnan(value) for value in found):
        return None
    return math.fsum(found) / len(found)


def _all_means(
    search: LayerSearchResults, names: Sequence[str], metric: str, chosen: Choice
) -> list[CellMeans]:
    means = []
    for layers, results in search.runs.items():
        by_condition: dict[str, list[CellResult]] = {}
        for cell in results.cells:
            by_condition.setdefault(cell.condition.name, []).append(cell)
        for condition, cells in by_condition.items():
            parts = [
                _part_mean(cells, metric, rows)
                for rows in (search.plan.split.choosing, search.plan.split.reporting)
            ]
            means.append(
                CellMeans(
                    sender_layer=layers[0],
                    receiver_layer=layers[1],
                    condition=condition,
                    seeds=len(cells),
                    candidate=condition in names,
                    chosen=(*layers, condition) == (*chosen.layers, chosen.condition),
                    choosing_mean=parts[0][0],
                    choosing_rows=parts[0][1],
                    reporting_mean=parts[1][0],
                    reporting_rows=parts[1][1],
                )
            )
    return means


def _part_mean(
    cells: Sequence[CellResult], metric: str, rows: Sequence[str]
) -> tuple[float | None, int]:
    """Return the mean over the rows that every seed has a value for, and how many these are."""
    found = [row_values(cell, metric) for cell in cells]
    shared = [row for row in rows if all(row in values for values in found)]
    if not shared:
        return None, 0
    total = math.fsum(values[row] for values in found for row in shared)
    return total / (len(shared) * len(found)), len(shared)
