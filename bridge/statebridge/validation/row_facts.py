"""Does each row say that the protocol was kept?"""

from __future__ import annotations

from collections.abc import Iterator

from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.validation.expectation import Expectation
from statebridge.validation.report import Finding, Severity, finding


def row_facts(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find null predictions, prompts that the two models saw differently, and wrong donors."""
    for cell in results.cells:
        null = [row.row_id for row in cell.lanes if row.prediction is None]
        if null and expectation.decoded:
            yield finding(
                "blocking",
                "null_prediction",
                cell,
                f"{len(null)} row(s) without a prediction",
                null,
            )
        yield from _mismatches(cell)
        yield from _donors(cell)
        alone = [row.row_id for row in cell.lanes if _is_self_fallback(row)]
        if alone:
            yield finding(
                _fallback_severity(cell, expectation),
                "self_fallback",
                cell,
                f"{len(alone)} row(s) got their own state instead of another row's",
                alone,
            )


def _mismatches(cell: CellResult) -> Iterator[Finding]:
    if cell.condition.private:
        return  # by design the two read different prompts
    lengths = [row.row_id for row in cell.lanes if _lengths_differ(row)]
    if lengths:
        yield finding(
            "blocking",
            "sequence_length",
            cell,
            f"{len(lengths)} prompt(s) not equally long for sender and receiver",
            lengths,
        )
    tokens = [row.row_id for row in cell.lanes if row.token_ids_match is False]
    if tokens:
        yield finding(
            "blocking",
            "token_ids",
            cell,
            f"{len(tokens)} prompt(s) with other token ids for sender and receiver",
            tokens,
        )


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
    if contradictory:
        yield finding(
            "blocking",
            "donor",
            cell,
            f"{len(contradictory)} row(s) whose donor contradicts their self-fallback mark",
            contradictory,
        )
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
    if unequal:
        yield finding(
            "blocking",
            "donor",
            cell,
            f"{len(unequal)} row(s) whose donor's prompt has another length",
            unequal,
        )


def _fallback_severity(cell: CellResult, expectation: Expectation) -> Severity:
    """Blocking where the condition drops the rows that have no donor, else a known caveat."""
    expected = expectation.condition(cell.condition.name)
    if cell.condition.lone_rows == "drop":
        return "blocking"
    return "warning" if expected is None else expected.self_fallback
