"""Cautions: what limits a verdict, found in the results themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statebridge.figures.wording import joined, metric_label
from statebridge.records import CellResult, ResultSet
from statebridge.results.by_condition import ConditionCells
from statebridge.results.donors import same_answer_rows
from statebridge.stats import Comparison, Difference
from statebridge.stats.pairing import is_zero_one


def cautions(
    results: ResultSet,
    groups: Sequence[ConditionCells],
    comparison: Comparison | None,
    baseline: str | None,
    metric: str | None,
) -> Iterator[str]:
    """Yield one sentence or two for each limit of the results of one direction.

    `groups` are the conditions that hold rows; `metric` is what the verdict rests on.
    """
    yield from results.cautions
    yield from _absent_rows(results, groups)
    yield from _missing_predictions(groups)
    if comparison is not None and baseline is not None and metric is not None:
        found = [
            d
            for d in comparison.differences
            if (d.direction, d.baseline, d.metric) == (groups[0].direction, baseline, metric)
        ]
        channels = {group.condition for group in groups if group.role == "channel"}
        yield from _too_few_rows([d for d in found if d.condition in channels], comparison)
    yield from _few_seeds(groups)
    yield from _own_donors(groups)
    yield from _same_answers(results, groups)
    yield from _shared_translators(results)
    if baseline is not None:
        yield from _changed_by_self_injection(groups, baseline)
    yield from _absent_comparisons(groups)


def unchanged_by_self_injection(groups: Sequence[ConditionCells], baseline: str) -> list[str]:
    """Return the finding that writing back what was there changed no text."""
    return [
        f"Apparatus: {cell.name} gives the text of {baseline} in all {len(compared)} rows."
        for cell, compared in _self_injections(groups, baseline)
        if compared and not any(compared)
    ]


def _changed_by_self_injection(groups: Sequence[ConditionCells], baseline: str) -> Iterator[str]:
    for cell, compared in _self_injections(groups, baseline):
        if any(compared):
            yield (
                f"{cell.name} writes back what was there and yet changes {sum(compared)} of "
                f"{len(compared)} texts: the apparatus itself alters results, so no difference "
                "can be laid to what was injected."
            )


def _self_injections(
    groups: Sequence[ConditionCells], baseline: str
) -> Iterator[tuple[CellResult, list[bool]]]:
    """Each self-injection, and for each of its rows whether the text is not the baseline's."""
    plain = next(group for group in groups if group.condition == baseline)
    texts = {row.row_id: row.prediction for row in plain.cells[0].lanes}
    for group in groups:
        if group.role == "self":
            for cell in group.cells:
                yield (
                    cell,
                    [
                        row.prediction != texts[row.row_id]
                        for row in cell.lanes
                        if row.prediction is not None and texts.get(row.row_id) is not None
                    ],
                )


def _absent_rows(results: ResultSet, groups: Sequence[ConditionCells]) -> Iterator[str]:
    cells = [cell for cell in results.cells if cell.direction == groups[0].direction]
    unfinished = [cell.name for cell in cells if not cell.complete]
    if unfinished:
        yield (
            f"The run is not finished: {len(unfinished)} of {len(cells)} cells lack rows "
            f"({_some(unfinished)}). The numbers will change."
        )
    empty = [cell.name for cell in cells if not cell.lanes and cell.complete]
    if empty:
        yield f"No row is left in {_some(empty)} after exclusions; left out of every table."


def _missing_predictions(groups: Sequence[ConditionCells]) -> Iterator[str]:
    missing = {
        group.condition: sum(row.prediction is None for cell in group.cells for row in cell.lanes)
        for group in groups
    }
    rows = sum(len(cell.lanes) for group in groups for cell in group.cells)
    total = sum(missing.values())
    if total == rows:
        yield (
            "No row has a prediction (a run without decoding), so nothing is said about text; the "
            "verdict rests on what was measured before decoding."
        )
    elif total:
        names = _some([f"{name} {count}" for name, count in missing.items() if count])
        yield f"{total} of {rows} predictions are missing ({names}); those rows are left out."


