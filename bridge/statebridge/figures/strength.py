"""The strength curve: what a condition does as its weight (the paper's α) grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statebridge.experiment.conditions import Condition
from statebridge.figures.drawing import Drawing, absent
from statebridge.figures.style import BLACK, GREY, house_style, literal, new_figure, series_styles
from statebridge.figures.wording import interval_kind, metric_label, rows_text, seeds_text
from statebridge.records import Direction, ResultSet
from statebridge.results.by_condition import condition_cells
from statebridge.stats import Comparison, Difference


@dataclass(frozen=True, slots=True)
class StrengthSeries:
    """Conditions of one direction that differ in their weight only."""

    direction: Direction
    names: tuple[str, ...]
    weights: tuple[float, ...]
    """Ascending, one for each name."""
    ends_at_baseline: bool
    """Whether weight 0 writes back what was there, so that the curve starts at no_inject."""


def strength_series(results: ResultSet) -> list[StrengthSeries]:
    """Return every set of at least two conditions that differ in weight only."""
    found: dict[tuple[Direction, Condition], list[tuple[float, str]]] = {}
    for group in condition_cells(results):
        condition = group.declared
        if not isinstance(condition, Condition) or not condition.writes:
            continue
        alike = condition.model_copy(update={"name": "any", "weight": 1.0})
        found.setdefault((group.direction, alike), []).append((condition.weight, group.condition))
    series = []
    for (direction, alike), points in found.items():
        if len({weight for weight, _ in points}) > 1:
            weights, names = zip(*sorted(points), strict=True)
            scaled = alike.operator in ("add", "blend")
            series.append(StrengthSeries(direction, names, weights, scaled))
    return series


def strength_curve(
    results: ResultSet, comparison: Comparison, metric: str = "word_boundary_contains"
) -> Drawing:
    """Draw the difference from the plain baseline over the weight of otherwise equal conditions."""
    name, title = (
        f"strength_curve_{metric}",
        f"Strength of the injection, by {metric_label(metric)}",
    )
    baselines = _plain_baselines(results, comparison)
    if not baselines:
        return absent(name, title, "nothing was compared with a run without injection")
    # Each series is compared with the baseline of its own setting.
    found = [
        (baseline, series, points)
        for series in strength_series(results)
        for baseline in baselines
        if len(points := _points(series, comparison, baseline, metric)) > 1
    ]
    baseline = found[0][0] if found else baselines[0]
    drawn = [(series, points) for of, series, points in found if of == baseline]
    if not drawn:
        return absent(
            name,
            title,
            "no two compared conditions differ in weight only; declare the same condition with "
            "several weights",
        )
    styles = list(series_styles([]).values())
    used = [difference for _, points in drawn for _, difference in points]
    with house_style():
        figure = new_figure(3.2)
        axes = figure.subplots()
        axes.axhline(0, color=BLACK, linewidth=0.9)
        for place, (series, points) in enumerate(drawn):
            style = styles[place % len(styles)]
            for weight, difference in points:
                if difference.interval is not None:
                    ends = [difference.interval.low, difference.interval.high]
                    axes.plot([weight, weight], ends, "_-", color=style.colour, linewidth=1.1)
            line = [(weight, difference.delta) for weight, difference in points]
            if series.ends_at_baseline and line[0][0] > 0:
                axes.plot(*zip((0.0, 0.0), line[0], strict=True), color=GREY, linestyle=(0, (2, 2)))
            axes.plot(
                *zip(*line, strict=True),
                color=style.colour,
                marker=style.marker,
                linestyle=style.dash,
                label=_legend(series, several=len({s.direction for s, _ in drawn}) > 1),
            )
        if any(series.ends_at_baseline for series, _ in drawn):
            axes.plot(0, 0, "o", markerfacecolor="white", markeredgecolor=BLACK, zorder=5)
            axes.annotate(
                f"{literal(baseline)} (α = 0)",
                (0, 0),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=7,
            )
        axes.set_xlabel("weight α")
        axes.set_ylabel(f"difference in\n{metric_label(metric)}")
        axes.grid(color="#E6E6E6", linewidth=0.6)
        figure.legend(loc="outside lower center")
    caption = (
        f"Difference in {metric_label(metric)} from {baseline} over the weight of conditions that "
        f"are otherwise the same, with {interval_kind(d.interval for d in used)}; "
        f"{rows_text(d.n_rows for d in used)}; "
        f"{seeds_text(seed for d in used for seed in d.seeds)}. At weight 0 nothing is written, "
        "so the curve starts at the baseline; between points the line is a guide to the eye."
    )
    return Drawing(name, title, caption, figure)


def _plain_baselines(results: ResultSet, comparison: Comparison) -> list[str]:
    plain = {group.condition for group in condition_cells(results) if group.role == "baseline"}
    return [name for name in comparison.baselines if name in plain]


def _points(
    series: StrengthSeries, comparison: Comparison, baseline: str, metric: str
) -> Sequence[tuple[float, Difference]]:
    found = (
        (weight, comparison.difference(name, baseline, metric, series.direction))
        for weight, name in zip(series.weights, series.names, strict=True)
    )
    return [(weight, difference) for weight, difference in found if difference is not None]


def _legend(series: StrengthSeries, *, several: bool) -> str:
    names = ", ".join(literal(name) for name in series.names)
    return f"{names} ({series.direction})" if several else names
