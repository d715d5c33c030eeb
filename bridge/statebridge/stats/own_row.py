"""The row's own state against another row's: what a channel carries of the row itself.

A control that writes another row's state the same way shares all of the channel's other effects.
So its difference from the channel decides whether a gain is transfer. All such pairs of a setting
and metric are one family: corrected each alone, one in three of them would be found by chance
with eight channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition, DeclaredCondition
from statebridge.records import Direction, ResultSet
from statebridge.results.donors import same_answer_rows
from statebridge.stats.comparison import Difference, Settings, measures_change
from statebridge.stats.difference import clustered_difference
from statebridge.stats.pairing import PairedCondition, Pairing
from statebridge.stats.setting import ChannelSetting
from statebridge.stats.verdicts import judged


def own_row_differences(
    results: ResultSet,
    pairing: Pairing,
    settings_here: Sequence[ChannelSetting],
    metrics: Sequence[str],
    settings: Settings,
    warnings: list[str],
) -> list[Difference]:
    """Return each channel's difference from its control with another row's state.

    It is over the rows that the control holds and that got the state of a row with another answer
    there. Two conditions without a seed or row in common add a line to `warnings` instead.
    """
    pairs: list[PairedCondition] = []
    families = []
    for setting in settings_here:
        for channel, control in shuffled_twins(results, setting):
            rows = with_another_row(results, setting.direction, control)
            for metric in metrics:
                names = (setting.direction, channel, control, metric)
                if measures_change(metric) or not all(
                    pairing.has_values(setting.direction, name, metric)
                    for name in (channel, control)
                ):
                    continue
                try:
                    paired = pairing.pair(*names, rows=rows)
                except ResultError as error:
                    warnings.append(f"own row not compared with another's: {error}")
                    continue
                pairs.append(paired)
                families.append((setting.direction, setting.prompt, metric))
    differences = [clustered_difference(paired, settings) for paired in pairs]
    return judged(pairs, differences, families, settings)


def shuffled_twins(results: ResultSet, setting: ChannelSetting) -> Iterator[tuple[str, str]]:
    """Yield (channel, control) of a setting that differ only in whose state is written.

    A control in which no row got another row's state is left out.
    """
    declared: dict[str, DeclaredCondition] = {
        cell.condition.name: cell.condition
        for cell in results.cells
        if cell.direction == setting.direction and cell.condition.name in setting.conditions
    }
    for name, condition in declared.items():
        for other, control in declared.items():
            if (
                isinstance(condition, Condition)
                and condition.is_shuffled_twin(control)
                and with_another_row(results, setting.direction, other)
            ):
                yield name, other


def with_another_row(results: ResultSet, direction: Direction, control: str) -> frozenset[str]:
    """Return the rows of a control that got the state of another answer's row under every seed."""
    cells = [
        cell
        for cell in results.cells
        if (cell.direction, cell.condition.name) == (direction, control)
    ]
    lanes = [lane for cell in cells for lane in cell.lanes]
    alike = {row_id for cell in cells for row_id in same_answer_rows(cell, results.dataset)}
    own = {lane.row_id for lane in lanes if lane.donor_self_fallback}
    return frozenset(lane.row_id for lane in lanes) - own - alike
