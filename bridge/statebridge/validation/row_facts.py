"""Does each row say that the protocol was kept?"""

from __future__ import annotations

from collections.abc import Iterator

from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.validation.expectation import Expectation
from statebridge.validation.report import Finding, Severity, found_in


def row_facts(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find null predictions, prompts that the two models saw differently, and wrong donors."""
    for cell in results.cells:
        if expectation.decoded:
            null = [row.row_id for row in cell.lanes if row.prediction is None]
            problem = "row(s) without a prediction"
            yield from found_in("blocking", "null_prediction", cell, null, problem)
        yield from _mismatches(cell)
        yield from _donors(cell)
        yield from found_in(
            _fallback_severity(cell, expectation),
            "self_fallback",
            cell,
            [row.row_id for row in cell.lanes if _is_self_fallback(row)],
            "row(s) got their own state instead of another row's",
        )


def _mismatches(cell: CellResult) -> Iterator[Finding]:
    if cell.condition.private:
        return  # by design the two read different prompts
    lengths = [row.row_id for row in cell.lanes if _lengths_differ(row)]
    problem = "prompt(s) not equally long for sender and receiver"
    yield from found_in("blocking", "sequence_length", cell, lengths, problem)
    tokens = [row.row_id for row in cell.lanes if row.token_ids_match is False]
    problem = "prompt(s) with other token ids for sender and receiver"
    yield from found_in("blocking", "token_ids", cell, tokens, problem)


def _lengths_differ(row: LaneResult) -> bool:
    if row.seq_len_match is False:
        return True
    lengths = (row.prompt_len_sender, row.prompt_len_receiver)
    # A relay row has no task prompt for the sender; its two prompts are never compared.
    return None not in lengths and lengths[0] != lengths[1] and row.relay is None


def _is_self_fallback(row: LaneResult) -> bool:
    return row.donor_self_fallback is True or row.donor_row_id == row.row_id


def _donors(cell: CellResult) -> Iterator[Finding]:
    contradictory = [
        row.row_id
        for row in cell.lanes
        if row.donor_self_fallback is not None
        and row.donor_row_id is not None
        and row.donor_self_fallback != (row.donor_row_id == row.row_id)
    ]
    problem = "row(s) whose donor contradicts their self-fallback mark"
    yield from found_in("blocking", "donor", cell, contradictory, problem)
    if cell.condition.lone_rows == "nearest":
        return
    # The length that donors share is of the prompt with the context.
    private = cell.condition.private
    lengths = {
        row.row_id: row.prompt_len_sender if private else row.prompt_len_receiver
        for row in cell.lanes
    }
    unequal = [
        row.row_id
        for row in cell.lanes
        if row.donor_row_id is not None
        and lengths.get(row.donor_row_id, lengths[row.row_id]) != lengths[row.row_id]
    ]
    problem = "row(s) whose donor's prompt has another length"
    yield from found_in("blocking", "donor", cell, unequal, problem)


def _fallback_severity(cell: CellResult, expectation: Expectation) -> Severity:
    """Blocking where the condition drops the rows that have no donor, else a known caveat."""
    expected = expectation.condition(cell.condition.name)
    if cell.condition.lone_rows == "drop":
        return "blocking"
    return "warning" if expected is None else expected.self_fallback
