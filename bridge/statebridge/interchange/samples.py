"""Lanes as the samples of an evaluation: the part that the formats of other harnesses share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.experiment.prompting import Prompts
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet, Side
from statebridge.scoring.aggregate import lane_value
from statebridge.scoring.gold import gold_of
from statebridge.scoring.measures import DEFAULT_MEASURES, primary_metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One lane."""

    row: DatasetRow
    lane: LaneResult
    prompt: str
    """Text that the receiver read, before its chat template and before any cut."""
    golds: tuple[str, ...]
    """The gold answer, then its aliases."""
    values: Mapping[str, float]
    """Measures that the lane has, the primary metric first."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One cell of a run."""

    name: str
    """Name of the experiment and of the cell, made of letters, digits, `.`, `-` and `_`."""
    cell: CellResult
    metric: str
    """The primary metric; its value is the score of a sample."""
    samples: tuple[Sample, ...]
    facts: Mapping[str, Any]
    """Condition, its role, seed, the floor with which it is compared, and, of a channel, the
    control conditions with the same prompt."""

    def mean(self, measure: str) -> tuple[float, float | None] | None:
        """Return the mean over samples and its standard error (None below two samples).

        None where no sample has a value.
        """
        values = [s.values[measure] for s in self.samples if measure in s.values]
        if not values:
            return None
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return math.fsum(values) / len(values), error


def run_manifest(results: ResultSet, format: str) -> Mapping[str, Any]:
    """Return the manifest of the one run that the results are of.

    Raises:
        ResultError: They are those of several runs, or of published files.
    """
    if results.manifest is None:
        raise ResultError(
            f"format {format} has the rows of one run directory, with its prompts; give exactly one"
        )
    return results.manifest


def evaluations(results: ResultSet, format: str) -> list[Evaluation]:
    """Return every cell of one run that has rows.

    Args:
        results: The run's.
        format: Name of the format that is written, for messages.

    Raises:
        ResultError: See `run_manifest`.
        NumericError: A measure is NaN or infinite.
    """
    experiment = run_manifest(results, format)["experiment"]
    prompts = Prompts.model_validate(experiment.get("prompts") or {})
    metric = primary_metric(results)
    measures = tuple(dict.fromkeys((metric, *DEFAULT_MEASURES)))
    run = experiment.get("name") or "statebridge"
    found = []
    for cell in results.cells:
        if not cell.lanes:
            continue
        samples = tuple(
            _sample(cell, lane, results.dataset[lane.row_id], prompts, measures)
            for lane in cell.lanes
        )
        name = _plain(f"{run}.{cell.name.replace('/', '.')}")
        found.append(Evaluation(name, cell, metric, samples, _facts(results, cell)))
    return found


def model_name(model: str) -> str:
    """Return the name of a model as others may see it: of a folder of this machine the last part.

    Examples:
        >>> model_name("/home/ada/models/small"), model_name("EleutherAI/pythia-70m")
        ('small', 'EleutherAI/pythia-70m')
    """
    return PurePath(model).name if PurePath(model).is_absolute() else model


def _sample(
    cell: CellResult,
    lane: LaneResult,
    row: DatasetRow,
    prompts: Prompts,
    measures: Sequence[str],
) -> Sample:
    values = {name: lane_value(cell, lane, name) for name in measures}
    return Sample(
        row=row,
        lane=lane,
        prompt=_prompt(cell, lane, row, prompts),
        golds=gold_of(row).names,
        values={name: float(value) for name, value in values.items() if value is not None},
    )


def _prompt(cell: CellResult, lane: LaneResult, row: DatasetRow, prompts: Prompts) -> str:
    kind = cell.condition.prompt
    template, context, texts = prompts.task, row.context, {}
    if kind == "question_only":
        template = prompts.question_only
    elif kind == "placeholder":  # tokens without a text are in the context's place
        context = ""
    elif kind == "relay" and lane.relay is not None:
        template, texts = prompts.relay_receiver, {"relay": lane.relay}
    elif kind == "debate":
        template = prompts.debate_receiver
        texts = {"own": _last(lane, "receiver"), "other": _last(lane, "sender")}
    return template.format(context=context, question=row.question, **texts)


def _last(lane: LaneResult, side: Side) -> str:
    """Return the last text that a model wrote before the answer."""
    return next((turn.text for turn in reversed(lane.turns or ()) if turn.model == side), "")


def _facts(results: ResultSet, cell: CellResult) -> dict[str, Any]:
    condition, floor = cell.condition, results.floor(cell)
    declared = (
        condition.model_dump(mode="json", exclude_defaults=True)
        if isinstance(condition, Condition)
        else {}
    )
    controls = {
        other.condition.name
        for other in results.cells
        if condition.role == "channel"
        and other.condition.role == "control"
        and other.condition.prompt == condition.prompt
    }
    return {
        "condition": {**declared, "name": condition.name},
        "role": condition.role,
        "seed": cell.seed,
        "direction": cell.direction,
        "floor": None if floor is None or floor is cell else floor.condition.name,
        "controls": sorted(controls),
    }


def _plain(name: str) -> str:
    """Return a name in which every other character than those of a file's name is `-`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
