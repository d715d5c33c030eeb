"""Cells: one condition under one seed, the unit of a published result file."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Experiment


def cell_name(condition: str, seed: int | None) -> str:
    """Return `condition` or `condition/seedN`: unique within one direction of a result set."""
    return condition if seed is None else f"{condition}/seed{seed}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One condition under one seed; `seed` is None for a deterministic condition."""

    condition: Condition
    seed: int | None

    @property
    def name(self) -> str:
        """`condition` or `condition/seedN`."""
        return cell_name(self.condition.name, self.seed)


def experiment_cells(experiment: Experiment) -> tuple[Cell, ...]:
    """Return the experiment's cells: conditions in order, each over its seeds in order.

    Where texts are sampled every condition has a cell for each seed.
    """
    return tuple(
        Cell(condition, seed)
        for condition in experiment.resolved_conditions
        for seed in (experiment.seeds if condition.seeded or experiment.sampled else (None,))
    )
