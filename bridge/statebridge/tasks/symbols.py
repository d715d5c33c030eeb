"""Rows whose answer is one of K symbols, each equally often: what a channel can carry in one use.

The sender reads which symbol it is, the receiver is asked for it. Rows of several K take turns, and
each names its own in the attribute `symbols`. The symbols of a smaller K are among those of a
larger one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from statebridge.data.multihop import iter_multihop, part_of_names
from statebridge.data.multihop_domains import DOMAINS, NAMES
from statebridge.data.word_lists import dealt, lines_of, read_package_yaml
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import TASKS, Dataset, GeneratedRows
from statebridge.records import DatasetRow

SYMBOLS = "symbols"
"""Attribute: the number of symbols that the row's answer is one of."""
COUNTS = (2, 8, 32, 128)
"""Numbers of symbols where none are declared."""

_content = read_package_yaml("tasks", "symbols.yaml")
WORDS = tuple(
    " ".join(words) for words in product(_content["first"].split(), _content["second"].split())
)
"""The 1,024 symbols of the task `symbols`."""
NOTES = lines_of(_content["notes"])
QUESTION: str = _content["question"]
PEOPLE = NAMES["people"]


@TASKS.add("symbols")
def declared_symbols(settings: GeneratedRows) -> list[DatasetRow]:
    """Return rows whose answer is one of a declared number of symbols, equally often."""
    return symbol_rows(settings.rows, settings.symbols or COUNTS, settings.seed)


def symbol_rows(rows: int, counts: Sequence[int] = COUNTS, seed: int = 0) -> list[DatasetRow]:
    """Return rows of the task: ids `symbols_000000`, ...

    "The boat of Ada is called Amber Bridge." is the context, "What is the name of Ada's boat?" the
    question. Attributes: symbols, scoring.

    Args:
        rows: How many, of all counts together. The first rows are the same however many are asked
            for.
        counts: Numbers of symbols, 2 to 1,024, taken in turn.
        seed: Any integer.

    Raises:
        DatasetError: `rows` or a count is out of range.
    """
    symbols = _dealt_symbols(WORDS, counts, seed)
    persons = dealt(PEOPLE, f"statebridge.symbols.persons|{seed}")
    notes = dealt(NOTES, f"statebridge.symbols.notes|{seed}")
    made = (
        DatasetRow(
            f"symbols_{index:06d}",
            context=note.format(person=person, symbol=symbol),
            question=QUESTION.format(person=person),
            answer=symbol,
            attributes={SYMBOLS: count, "scoring": "first_line"},
        )
        for index, ((count, symbol), person, note) in enumerate(
            zip(symbols, persons, notes, strict=False)
        )
    )
    return _first(made, rows)


def multihop_symbols(settings: GeneratedRows) -> list[DatasetRow]:
    """Return multihop rows whose answers are K names, each equally often.

    A row's answer trades places with the wanted name: facts hold for one row only, so names can be
    exchanged. Only rows of the commonest list of names are taken, so that the question
    holds nothing of the answer.

    Raises:
        DatasetError: More symbols are asked for than the list has names.
    """
    counts = settings.symbols or COUNTS
    domains = [d for d in DOMAINS if settings.domains is None or d.name in settings.domains]
    ends = [kind.names for d in domains for kind in d.kinds[min(settings.hops) :]]
    every = max(ends, key=len, default=())
    names = part_of_names(every, settings.names)
    if max(counts) > len(names):
        raise DatasetError(
            f"generated rows: symbols is {max(counts)}; these rows have {len(names)} answers of "
            "one kind, so ask for no more, or take the task symbols"
        )
    rows = iter_multihop(
        settings.hops,
        settings.distractors,
        settings.seed,
        domains=settings.domains,
        wording=settings.wording,
        names=settings.names,
    )
    fitting = (row for row in rows if row.answer in every)
    symbols = _dealt_symbols(names, counts, settings.seed)
    made = (
        _with_answer(replace(row, row_id=f"mh_symbols_{index:06d}"), symbol, count)
        for index, (row, (count, symbol)) in enumerate(zip(fitting, symbols, strict=False))
    )
    return _first(made, settings.rows)


def symbol_dataset(dataset: Dataset, counts: Sequence[int], rows: int) -> dict[str, Any]:
    """Return the dataset, as a file declares it, with rows of K symbols in place of its own.

    Generated multihop rows keep their settings, which a model may have been taught; any other
    dataset gives way to the task `symbols`.

    Args:
        dataset: Of the experiment whose channels are measured.
        counts: Numbers of symbols.
        rows: How many of each number; every symbol gets one at least.
    """
    declared: dict[str, Any] = {"task": "symbols"}
    if dataset.generate is not None and dataset.generate.task in ("multihop", "symbols"):
        declared = dataset.generate.model_dump(mode="json", exclude_unset=True)
    of_each = max(rows, *counts)
    return {"generate": declared | {"symbols": list(counts), "rows": of_each * len(counts)}}


def _with_answer(row: DatasetRow, symbol: str, count: int) -> DatasetRow:
    traded = {row.answer: symbol, symbol: row.answer}
    pattern = re.compile(rf"\b(?:{re.escape(row.answer)}|{re.escape(symbol)})\b")
    context, question = (
        pattern.sub(lambda found: traded[found[0]], text) for text in (row.context, row.question)
    )
    attributes = {**row.attributes, SYMBOLS: count}
    return replace(row, context=context, question=question, answer=symbol, attributes=attributes)


def _dealt_symbols(
    words: Sequence[str], counts: Sequence[int], seed: int
) -> Iterator[tuple[int, str]]:
    """Yield (count, symbol) without end, counts in turn, the symbols of each equally often."""
    wrong = next((count for count in counts if not 2 <= count <= len(words)), None)
    if not counts or wrong is not None:
        raise DatasetError(f"symbols: {wrong} symbols; give numbers from 2 to {len(words)}")
    order = random.Random(f"statebridge.symbols|{seed}").sample(words, len(words))  # noqa: S311
    decks = [
        (count, dealt(order[:count], f"statebridge.symbols|{seed}|{count}"))
        for count in dict.fromkeys(counts)
    ]
    while True:
        for count, deck in decks:
            yield count, next(deck)


def _first(made: Iterator[DatasetRow], rows: int) -> list[DatasetRow]:
    if rows < 1:
        raise DatasetError(f"symbols: rows is {rows}; ask for at least 1")
    return list(islice(made, rows))
