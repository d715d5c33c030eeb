"""Costs and scores of the methods, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.errors import ResultError
from statebridge.figures.wording import metric_label
from statebridge.records import ResultSet
from statebridge.results.cost import WAYS, ConditionCost, Way
from statebridge.runs.directory import session_seconds
from statebridge.stats.method_scores import MethodScores, method_scores
from statebridge.tables import Column, Range, Table
from statebridge.tables.table import Value

QUARTER = 0.25
"""arXiv 2501.14082 claims less than this share of the compute of text."""

_WAY_NAMES: dict[Way, str] = {
    ("published", False): "published count, no cache",
    ("published", True): "published count, cache",
    ("exact", False): "exact count, no cache",
    ("exact", True): "exact count, cache",
}


@dataclass(frozen=True, slots=True)
class CostView:
    """The part of a report about costs."""

    scores: MethodScores
    table: Table
    sentences: tuple[str, ...]
    """Whether states took less than a quarter of the compute of text, each way of counting; what
    messages take beside; and what the run took by the clock."""


def cost_view(results: ResultSet) -> CostView | str:
    """Return the costs of a run's methods, or one line that says why there are none."""
    try:
        scores = method_scores(results)
    except ResultError as error:
        return str(error)
    costs = [method.cost for method in scores.methods]
    if not any(cost.kind != "alone" for cost in costs):
        return "no condition carries anything from the sender"
    sentences = [*_quarters(costs), *_messages(costs), *_wall_time(results)]
    return CostView(scores, _table(scores), tuple(sentences))


def _table(scores: MethodScores) -> Table:
    columns = (
        Column("condition", "condition"),
        Column("rows", "rows", "integer"),
        Column("share", metric_label(scores.measure), "number", digits=3),
        Column("interval", "95 % interval", "range", digits=3),
        *(
            Column(
                f"gflop_{accounting}_{'cache' if cached else 'no_cache'}", name, "number", digits=2
            )
            for (accounting, cached), name in _WAY_NAMES.items()
        ),
        Column("bytes", "bytes sent", "number", digits=0),
        Column("new_tokens", "new tokens", "number", digits=1),
    )
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            method.cost.condition,
            method.rows,
            method.share,
            Range(method.low, method.high),
            *(method.cost.total(way) / 1e9 for way in WAYS),
            method.cost.sent_bytes,
            method.cost.new_tokens,
        )
        for method in scores.methods
    )
    notes = (
        "Operations of both models in 10⁹, bytes and new tokens: means per row, from the run's own "
        "prompt and text lengths. Published count: the formula of arXiv 2501.14082; exact: the "
        "matrix products. Intervals are at 95 % over rows, by mid-P.",
        "A method is counted as if it ran alone; a translator counts as one matrix.",
    )
    return Table("What each method costs", columns, rows, notes)


def _wall_time(results: ResultSet) -> list[str]:
    """Say what the run's groups took; nothing where that is not recorded."""
    if results.manifest is None or not results.cells:
        return []
    seconds = session_seconds(Path(results.cells[0].source))
    if not seconds:
        return []
    lanes = sum(len(cell.lanes) for cell in results.cells)
    return [
        f"By the clock all methods together took {seconds:.0f} s for {lanes} lanes on "
        f"{results.manifest.get('device', 'a device that is not recorded')}: they share their "
        "passes, so that no method has a time of its own."
    ]


def _messages(costs: Sequence[ConditionCost]) -> list[str]:
    """Say which positions messages take, and what was fitted for them."""
    sentences = []
    for name, facts in ((cost.condition, cost.message) for cost in costs):
        if facts is None:
            continue
        where = "of the receiver's prompt" if facts.fused else "in front of the receiver's prompt"
        words = (
            f"{name} {'changed' if facts.fused else 'took'} {facts.positions:.1f} positions {where}"
        )
        if facts.one_to_one is not None:
            words += f"; {facts.one_to_one:.2f} of their tokens are tokens of both models"
        if facts.parameters:
            words += (
                f"; its map has {facts.parameters:,} parameters, {facts.of_receiver:.2f} times "
                "those of the receiver's matrices"
            )
        sentences.append(f"{words}.")
    return sentences


def _quarters(costs: Sequence[ConditionCost]) -> list[str]:
    sentences = []
    for own in (cost for cost in costs if cost.kind == "activation"):
        for text in (cost for cost in costs if cost.kind == "text"):
            ratios = {way: own.total(way) / text.total(way) for way in WAYS}
            below = [way for way in WAYS if ratios[way] < QUARTER]
            if len(below) == len(WAYS):
                verdict = "less than a quarter each way"
            elif not below:
                verdict = "a quarter or more each way"
            else:
                names = " and ".join(_WAY_NAMES[way] for way in below)
                verdict = f"less than a quarter by the {names} only"
            listed = ", ".join(f"{ratios[way]:.2f} ({_WAY_NAMES[way]})" for way in WAYS)
            sentences.append(
                f"{own.condition} took, of the operations of {text.condition}, {listed}: {verdict}."
            )
    return sentences
