"""The checks inside the sender as a table and in words: is what is sent used there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.figures.wording import interval_kind, interval_text, joined, percent, plain, signed
from statebridge.records import ResultSet
from statebridge.results.by_condition import condition_cells
from statebridge.results.sender_checks import SenderChecks, read_sender_checks
from statebridge.stats.sender_effect import NEGLIGIBLE, AnswerChange, SenderEffect, sender_effects
from statebridge.tables import Column, Range, Table

KNOWS_LITTLE = 0.2
"""A sender that answers a smaller share of the rows has little to lose."""

_PLACES = {
    "all": "all positions",
    "last": "the last position",
    "question": "the question",
    "question after placeholders": "what follows the context",
    "context": "the context",
    "first": "the first token",
    "unread": "all positions that no condition reads",
}
_REPLACEMENTS = {"mean": "mean state", "zero": "zero", "patch": "another row's states"}


@dataclass(frozen=True, slots=True)
class SenderView:
    """The part of a report about the checks."""

    sentences: tuple[str, ...]
    table: Table


def sender_view(results: ResultSet) -> SenderView | None:
    """Return the checks of the run directory that the results come from; None without any.

    Raises:
        ResultError: The file of the checks is damaged.
    """
    if results.manifest is None or not results.cells:
        return None
    checks = read_sender_checks(Path(results.cells[0].source))
    if checks is None:
        return None
    effects = sender_effects(checks)
    return SenderView(tuple(_sentences(checks, effects)), _table(effects))


def not_checked(results: ResultSet) -> str:
    """Say that a run's sender was not looked into; empty where there is nothing to look into."""
    if results.manifest is None or read_sender_checks(Path(results.cells[0].source)) is not None:
        return ""
    if all(group.role != "channel" for group in condition_cells(results)):
        return ""
    return (
        "Whether the sender itself uses what is sent, at the layer and positions where it is "
        "read, was not checked. Add sender_checks: true to the experiment."
    )


def _sentences(checks: SenderChecks, effects: Sequence[SenderEffect]) -> list[str]:
    golds = [row.gold for row in checks.rows]
    right = sum(gold.all_right for gold in golds) / len(golds)
    opening = (
        f"As it is, the sender gives the gold answer in {percent(right)} of {len(golds)} rows "
        "(greedy, no penalties), with a mean log-probability of "
        f"{plain(sum(gold.logprob for gold in golds) / len(golds), 2)} nats. Its states are "
        f"replaced in the output of {checks.layer_path} (layer {checks.layer} of {checks.blocks}). "
        "The intervals below hold together at 95 %."
    )
    if right < KNOWS_LITTLE:
        opening += " It knows few of the answers, so there is little that a replacement could take."
    by_place: dict[str, list[SenderEffect]] = {}
    for effect in effects:
        by_place.setdefault(effect.positions, []).append(effect)
    read = [found for found in by_place.values() if found[0].read_by]
    compared = [found[0] for found in by_place.values() if not found[0].read_by]
    sentences = [opening, *(_read(found) for found in read)]
    if compared:
        parts = [
            f"{_place(e.positions)} {signed(e.gold.difference, 2)} nats "
            f"{interval_text(e.gold.interval, 2)}, {percent(e.gold.right_after)} right"
            for e in compared
        ]
        sentences.append(
            f"For comparison, {_REPLACEMENTS[compared[0].replacement]} elsewhere: "
            f"{'; '.join(parts)}. Many models keep a state at their first token that they cannot "
            "do without."
        )
    return sentences


def _read(found: Sequence[SenderEffect]) -> str:
    """Say whether the sender uses what conditions read at one set of positions."""
    by = {effect.replacement: effect for effect in found}
    place = _place(found[0].positions)
    main = by["mean"]
    sentence = f"{_VERDICTS[main.gold.outcome].format(place=place)}: with {_change(main)}"
    if "zero" in by:
        gold = by["zero"].gold
        sentence += (
            f". Zero there: {signed(gold.difference, 2)} nats {interval_text(gold.interval, 2)}, "
            f"{percent(gold.right_after)} right"
        )
    patch = by.get("patch")
    if patch is not None and patch.donor is not None:
        donor = patch.donor
        sentence += (
            f". With another row's states there it gives that row's answer in "
            f"{percent(donor.right_after)} of {patch.n_rows} rows "
            f"({percent(donor.right_before)} before), whose log-probability changes by "
            f"{signed(donor.difference, 2)} nats {interval_text(donor.interval, 2)}"
        )
    return f"{sentence}."


_VERDICTS = {
    "falls": "The sender uses what is read at {place}",
    "rises": "What is read at {place} stands in the way of the sender's own answer",
    "unchanged": "The sender does not need what is read at {place}",
    "open": "Whether the sender uses what is read at {place} stays open",
}


def _change(effect: SenderEffect) -> str:
    gold = effect.gold
    within = f", within ±{NEGLIGIBLE}" if gold.outcome == "unchanged" else ""
    return (
        f"the mean state over the rows in its place, the gold answer's log-probability changes by "
        f"{signed(gold.difference, 2)} nats {interval_text(gold.interval, 2)}{within}, and the "
        f"rows answered right go from {percent(gold.right_before)} to "
        f"{percent(gold.right_after)} (n = {effect.n_rows})"
    )


def _table(effects: Sequence[SenderEffect]) -> Table:
    return Table(
        title="Inside the sender",
        columns=(
            Column("positions", "positions"),
            Column("replaced_by", "replaced by"),
            Column("read_by", "read by"),
            Column("rows", "rows", "integer"),
            Column("right_before", "right before", "number", digits=3),
            Column("right_after", "right after", "number", digits=3),
            Column("first_before", "first token right before", "number", digits=3, printed=False),
            Column("first_after", "first token right after", "number", digits=3, printed=False),
            Column("logprob_before", "log-probability before", "number", digits=3, printed=False),
            Column("logprob_after", "log-probability after", "number", digits=3, printed=False),
            Column("difference", "log-probability, nats", "number", "signed", 3),
            Column("interval", "interval", "range", "signed", 3),
            Column("donor_right_before", "donor's answer before", "number", digits=3),
            Column("donor_right_after", "donor's answer after", "number", digits=3),
            Column("donor_difference", "donor's, nats", "number", "signed", 3),
            Column("donor_interval", "donor's interval", "range", "signed", 3),
        ),
        rows=tuple(
            (
                effect.positions,
                _REPLACEMENTS[effect.replacement],
                joined(effect.read_by) or "no condition",
                effect.n_rows,
                effect.gold.right_before,
                effect.gold.right_after,
                effect.gold.first_before,
                effect.gold.first_after,
                effect.gold.logprob_before,
                effect.gold.logprob_after,
                effect.gold.difference,
                Range.of(effect.gold.interval),
                *_donor_values(effect.donor),
            )
            for effect in effects
        ),
        notes=(
            "Right: the share of rows in which every token of the answer is the most probable one "
            "after those before it. Differences are after minus before, in the log-probability of "
            "the whole answer. Another row has another answer; rows without one whose prompt is "
            "as long are left out. The mean is over the rows, at the same distance from the end "
            f"of the prompt. {_capital(interval_kind(e.gold.interval for e in effects))}: "
            "all of them together hold at 95 % (Bonferroni).",
        ),
    )


def _donor_values(
    change: AnswerChange | None,
) -> tuple[float | None, float | None, float | None, Range | None]:
    if change is None:
        return None, None, None, None
    return change.right_before, change.right_after, change.difference, Range.of(change.interval)


def _place(name: str) -> str:
    return _PLACES.get(name, f"positions {name}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