def _too_few_rows(channels: Sequence[Difference], comparison: Comparison) -> Iterator[str]:
    for metric in dict.fromkeys(d.metric for d in channels):
        margins = comparison.settings.margins_for(metric, zero_one=is_zero_one(metric))
        weak = [
            d
            for d in channels
            if d.verdict == "inconclusive"
            and d.effect is not None
            and d.effect.minimal_detectable is not None
            and margins
            and d.effect.minimal_detectable > max(margins)
        ]
        if weak:
            smallest = min(d.effect.minimal_detectable or 0.0 for d in weak if d.effect)
            yield (
                f"{min(d.n_rows for d in weak)} rows are too few for the declared margin of "
                f"±{max(margins):g}: only a difference in {metric_label(metric)} of about "
                f"{smallest:.2g} would be found with "
                f"{100 * comparison.settings.power:.0f} % power. No "
                "difference found here does not mean that there is none."
            )


def _few_seeds(groups: Sequence[ConditionCells]) -> Iterator[str]:
    single = [g.condition for g in groups if len(g.cells) == 1 and g.cells[0].seed is not None]
    if single:
        yield (
            f"One seed only for {_some(single)}: how much the translator or the draw matters is "
            "not known, and no result can be called stable over seeds."
        )


def _own_donors(groups: Sequence[ConditionCells]) -> Iterator[str]:
    for group in groups:
        rows = [row for cell in group.cells for row in cell.lanes]
        own = sum(row.donor_self_fallback is True for row in rows)
        if own:
            yield (
                f"{group.condition}: {own} of {len(rows)} rows got their own state, for want of "
                "another row with as long a prompt; there it is no control."
            )


def _same_answers(results: ResultSet, groups: Sequence[ConditionCells]) -> Iterator[str]:
    counts: dict[tuple[int, int], list[str]] = {}
    for group in groups:
        shared = sum(len(same_answer_rows(cell, results.dataset)) for cell in group.cells)
        if shared:
            lanes = sum(len(cell.lanes) for cell in group.cells)
            counts.setdefault((shared, lanes), []).append(group.condition)
    for (shared, lanes), names in counts.items():
        yield (
            f"{_some(names)}: in {shared} of {lanes} rows the other row has the same answer, so "
            "that there its state is no control; they are left out where a row's own state is "
            "compared with another's."
        )


def _shared_translators(results: ResultSet) -> Iterator[str]:
    declared = (results.manifest or {}).get("translators") or {}
    by_hash: dict[str, list[str]] = {}
    for seed, entry in declared.items():
        by_hash.setdefault(str(entry.get("sha256")), []).append(str(seed))
    shared = [seeds for seeds in by_hash.values() if len(seeds) > 1]
    for seeds in shared:
        yield (
            f"Seeds {joined(seeds)} have the same translator file: for conditions that only "
            "translate they repeat one run and are no independent evidence."
        )


def _absent_comparisons(groups: Sequence[ConditionCells]) -> Iterator[str]:
    roles = {group.condition: group.role for group in groups}
    if "control" not in roles.values():
        yield (
            "No control (another row's, random or zero states) is among the results: a gain could "
            "not be told from the effect of writing anything at all."
        )
    if "text" not in roles.values():
        yield "No text relay (nl_relay) is among the results to compare the channel with."
    if "self" not in roles.values():
        yield "No self-injection is among the results: that writing is exact was not checked."
    unknown = [name for name, found in roles.items() if found == "unknown"]
    if unknown:
        yield (
            f"{_some(unknown)}: the results do not say what this writes, so no sentence above "
            "counts it."
        )


def _some(names: Sequence[str], most: int = 6) -> str:
    if len(names) <= most:
        return joined(list(names))
    return f"{', '.join(names[:most])} and {len(names) - most} more"
