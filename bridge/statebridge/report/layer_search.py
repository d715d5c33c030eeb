"""The content of the report on a layer search, gathered once for HTML and Markdown."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace

from statebridge.figures import Drawing
from statebridge.figures.layers import layer_choice
from statebridge.figures.strength import strength_curve
from statebridge.figures.wording import compared_label, joined, metric_label, plain, rows_text
from statebridge.report.sections.comparison import difference_view
from statebridge.report.sections.splits import rows_by_split
from statebridge.report.words.sentences import (
    gap_sentences,
    own_content,
    own_rows_of,
    sentence,
)
from statebridge.results.layer_search import LayerSearchResults
from statebridge.stats import Settings
from statebridge.stats.held_out_choice import (
    RESAMPLES,
    CellMeans,
    Choice,
    HeldOutChoice,
    choose_held_out,
)
from statebridge.stats.setting import ChannelSetting, channel_settings
from statebridge.tables import Column, Table
from statebridge.tables.comparison_table import grouped_warnings

_SHOWN = 10
"""Cells that the report itself shows; the CSV file holds all."""


@dataclass(frozen=True, slots=True)
class LayerSearchContent:
    """The report's parts."""

    title: str
    subtitle: str
    headline: str
    findings: tuple[str, ...]
    """From the reporting rows."""
    firmness: tuple[str, ...]
    """From the choosing rows."""
    differences: tuple[Table, ...]
    """At the chosen layers, on the reporting rows."""
    highest: Table
    cells: Table
    """Every condition at every pair of layers."""
    notes: tuple[str, ...]
    drawings: tuple[Drawing, ...]
    not_drawn: tuple[Drawing, ...]
    steps: tuple[str, ...]
    experiment_json: str
    choice: HeldOutChoice


def gather_layer_search(
    search: LayerSearchResults,
    *,
    settings: Settings | None = None,
    title: str | None = None,
    command: str | None = None,
    figures: bool = True,
) -> LayerSearchContent:
    """Return the content of a report on a layer search; see `write_layer_search_report`.

    Raises:
        ResultError: The results cannot be compared, or a row has no value of the metric.
    """
    choice = choose_held_out(search, settings)
    comparison, setting = choice.comparison, chosen_setting(choice)
    metric, name = choice.on_choosing.metric, search.plan.experiment["name"]
    drawings: list[Drawing] = []
    if figures:
        drawings.append(layer_choice(choice, setting.floor))
        curve = strength_curve(choice.reported, comparison, metric)
        drawings.append(replace(curve, title=f"{curve.title}, {_place(choice)}"))
    views = [difference_view(comparison, setting.floor, each) for each in comparison.metrics]
    notes = grouped_warnings(comparison)
    cells, folder = _cells(search, choice), shlex.quote(str(search.path))
    return LayerSearchContent(
        title=title or f"Statebridge layer search: {name}",
        subtitle=f"{len(search.runs)} pairs of layers, "
        f"{rows_text([len(choice.split.choosing) + len(choice.split.reporting)])}.",
        headline=choice_headline(choice),
        findings=tuple(reported_findings(choice)),
        firmness=tuple(firmness(choice)),
        differences=tuple(
            replace(
                view,
                title=f"{view.title}, {_place(choice)}",
            )
            for view in views
            if view is not None
        ),
        highest=_highest(cells, choice),
        cells=cells,
        notes=tuple(dict.fromkeys(notes)),
        drawings=tuple(drawing for drawing in drawings if drawing.figure is not None),
        not_drawn=tuple(drawing for drawing in drawings if drawing.figure is None),
        steps=(
            f"statebridge layer-search experiment.json --out {folder}",
            command or f"statebridge report {folder} --out report",
        ),
        experiment_json=json.dumps(search.plan.experiment, indent=2, ensure_ascii=False),
        choice=choice,
    )


