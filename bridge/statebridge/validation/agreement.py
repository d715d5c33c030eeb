"""Do the cells agree with what is declared, with the dataset and with each other?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from statebridge.results.table import CellResult, Direction, ResultSet
from statebridge.validation.expectation import Expectation, Setting
from statebridge.validation.report import Finding, finding
from statebridge.validation.resolved_condition import resolved_condition, uses_relay

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
            severity = "warning" if expectation.dataset_sha256 is None else "blocking"
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
    settings: dict[str, Setting] = {}
    for name, value in cell.decoding.items():
        if name == "sender_generation":
            if isinstance(value, Mapping):
                settings |= {f"{RELAY}{inner}": setting for inner, setting in value.items()}
        elif value is not None:
            settings[name] = value
    if uses_relay(resolved_condition(cell)):
        return settings
    return {name: value for name, value in settings.items() if not name.startswith(RELAY)}


def decoding(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find cells decoded otherwise than declared, or than most cells, and sampled text."""
    settings = [(cell, decoding_settings(cell)) for cell in results.cells]
    names = dict.fromkeys(name for _, own in settings for name in own)
    for name in names | dict.fromkeys(expectation.decoding):
        held = [own[name] for _, own in settings if name in own]
        wanted = expectation.decoding.get(name, _most_common(held))
        for cell, own in settings:
            if name not in own:
                relay = name.startswith(RELAY)
                asked = name in expectation.decoding or not relay
                if asked and (not relay or uses_relay(resolved_condition(cell))):
                    yield finding("warning", "decoding", cell, f"does not record {name}")
            elif own[name] != wanted:
                yield finding("blocking", "decoding", cell, f"{name} is {own[name]}, not {wanted}")
    for cell, own in settings:
        if own.get("do_sample"):
            yield finding(
                "blocking", "decoding", cell, "text was sampled (do_sample), not decoded greedily"
            )


def models(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find cells of other models or layers than most cells of the same direction.

    The sender counts only where it is used: published files name what stood in for it.
    """
    for group in _by_direction(results).values():
        facts = [(cell, _model_facts(cell)) for cell in group]
        for name in dict.fromkeys(name for _, own in facts for name in own):
            wanted = _most_common([own[name] for _, own in facts if name in own])
            for cell, own in facts:
                if own.get(name, wanted) != wanted:
                    yield finding("blocking", "models", cell, f"{name} is {own[name]}, not {wanted}")


def _model_facts(cell: CellResult) -> dict[str, str]:
    condition = resolved_condition(cell)
    sides = ["receiver"]
    if condition is not None and (condition.reads_sender or uses_relay(condition)):
        sides.append("sender")
    facts = {}
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


def gold(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find rows whose gold answer is not the dataset's, or not that of most cells."""
    votes: dict[str, list[str]] = defaultdict(list)
    for cell in results.cells:
        for row in cell.rows:
            votes[row.row_id].append(row.gold)
    wanted = {row_id: _most_common(golds) for row_id, golds in votes.items()}
    wanted |= {row_id: row.answer for row_id, row in results.dataset.items()}
    origin = "the dataset's" if results.dataset else "that of the other cells"
    for cell in results.cells:
        other = [row for row in cell.rows if row.gold != wanted[row.row_id]]
        if other:
            first = other[0]
            yield finding(
                "blocking",
                "gold",
                cell,
                f"{len(other)} gold answer(s) differ from {origin}, the first "
                f"{first.gold!r}, not {wanted[first.row_id]!r}",
                [row.row_id for row in other],
            )
        empty = [row.row_id for row in cell.rows if not row.gold.strip()]
        if empty:
            yield finding("blocking", "gold", cell, f"{len(empty)} empty gold answer(s)", empty)


def prompt_lengths(results: ResultSet, expectation: Expectation) -> Iterator[Finding]:
    """Find rows whose task prompt has another length (in tokens) than in most cells."""
    for group in _by_direction(results).values():
        cells = [cell for cell in group if not uses_relay(resolved_condition(cell))]
        votes: dict[str, list[int]] = defaultdict(list)
        for cell in cells:
            for row in cell.rows:
                if row.prompt_len_receiver is not None:
                    votes[row.row_id].append(row.prompt_len_receiver)
        wanted = {row_id: _most_common(lengths) for row_id, lengths in votes.items()}
        for cell in cells:
            other = [
                row.row_id
                for row in cell.rows
                if row.prompt_len_receiver not in (None, wanted.get(row.row_id))
            ]
            if other:
                yield finding(
                    "blocking",
                    "prompt_length",
                    cell,
                    f"{len(other)} prompt(s) not as long as in the other cells "
                    "(another tokenizer, prompt or dataset)",
                    other,
                )


def _by_direction(results: ResultSet) -> dict[Direction, list[CellResult]]:
    groups: dict[Direction, list[CellResult]] = {}
    for cell in results.cells:
        groups.setdefault(cell.direction, []).append(cell)
    return groups


def _most_common[T](values: list[T]) -> T | None:
    """The value that most have; of equally many, the first by its text."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], str(value)), default=None)
