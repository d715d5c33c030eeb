"""Channels between floor and skyline, each with its controls in the same line: the main figure.

The numbers are gathered once (`channel_chart`); a report draws them as markup that can be pointed
at, and `channel_drawing` as a figure for papers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from statebridge.experiment.conditions import Role
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import BLACK, BLUE, GREY, VERMILION, house_style, literal, new_figure
from statebridge.figures.wording import (
    compared_label,
    interval_kind,
    rows_text,
    seeds_text,
    value_text,
)
from statebridge.records import ResultSet
from statebridge.results.by_condition import condition_cells
from statebridge.scoring.measures import MEASURES
from statebridge.stats import Comparison, Difference
from statebridge.stats.comparison import better_sign
from statebridge.stats.setting import ChannelSetting
from statebridge.tables.condition_words import condition_words, control_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MARK_SHARE = 0.035
"""Width of a mark, as a share of the axis, with the space around it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A condition's mean, and the ends of the interval of its difference from the floor."""

    difference: Difference
    word: str
    """Kind of a control; empty for a channel itself."""

    @property
    def name(self) -> str:
        """The condition."""
        return self.difference.condition

    @property
    def floor(self) -> float:
        """The floor's mean; 0 for a metric whose difference is that of the median row."""
        return 0.0 if self.difference.centre == "median" else self.difference.baseline_mean

    @property
    def value(self) -> float:
        """Mean, in the units of the metric; of the median row, its difference from the floor."""
        return self.floor + self.difference.delta

    @property
    def side(self) -> Literal["good", "bad", "open"]:
        """Whether it is shown to be better than the floor, worse, or neither."""
        if self.difference.is_better:
            return "good"
        return "bad" if self.difference.is_worse else "open"

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval of the difference, put on the floor."""
        interval, floor = self.difference.interval, self.floor
        return None if interval is None else (floor + interval.low, floor + interval.high)


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """One line of the figure: a channel with its controls, a relay, or a control of no channel."""

    point: Point
    words: str
    role: Role
    controls: tuple[Point, ...]
    seen: float | None = None
    """Mean over the rows whose answers a map was trained on, where the rest is over the others."""


@dataclass(frozen=True, slots=True)
class ChannelChart:
    """All lines of one setting, the best first."""

    setting: ChannelSetting
    metric: str
    floor: float
    skyline: float | None
    lines: tuple[ChannelLine, ...]

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the axis: all that is drawn, and of right answers 0 and 1."""
        drawn = [self.floor, *([] if self.skyline is None else [self.skyline])]
        for line in self.lines:
            for point in (line.point, *line.controls):
                drawn += [point.value, *(point.ends or ())]
            drawn += [] if line.seen is None else [line.seen]
        if MEASURES[self.metric].kind != "number":
            return 0.0, 1.0
        low, high = min(drawn), max(drawn)
        space = 0.04 * (high - low) or 1.0
        return low - space, high + space

    @property
    def axis(self) -> str:
        """The quantity that is drawn."""
        label = compared_label(self.metric)
        median = self.lines[0].point.difference.centre == "median"
        if median:
            return f"change in {label} of the median row"
        return f"right answers, by {label}" if MEASURES[self.metric].kind == "zero_one" else label

    @property
    def uneven(self) -> bool:
        """Whether lines are over different numbers of rows, as in a run that goes on."""
        points = (each for line in self.lines for each in (line.point, *line.controls))
        return len({point.difference.n_rows for point in points}) > 1

    @property
    def words(self) -> frozenset[str]:
        """Kinds of control that are drawn."""
        return frozenset(point.word for line in self.lines for point in line.controls)

    def place(self, value: float) -> float:
        """Return where a value is, from 0 (worst) to 1 (best): the right end is always better."""
        low, high = self.limits
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return share if better_sign(self.metric) > 0 else 1.0 - share

    def levels(self, line: ChannelLine) -> tuple[int, ...]:
        """Return how far below the channel each of its controls is drawn: none covers another.

        0 is the height of the channel itself.
        """
        own = self._extent(line.point)
        taken = [[own] if line.seen is None else [own, _around(self.place(line.seen))]]
        found = []
        for point in line.controls:
            low, high = self._extent(point)
            level = next(
                (
                    level
                    for level, others in enumerate(taken)
                    if all(high < left or right < low for left, right in others)
                ),
                len(taken),
            )
            taken += [[]] if level == len(taken) else []
            taken[level].append((low, high))
            found.append(level)
        return tuple(found)

    def _extent(self, point: Point) -> tuple[float, float]:
        """Return both ends of what is drawn of a point, as shares of the axis."""
        low, high = _around(self.place(point.value))
        ends = [self.place(end) for end in point.ends or ()]
        return min([low, *ends]), max([high, *ends])