def _place(choice: HeldOutChoice) -> str:
    chosen = choice.on_choosing.chosen
    return f"sender layer {chosen.sender_layer}, receiver layer {chosen.receiver_layer}"


def _cells(search: LayerSearchResults, choice: HeldOutChoice) -> Table:
    conditions = {c.name: c for c in search.plan.declared.resolved_conditions}
    folders = {run.layers: run.directory for run in search.plan.runs}
    metric = metric_label(choice.on_choosing.metric)

    def row(cell: CellMeans) -> tuple[str | bool | int | float | None, ...]:
        condition = conditions[cell.condition]
        return (
            cell.sender_layer,
            cell.receiver_layer,
            folders[cell.sender_layer, cell.receiver_layer],
            cell.condition,
            condition.source,
            condition.operator,
            condition.weight,
            str(condition.positions),
            condition.translator,
            cell.seeds,
            cell.candidate,
            cell.chosen,
            cell.choosing_rows,
            cell.choosing_mean,
            cell.reporting_rows,
            cell.reporting_mean,
        )

    return Table(
        title="Every condition at every pair of layers",
        columns=(
            Column("sender_layer", "sender layer", "integer"),
            Column("receiver_layer", "receiver layer", "integer"),
            Column("directory", "directory"),
            Column("condition", "condition"),
            Column("source", "source", printed=False),
            Column("operator", "operator", printed=False),
            Column("weight", "weight", "number", printed=False),
            Column("positions", "positions", printed=False),
            Column("translator", "translator", printed=False),
            Column("seeds", "seeds", "integer", printed=False),
            Column("candidate", "chosen among", "boolean", printed=False),
            Column("chosen", "chosen", "boolean"),
            Column("choosing_rows", "rows chosen on", "integer", printed=False),
            Column("choosing_mean", "mean, rows chosen on", "number"),
            Column("reporting_rows", "rows reported on", "integer", printed=False),
            Column("reporting_mean", "mean, rows reported on", "number"),
        ),
        rows=tuple(row(cell) for cell in choice.cells),
        notes=(f"Means of {metric}, over rows and seeds.",),
    )


def _highest(cells: Table, choice: HeldOutChoice) -> Table:
    names = [column.name for column in cells.columns]
    among, mean = names.index("candidate"), names.index("choosing_mean")
    eligible = [row for row in cells.rows if row[among]]
    # Ties stay in the order of the search, as in the choice.
    ordered = sorted(eligible, key=lambda row: -_number(row[mean]))
    left = len(eligible) - _SHOWN
    more = f" {left} lower ones are in cells.csv." if left > 0 else ""
    return replace(
        cells,
        title="The highest cells by the rows chosen on",
        rows=tuple(ordered[:_SHOWN]),
        notes=(
            f"{cells.notes[0]} Only that of the chosen cell on the {len(choice.split.reporting)} "
            f"rows reported on is free of choice.{more}",
        ),
    )


def _number(value: object) -> float:
    return value if isinstance(value, float) else float("-inf")


def chosen_setting(choice: HeldOutChoice) -> ChannelSetting:
    """Return the setting of what was chosen: its floor, and its ceiling where it has one."""
    name = choice.on_choosing.chosen.condition
    return next(
        setting for setting in channel_settings(choice.reported) if name in setting.conditions
    )


def choice_headline(choice: HeldOutChoice) -> str:
    """Say what was chosen, on which rows and by what."""
    made = choice.on_choosing
    total = len(choice.split.choosing) + len(choice.split.reporting)
    where = f"by mean {metric_label(made.metric)} on {made.n_rows} of the {total} rows"
    if not _any_above_floor(choice):
        floor = chosen_setting(choice).floor
        return (
            f"No cell is above its floor ({floor}): all {made.cells} are at or below it {where}, "
            f"so there is nothing to choose. Reported below is the highest, {_cell(made.chosen)}."
        )
    return f"Chosen: {_cell(made.chosen)}, the highest of {made.cells} cells {where}."


