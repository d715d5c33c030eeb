"""Experiment files: what is declared before anything runs. Torch-free."""

from __future__ import annotations

from statebridge.experiment.cells import Cell, experiment_cells
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.presets import CONDITIONS, PRESETS
from statebridge.experiment.reading.files import load_experiment, parse_experiment

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
