"""Rows that are new to the maps of a run: a table of the splits, and a verdict that uses them.

A map that was trained on the evaluated answers can look them up. The verdict is therefore over
the rows whose answers no map was trained on, where there are enough of them, and says beside it
what holds on the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from statebridge.data.training_texts import repeats
from statebridge.experiment.conditions import Condition
from statebridge.figures.wording import joined
from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.report.words.sentences import SENSITIVE, judging_metric, on_seen_rows
from statebridge.report.words.verdict import SETTING_WORDS, Verdict, verdicts
from statebridge.results.training_overlap import SetOverlap, TrainingOverlap, read_overlap
from statebridge.stats import Comparison, Difference, compare
from statebridge.stats.setting import channel_settings
from statebridge.tables import Column, Table
from statebridge.tables.table import Value

LEAST_ROWS = 30
"""Unseen rows that a verdict needs: with fewer, no gain in a 0/1 metric under about a quarter of
the rows is found with 80 % power (exact McNemar test of one comparison, alpha 0.05)."""


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The rows that a verdict is over, and what holds on the others."""

    results: ResultSet
    comparison: Comparison | None
    opening: str = ""
    """Which rows these are, where they are not all."""
    seen_results: ResultSet | None = None
    seen: Comparison | None = None
    """By the primary metric, over the rows whose answers a map was trained on."""


def judged_rows(results: ResultSet, comparison: Comparison | None) -> JudgedRows:
    """Return the rows that are new to the maps, where there are enough of them; else all.

    `comparison` is in the default mode; None where there was nothing to compare with.
    """
    unseen, seen = rows_by_split(results)
    if comparison is None or len(unseen) < LEAST_ROWS or not seen:
        return JudgedRows(results, comparison)
    new, known = _over(results, unseen), _over(results, seen)
    settings = comparison.settings.model_copy(update={"stratify_by": ()})
    first = judging_metric(results, comparison)
    metrics = [m for m in dict.fromkeys([first, SENSITIVE]) if m in comparison.metrics]
    return JudgedRows(
        new,
        compare(new, also=comparison.baselines, metrics=metrics, settings=settings),
        f"On the {len(unseen)} of {len(unseen) + len(seen)} rows whose answers no map of this run "
        "was trained on. ",
        known,
        compare(known, also=comparison.baselines, metrics=[first], settings=settings),
    )


def split_verdicts(results: ResultSet, rows: JudgedRows) -> list[Verdict]:
    """Return a verdict for each setting, over the rows that are new to the maps where it can be."""
    found = verdicts(rows.results, rows.comparison)
    if rows.seen is None or rows.seen_results is None:
        nothing_seen = tuple(all_new(results))
        found[:1] = [replace(one, findings=(*one.findings, *nothing_seen)) for one in found[:1]]
        return _with_cautions(found, results)
    _, seen = rows_by_split(results)
    found = [
        replace(
            verdict,
            headline=rows.opening + verdict.headline,
            findings=(
                *verdict.findings,
                *on_seen_rows(_of_maps(rows.seen_results, rows.seen, verdict), len(seen)),
            ),
        )
        for verdict in found
    ]
    return _with_cautions(found, results)


def _with_cautions(found: list[Verdict], results: ResultSet) -> list[Verdict]:
    """Add the cautions of all rows, once: to the first verdict."""
    cautions = tuple(split_cautions(results))
    first = [replace(one, cautions=(*one.cautions, *cautions)) for one in found[:1]]
    return first + found[1:]


def rows_by_split(results: ResultSet) -> tuple[frozenset[str], frozenset[str]]:
    """Return the rows whose answers no map was trained on, and those that a map was trained on.

    Both are empty where nothing is known of that. A row without a label is in neither.
    """
    # Of conditions without a map: the labels are of all maps of the run together.
    found = [
        cell.row_facts["answer_seen"]
        for cell in results.cells
        if "answer_seen" in cell.row_facts and not _has_map(cell)
    ]
    held = {lane.row_id for cell in results.cells for lane in cell.lanes}
    labelled = held.intersection(*found) if found else set()
    seen = {row_id for row_id in labelled if any(labels[row_id] == "yes" for labels in found)}
    return frozenset(labelled - seen), frozenset(seen)


def with_splits(results: ResultSet) -> ResultSet:
    """Return results whose rows have what all maps together have seen of them as attributes."""
    facts = next((c.row_facts for c in results.cells if c.row_facts and not _has_map(c)), {})

    def labelled(row: DatasetRow) -> DatasetRow:
        known = {name: labels[row.row_id] for name, labels in facts.items() if row.row_id in labels}
        return replace(row, attributes={**row.attributes, **known})

    return replace(results, dataset={i: labelled(row) for i, row in results.dataset.items()})


def _has_map(cell: CellResult) -> bool:
    return isinstance(cell.condition, Condition) and cell.condition.translates