def _around(place: float) -> tuple[float, float]:
    return place - MARK_SHARE / 2, place + MARK_SHARE / 2


def point_text(point: Point, chart: ChannelChart) -> str:
    """Return a point's numbers: `private_last: 6 % [2 %, 11 %], inconclusive`."""
    text = f"{point.name}: {value_text(chart.metric, point.value)}"
    if point.ends is not None:
        low, high = (value_text(chart.metric, end) for end in point.ends)
        text += f" [{low}, {high}]"
    verdict = point.difference.verdict
    text += "" if verdict is None else f", {verdict.replace('_', ' ')}"
    text += f", n = {point.difference.n_rows}" if chart.uneven else ""
    return f"control with {point.word}, {text}" if point.word else text


def line_text(line: ChannelLine, chart: ChannelChart) -> str:
    """Return all numbers of a line, for a reader who does not see it."""
    parts = [point_text(point, chart) for point in (line.point, *line.controls)]
    if line.seen is not None:
        parts.append(f"on rows that a map has seen {value_text(chart.metric, line.seen)}")
    return "; ".join(parts)


def chart_ticks(chart: ChannelChart) -> list[tuple[str, str]]:
    """Return the place in per cent and the text of each tick, from left to right."""
    low, high = chart.limits
    values = [low + share * (high - low) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    found = sorted((chart.place(value), value_text(chart.metric, value)) for value in values)
    return [(f"{100 * place:.0f}", text) for place, text in found]


def channel_chart(
    results: ResultSet,
    comparison: Comparison,
    setting: ChannelSetting,
    metric: str,
    seen: Comparison | None = None,
) -> ChannelChart | None:
    """Return a setting's lines; None where nothing but its floor has a value.

    Args:
        results: What was compared.
        comparison: Has the differences from the setting's floor.
        setting: One setting of the results.
        metric: What is drawn.
        seen: The same over the rows that a map was trained on, where `comparison` is over the
            others.
    """
    declared = {
        group.condition: group.declared
        for group in condition_cells(results)
        if group.direction == setting.direction and group.condition in setting.conditions
    }
    found = _from_floor(comparison, setting, metric)
    beside = {} if seen is None else _from_floor(seen, setting, metric)
    used: set[str] = set()
    lines: list[ChannelLine] = []
    for name, difference in found.items():
        if declared[name].role != "channel":
            continue
        controls = [
            Point(found[other], word)
            for other in found
            if (word := control_word(declared[name], declared[other])) is not None
        ]
        used.update(point.name for point in controls)
        lines.append(_line(difference, declared, beside, controls))
    lines += [
        _line(found[name], declared, beside, ())
        for name in found
        if name not in used and declared[name].role in ("text", "control", "unknown")
    ]
    if not lines:
        return None
    sign, ranks = better_sign(metric), ("channel", "text", "unknown", "control")
    lines.sort(key=lambda line: (ranks.index(line.role), -sign * line.point.value))
    ceiling = None if setting.ceiling is None else found.get(setting.ceiling)
    return ChannelChart(
        setting,
        metric,
        lines[0].point.floor,
        None if ceiling is None else Point(ceiling, "").value,
        tuple(lines),
    )


def _from_floor(
    comparison: Comparison, setting: ChannelSetting, metric: str
) -> dict[str, Difference]:
    wanted = (setting.direction, setting.floor, metric)
    return {
        d.condition: d
        for d in comparison.differences
        if (d.direction, d.baseline, d.metric) == wanted and d.condition in setting.conditions
    }


def _line(
    difference: Difference,
    declared: Mapping[str, object],
    beside: Mapping[str, Difference],
    controls: Iterable[Point],
) -> ChannelLine:
    condition = declared[difference.condition]
    other = beside.get(difference.condition)
    return ChannelLine(
        Point(difference, ""),
        condition_words(condition),  # type: ignore[arg-type]
        condition.role,  # type: ignore[attr-defined]
        tuple(controls),
        None if other is None else Point(other, "").value,
    )


MARKS = {"another row's": "x", "no context": "o", "neutral text": "s", "noise": "^", "zeros": "v"}
"""Marker of each control; the channel's own is a diamond."""


def channel_drawing(charts: Sequence[ChannelChart], words: Sequence[str]) -> Drawing:
    """Draw every setting's channels between floor and skyline, controls in the same line.

    Args:
        charts: One for each setting.
        words: Heading of each.
    """
    name, title = "channels", "Channels between floor and skyline"
    if not charts:
        return absent(name, title, "nothing was compared with a floor")
    places = [_line_places(chart) for chart in charts]
    heights = [0.9 + 0.34 * end for *_, end in places]
    with house_style():
        figure = new_figure(sum(heights) + 0.5)
        panels = figure.subplots(len(charts), 1, squeeze=False, height_ratios=heights)[:, 0]
        shown: set[str] = set()
        for axes, chart, heading, rows in zip(panels, charts, words, places, strict=True):
            for row, line in zip(rows, chart.lines, strict=False):
                _draw_line(axes, line, row, chart.levels(line))
                shown.update(point.word for point in line.controls)
            axes.axvline(chart.floor, color=GREY, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
            if chart.skyline is not None:
                axes.axvline(chart.skyline, color=GREY, linewidth=1, zorder=1)
            names = [literal(line.point.name) for line in chart.lines]
            axes.set_yticks(rows[:-1], names)
            axes.set_ylim(rows[-1] - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.set_title(heading.replace("$", r"\$"))
            axes.set_xlabel(chart.axis)
            low, high = chart.limits
            space = 0.02 * (high - low)
            ends = (low - space, high + space)
            axes.set_xlim(*(ends if better_sign(chart.metric) > 0 else ends[::-1]))
            axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
        for word, mark in MARKS.items():
            if word in shown:
                panels[0].plot([], [], mark, color=BLACK, label=word, **_HOLLOW)
        panels[0].plot([], [], "D", color=BLUE, label="channel or text")
        figure.legend(loc="outside lower center", ncols=6)
    return Drawing(name, title, chart_caption(charts), figure)


_HOLLOW = {"markersize": 5, "markerfacecolor": "white", "linestyle": "none"}


_LEVEL = 0.45
"""Height of a level of controls; a line is 1 high."""


def _line_places(chart: ChannelChart) -> list[float]:
    """Return where each line of a chart is, from above, and behind them their end."""
    places = [0.0]
    for line in chart.lines:
        places.append(places[-1] + 1 + _LEVEL * max(chart.levels(line), default=0))
    return places


def _draw_line(axes: Axes, line: ChannelLine, row: float, levels: Sequence[int]) -> None:
    below = [row + _LEVEL * level for level in levels]
    for point, y in zip((*line.controls, line.point), (*below, row), strict=True):
        own = point is line.point
        colour = BLACK
        if own:
            colour = {"good": BLUE, "bad": VERMILION, "open": GREY}[point.side]
        if point.ends is not None:
            axes.plot(point.ends, [y, y], color=colour, linewidth=1.6 if own else 0.7)
        mark = "D" if own else MARKS.get(point.word, "o")
        fill = colour if own and point.side != "open" else "white"
        size = 7 if own else 5
        axes.plot(point.value, y, mark, color=colour, markerfacecolor=fill, markersize=size)


def chart_caption(charts: Sequence[ChannelChart]) -> str:
    """Say what the figure of channels shows, over what, and what its intervals are."""
    every = [line.point.difference for chart in charts for line in chart.lines]
    text = (
        "Mean of each condition; the right end of an axis is better. Dashed line: floor; full "
        "line: skyline, where there is one. Large mark: the channel, filled where it is shown to "
        "differ from the floor after Holm's correction; small marks in its line: its controls. "
        f"{rows_text(d.n_rows for d in every)}; {seeds_text(s for d in every for s in d.seeds)}. "
        f"Bars: {interval_kind(d.interval for d in every)}, of the difference from the floor."
    )
    if any(line.seen is not None for chart in charts for line in chart.lines):
        text += " All of it is over the rows whose answers no map was trained on."
    return text