def _any_above_floor(choice: HeldOutChoice) -> bool:
    """Whether a cell that was chosen among is above its floor on the rows chosen on."""
    floors = {
        name: setting.floor
        for setting in channel_settings(choice.reported)
        for name in setting.conditions
        if name != setting.floor
    }
    means = {(c.sender_layer, c.receiver_layer, c.condition): c.choosing_mean for c in choice.cells}
    for cell in choice.cells:
        floor = means.get((cell.sender_layer, cell.receiver_layer, floors.get(cell.condition, "")))
        mean = cell.choosing_mean
        if cell.candidate and mean is not None and (floor is None or mean > floor):
            return True
    return False


def reported_findings(choice: HeldOutChoice) -> list[str]:
    """Say what holds of the chosen cell on the rows that had no part in the choice."""
    made, setting = choice.on_choosing, chosen_setting(choice)
    name = made.chosen.condition
    found = [
        difference
        for metric in choice.comparison.metrics
        if (
            difference := choice.comparison.difference(
                name, setting.floor, metric, setting.direction
            )
        )
        is not None
    ]
    opening = f"On the {len(choice.split.reporting)} rows that had no part in the choice, by "
    findings = [f"{opening}{compared_label(d.metric)}: {sentence(d)}" for d in found]
    of_chosen = choice.comparison.model_copy(
        update={
            "gaps_closed": tuple(
                gap for gap in choice.comparison.gaps_closed if gap.condition == name
            )
        }
    )
    findings += gap_sentences(of_chosen, setting, made.metric)
    own = own_rows_of(choice.comparison, setting, made.metric)
    return findings + own_content([d for d in own if d.condition == name])


def firmness(choice: HeldOutChoice) -> list[str]:
    """Say how firm the choice is; from the choosing rows alone."""
    made = choice.on_choosing
    sentences = [
        f"On the rows that it was chosen on, its mean is {plain(made.mean)} and that of the next, "
        f"{_cell(made.runner_up)}, {plain(made.runner_up_mean)}. The highest of many is too high "
        "by chance: these are no results."
    ]
    if made.tied:
        sentences.append(
            f"{made.tied} other cell{'s have' if made.tied > 1 else ' has'} the same mean; the "
            "first in the order of the layer search was taken."
        )
    sentences.append(
        f"The same cell is chosen in {100 * made.chosen_again:.0f} % of {RESAMPLES:,} bootstrap "
        "resamples of these rows."
    )
    _, seen = rows_by_split(choice.reported)
    if seen:
        sentences.append(
            f"{len(seen)} of the {len(choice.split.reporting)} rows reported on have an answer "
            "that a map was trained on; `statebridge compare --by answer_seen` on the directory "
            "of the chosen layers shows the others apart."
        )
    return [*sentences, _seeds(choice)]


def _seeds(choice: HeldOutChoice) -> str:
    made = choice.on_choosing
    if not made.by_seed:
        return "Nothing that was chosen among depends on a seed."
    if len(made.by_seed) == 1:
        return "There is one seed, so seeds cannot disagree on the choice."
    others = [
        f"seed {seed.seed}: {_cell(seed.choice)}"
        for seed in made.by_seed
        if seed.choice != made.chosen
    ]
    text = (
        f"Chosen under each seed alone, on the same rows: {made.seeds_agreeing} of "
        f"{len(made.by_seed)} seeds choose this cell"
    )
    text += f" ({joined(others)})." if others else "."
    if made.rank_correlation is None:
        return f"{text} Their maps have no rank correlation: one is the same everywhere."
    return (
        f"{text} Spearman's rank correlation of two seeds' maps is "
        f"{plain(made.rank_correlation, 2)} on average."
    )


def _cell(choice: Choice) -> str:
    return (
        f"{choice.condition} from sender layer {choice.sender_layer} to receiver layer "
        f"{choice.receiver_layer}"
    )