def _over(results: ResultSet, rows: Set[str]) -> ResultSet:
    cells = [
        replace(cell, lanes=[lane for lane in cell.lanes if lane.row_id in rows])
        for cell in results.cells
    ]
    return replace(results, cells=[cell for cell in cells if cell.lanes])


def _of_maps(results: ResultSet, comparison: Comparison, verdict: Verdict) -> list[Difference]:
    """Return the differences of the channels that translate, in the setting of a verdict."""
    channels = {
        cell.condition.name
        for cell in results.cells
        if cell.condition.role == "channel" and _has_map(cell)
    }
    floors = {
        setting.floor
        for setting in channel_settings(results)
        if setting.direction == verdict.direction
        and verdict.setting in ("", SETTING_WORDS[setting.prompt])
    }
    return [
        d
        for d in comparison.differences
        if d.direction == verdict.direction and d.baseline in floors and d.condition in channels
    ]


def split_cautions(results: ResultSet) -> Iterator[str]:
    """Yield a sentence for each way in which rows and training texts limit the verdict."""
    overlap = read_overlap(results.manifest)
    if overlap is not None:
        unknown = [name for name, found in overlap.sets.items() if found is None]
        if unknown:
            yield (
                f"The translators {joined(unknown)} do not record what they were trained on: "
                "whether the evaluated answers were among it is not known."
            )
    yield from too_few_unseen(results)
    if overlap is not None and overlap.together is not None:
        yield from _leaked(overlap.together)
    yield from _repeated(results)


def all_new(results: ResultSet) -> Iterator[str]:
    """Yield that every evaluated answer is new to the maps, where it is so."""
    unseen, seen = rows_by_split(results)
    if unseen and not seen:
        yield "No map of this run was trained on the answer of an evaluated row."


def too_few_unseen(results: ResultSet) -> Iterator[str]:
    """Yield that a verdict cannot be over rows with new answers, where it is so."""
    unseen, seen = rows_by_split(results)
    if seen and len(unseen) < LEAST_ROWS:
        yield (
            f"{len(seen)} of {len(seen) + len(unseen)} evaluated rows have an answer that a map of "
            f"this run was trained on, and {len(unseen)} new ones are too few for a verdict "
            f"({LEAST_ROWS} are needed): what the trained maps do here may be a look-up of their "
            "training answers."
        )


def _leaked(found: SetOverlap) -> Iterator[str]:
    questions, contexts = found.question_seen.count("y"), found.sentence_seen.count("y")
    if questions or contexts:
        yield (
            f"Near-duplicates: of {len(found.answer_seen)} evaluated rows, the question of "
            f"{questions} and a sentence of the context of {contexts} are in the maps' training "
            "texts word for word."
        )


def _repeated(results: ResultSet) -> Iterator[str]:
    held = {lane.row_id for cell in results.cells for lane in cell.lanes}
    rows = [row for row_id, row in results.dataset.items() if row_id in held]
    shared = repeats(rows)
    if shared.question or shared.sentence:
        yield (
            f"Of {len(rows)} evaluated rows, the question of {shared.question} and a sentence of "
            f"the context of {shared.sentence} are in another evaluated row too: rows are taken as "
            "independent, so that intervals may be too narrow."
        )


def split_view(results: ResultSet) -> Table | None:
    """Return how many evaluated rows are new to each set of translators; None without a record."""
    overlap = read_overlap(results.manifest)
    if overlap is None or not any(overlap.sets.values()):
        return None
    return Table(
        title="Evaluated rows that the maps have seen in training",
        columns=(
            Column("translators", "translators"),
            Column("training_rows", "training rows", "integer"),
            Column("training_passages", "training passages", "integer"),
            Column("answer_seen", "answer seen", "integer"),
            Column("answer_unseen", "answer unseen", "integer"),
            Column("names_all", "all names seen", "integer"),
            Column("names_some", "some names", "integer"),
            Column("names_none", "no name", "integer"),
            Column("template_seen", "template seen", "integer"),
            Column("template_unseen", "template unseen", "integer"),
            Column("question_seen", "question seen", "integer"),
            Column("sentence_seen", "context sentence seen", "integer"),
        ),
        rows=tuple(_split_rows(overlap)),
        notes=(
            "Counts of evaluated rows. Template: the question with names and numbers masked. A map "
            "that was fitted on running text has seen no questions and no answers: of it, an "
            "answer counts as seen where all names in it occur in the text, and answers without a "
            "name are not counted.",
        ),
    )


def _split_rows(overlap: TrainingOverlap) -> Iterator[tuple[Value, ...]]:
    known = {name: found for name, found in overlap.sets.items() if found is not None}
    if len(overlap.sets) > 1 and overlap.together is not None:
        known["all of them"] = overlap.together
    for name, found in known.items():
        yield (
            name,
            found.rows,
            found.passages,
            found.answer_seen.count("y"),
            found.answer_seen.count("n"),
            *(found.names_seen.count(letter) for letter in "asn"),
            found.template_seen.count("y"),
            found.template_seen.count("n"),
            found.question_seen.count("y"),
            found.sentence_seen.count("y"),
        )
