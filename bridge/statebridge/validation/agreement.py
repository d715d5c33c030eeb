"""Do the cells agree with what is declared, with the dataset and with each other?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

from statebridge.records import CellResult, Direction, ResultSet
from statebridge.validation.expectation import Expectation, Setting
from statebridge.validation.report import Finding, Severity, finding, found_in

T = TypeVar("T")

RELAY = "relay_"
"""Begins the names of the settings that the sender's own text is decoded with."""


def data_hash(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find cells over other data than declared, or than most cells."""
    recorded = {id(c): c.dataset_sha256 for c in results.cells if c.dataset_sha256 is not None}
    wanted = expectation.dataset_sha256 or _most_common(list(recorded.values()))
    for cell in results.cells:
        found = recorded.get(id(cell))
        if found == wanted:
            continue
        if found is None:
            severity: Severity = "warning" if expectation.dataset_sha256 is None else "blocking"
            yield finding(
                severity, "data_hash", cell, f"records no data hash; {_short(wanted)} is expected"
            )
        else:
            yield finding(
                "blocking", "data_hash", cell, f"data hash {_short(found)}, not {_short(wanted)}"
            )


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:12]}..."


def decoding_settings(cell: CellResult) -> dict[str, Setting]:
    """Return the decoding settings that a cell records, under one set of names.

    Those of the sender's text begin with `relay_`; they are kept for relay conditions only.
    """
    recorded = dict(cell.decoding)
    sender = recorded.pop("sender_generation", None)
    if isinstance(sender, Mapping):
        recorded |= {f"{RELAY}{name}": value for name, value in sender.items()}
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in recorded.items()
        if value is not None and _applies(name, cell)
    }


def decoding(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find cells decoded otherwise than declared, or than most cells, and sampled text."""
    settings = [(cell, decoding_settings(cell)) for cell in results.cells]
    recorded = dict.fromkeys(name for _, own in settings for name in own)
    for name in recorded | dict.fromkeys(expectation.decoding):
        declared = name in expectation.decoding
        wanted = (
            expectation.decoding[name]
            if declared
            else _most_common([own[name] for _, own in settings if name in own])
        )
        for cell, own in settings:
            if name in own and own[name] != wanted:
                yield finding("blocking", "decoding", cell, f"{name} is {own[name]}, not {wanted}")
            elif name not in own and declared and _applies(name, cell):
                yield finding("blocking", "decoding", cell, f"does not record {name} ({wanted})")
    for cell, own in settings:
        if own.get("do_sample"):
            yield finding(
                "blocking", "decoding", cell, "text was sampled (do_sample), not decoded greedily"
            )


def _applies(name: str, cell: CellResult) -> bool:
    return not name.startswith(RELAY) or cell.condition.uses_text


def models(results: ResultSet) -> Iterator[Finding]:
    """Find cells of other models or layers than most cells of the same direction.

    The sender counts only where it is used: published files name what stood in for it.
    """
    for group in _by_direction(results).values():
        facts = [(cell, _model_facts(cell)) for cell in group]
        for name in dict.fromkeys(name for _, own in facts for name in own):
            wanted = _most_common([own[name] for _, own in facts if name in own])
            for cell, own in facts:
                if own.get(name, wanted) != wanted:
                    yield finding(
                        "blocking", "models", cell, f"{name} is {own[name]}, not {wanted}"
                    )


def _model_facts(cell: CellResult) -> dict[str, str]:
    sides = ["receiver"]
    if cell.condition.reads_sender or cell.condition.uses_text:
        sides.append("sender")
    facts: dict[str, str] = {}
    for side in sides:
        block = cell.models.get(side)
        letter = "a" if side == "sender" else "b"
        if isinstance(block, Mapping):
            own = {
                side: block.get("model"),
                f"{side} layer": block.get("layer_path"),
                f"{side} weights": block.get("weights_sha256"),
            }
        else:
            own = {
                side: cell.models.get(f"model_{letter}"),
                f"{side} layer": cell.models.get(f"layer_{letter}"),
            }
        facts |= {name: str(value) for name, value in own.items() if value is not None}
    return facts


def gold(results: ResultSet) -> Iterator[Finding]:
    """Find rows whose gold answer is not the dataset's, or not that of most cells."""
    votes: dict[str, list[str]] = defaultdict(list)
    for cell in results.cells:
        for row in cell.lanes:
            votes[row.row_id].append(row.gold)
    wanted = {row_id: _most_common(golds) for row_id, golds in votes.items()}
    wanted |= {row_id: row.answer for row_id, row in results.dataset.items()}
    origin = "the dataset's" if results.dataset else "that of the other cells"
    for cell in results.cells:
        other = [row for row in cell.lanes if row.gold != wanted[row.row_id]]
        if other:
            first = other[0]
            problem = (
                f"gold answer(s) differ from {origin}, the first {first.gold!r}, not "
                f"{wanted[first.row_id]!r}"
            )
            yield from found_in("blocking", "gold", cell, [row.row_id for row in other], problem)
        empty = [row.row_id for row in cell.lanes if not row.gold.strip()]
        yield from found_in("blocking", "gold", cell, empty, "empty gold answer(s)")


def prompt_lengths(results: ResultSet) -> Iterator[Finding]:
    """Find rows whose prompt has another length (in tokens) than in most cells that read it.

    Relay prompts are left out: each cell has its own.
    """
    reading: dict[tuple[str, str], list[CellResult]] = defaultdict(list)
    for cell in results.cells:
        if not cell.condition.uses_text:
            reading[cell.direction, cell.condition.prompt].append(cell)
    for cells in reading.values():
        votes: dict[str, list[int]] = defaultdict(list)
        for cell in cells:
            for row in cell.lanes:
                if row.prompt_len_receiver is not None:
                    votes[row.row_id].append(row.prompt_len_receiver)
        wanted = {row_id: _most_common(lengths) for row_id, lengths in votes.items()}
        for cell in cells:
            other = [
                row.row_id
                for row in cell.lanes
                if row.prompt_len_receiver not in (None, wanted.get(row.row_id))
            ]
            problem = (
                "prompt(s) not as long as in the other cells (another tokenizer, prompt or dataset)"
            )
            yield from found_in("blocking", "prompt_length", cell, other, problem)


def _by_direction(results: ResultSet) -> dict[Direction, list[CellResult]]:
    groups: dict[Direction, list[CellResult]] = {}
    for cell in results.cells:
        groups.setdefault(cell.direction, []).append(cell)
    return groups


def _most_common(values: list[T]) -> T | None:
    """The value that most have; of equally many, the first by its text."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], str(value)), default=None)
