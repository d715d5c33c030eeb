"""The verdict uses the rows that are new to the maps, where there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statebridge.data.training_texts import TrainingTexts
from statebridge.records import CellResult, DatasetRow, ResultSet
from statebridge.report.sections.splits import (
    LEAST_ROWS,
    judged_rows,
    split_verdicts,
    split_view,
    with_splits,
)
from statebridge.report.words.verdict import Verdict, verdicts
from statebridge.results.training_overlap import FIELD, training_overlap
from statebridge.stats import Settings, compare
from tests.bridge.stats.tables import cell, numbered, results

QUICK = Settings(stratify_by=())
SEEDS = (42, 123)


def split(unseen: int, seen: int, on_unseen: int, on_seen: int) -> ResultSet:
    """A floor at 0 and a map that is right in some rows of each kind."""
    right = [1] * on_unseen + [0] * (unseen - on_unseen) + [1] * on_seen + [0] * (seen - on_seen)
    cells = [cell("question_only", [0] * len(right)), cell("skyline", [1] * len(right))]
    cells += [cell("private_last", right, seed) for seed in SEEDS]
    labels = dict.fromkeys(list(numbered(right))[:unseen], "no")
    labels |= dict.fromkeys(list(numbered(right))[unseen:], "yes")
    for one in cells:
        one.row_facts = {"answer_seen": labels}
    return results(*cells)


def judged(found: ResultSet) -> Verdict:
    (verdict,) = split_verdicts(found, judged_rows(found, compare(found, settings=QUICK)))
    return verdict


def test_a_look_up_of_training_answers_is_no_gain() -> None:
    verdict = judged(split(60, 140, on_unseen=0, on_seen=140))
    assert verdict.headline.startswith(
        "On the 60 of 200 rows whose answers no map of this run was trained on. "
    )
    assert "ain over question_only" not in verdict.headline
    (beside,) = [one for one in verdict.findings if one.startswith("On the other 140 rows")]
    assert "private_last +1.0000 (95 % interval [" in beside
    assert beside.endswith("better.")


def test_a_gain_on_new_rows_is_one() -> None:
    verdict = judged(split(60, 140, on_unseen=50, on_seen=140))
    assert "trained on. Gain over question_only from private_last" in verdict.headline


def test_too_few_new_rows_leave_all_rows_and_say_so() -> None:
    found = split(LEAST_ROWS - 1, 171, on_unseen=0, on_seen=171)
    verdict = judged(found)
    assert verdict.headline == verdicts(found, compare(found, settings=QUICK))[0].headline
    assert any(
        one.startswith("171 of 200 evaluated rows have an answer that a map of this run was")
        and "29 new ones are too few for a verdict" in one
        for one in verdict.cautions
    )


def test_rows_that_are_all_new_need_no_split() -> None:
    verdict = judged(split(80, 0, on_unseen=70, on_seen=0))
    assert verdict.headline.startswith("Gain over question_only")
    assert "No map of this run was trained on the answer of an evaluated row." in verdict.findings
    assert not any("trained on" in one for one in verdict.cautions)


def rows(answers: Sequence[str]) -> list[DatasetRow]:
    return [
        DatasetRow(f"row{i:04}", f"We saw {a} at place {i}.", f"What was at place {i}?", a)
        for i, a in enumerate(answers)
    ]


def recorded(evaluated: Sequence[DatasetRow], trained: Any) -> ResultSet:
    cells: list[CellResult] = [cell("no_inject", [1] * len(evaluated))]
    cells.append(cell("replace", [0] * len(evaluated), 42))
    found = results(*cells, dataset={row.row_id: row for row in evaluated})
    found.manifest = {FIELD: training_overlap(evaluated, trained)}
    return found


def test_the_table_counts_rows_by_what_each_map_has_seen() -> None:
    evaluated = rows(["Aba", "Bebe", "Cici"])
    found = recorded(
        evaluated,
        {
            "aligned": [TrainingTexts.of(passages=["It is Aba."])],
            "causal": [TrainingTexts.of(rows(["Bebe"]))],
        },
    )
    table = split_view(found)
    assert table is not None
    names = [column.name for column in table.columns]
    read = {str(row[0]): dict(zip(names, row, strict=True)) for row in table.rows}
    assert (read["aligned"]["answer_seen"], read["aligned"]["answer_unseen"]) == (1, 2)
    assert (read["aligned"]["template_seen"], read["aligned"]["template_unseen"]) == (0, 0)
    assert (read["causal"]["answer_seen"], read["causal"]["names_none"]) == (1, 2)
    assert read["causal"]["template_seen"] == 3
    assert read["all of them"]["names_none"] == 1


def test_unknown_training_and_near_duplicates_are_cautions() -> None:
    evaluated = [*rows(["Aba", "Bebe"]), DatasetRow("row0002", "", "What was at place 1?", "no")]
    unknown = recorded(evaluated, {"default": [None]})
    cautions = " ".join(judged(unknown).cautions)
    assert "The translators default do not record what they were trained on" in cautions
    assert (
        "Of 3 evaluated rows, the question of 2 and a sentence of the context of 0 are" in cautions
    )
    leaked = recorded(evaluated, {"default": [TrainingTexts.of(rows(["Aba"]))]})
    assert (
        "Near-duplicates: of 3 evaluated rows, the question of 1 and a sentence of the context "
        in " ".join(judged(leaked).cautions)
    )


def test_rows_have_their_splits_as_attributes_to_filter_by() -> None:
    found = split(1, 2, on_unseen=0, on_seen=0)
    found.dataset = {f"row000{i}": DatasetRow(f"row000{i}", "", "?", "gold") for i in range(3)}
    shown = [row.attributes["answer_seen"] for row in with_splits(found).dataset.values()]
    assert shown == ["no", "yes", "yes"]
    plain = results(cell("no_inject", [1]))
    assert with_splits(plain).dataset == plain.dataset


def test_results_without_a_record_have_no_table() -> None:
    assert split_view(results(cell("no_inject", [1]))) is None
