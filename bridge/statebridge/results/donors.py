"""Donors that have their row's answer: their state says what the row's own would."""

from __future__ import annotations

from collections.abc import Mapping

from statebridge.data.training_texts import answer_names, normal_text
from statebridge.records import CellResult, DatasetRow


def same_answer_rows(cell: CellResult, dataset: Mapping[str, DatasetRow]) -> frozenset[str]:
    """Return the rows of a cell that got the state of another row with the same answer.

    As the run recorded them; of runs before that, and of published files, as far as the donors'
    answers are among the results.
    """
    if cell.same_answer_donors is not None:
        return cell.same_answer_donors
    if all(lane.donor_row_id is None for lane in cell.lanes):
        return frozenset()
    names = {lane.row_id: frozenset({normal_text(lane.gold)}) for lane in cell.lanes}
    names |= {row_id: answer_names(row) for row_id, row in dataset.items()}
    return frozenset(
        lane.row_id
        for lane in cell.lanes
        if lane.donor_row_id not in (None, lane.row_id)
        and not names[lane.row_id].isdisjoint(names.get(lane.donor_row_id or "", ()))
    )
