"""Experiment files: what is declared before anything runs. Torch-free."""

from __future__ import annotations

from statebridge.spec.cells import Cell, experiment_cells
from statebridge.spec.conditions import Condition
from statebridge.spec.experiment import Experiment
from statebridge.spec.files import load_experiment, parse_experiment
from statebridge.spec.presets import CONDITIONS, PRESETS

__all__ = [
    "CONDITIONS",
    "PRESETS",
    "Cell",
    "Condition",
    "Experiment",
    "experiment_cells",
    "load_experiment",
    "parse_experiment",
]
