"""Scoring conventions: how each task judges a prediction, given all that counts as right.

The metrics of `statebridge.scoring.metrics` know one gold answer. A task may accept aliases,
ask for one of several options, or read a number or a letter out of a longer text; its rows
name their convention in the attribute `scoring`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from statebridge.data.answers import SCORING, as_number
from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow
from statebridge.registry import Registry
from statebridge.scoring.containment import contains_answer
from statebridge.scoring.extraction import (
    extract_letter,
    extract_number,
    flexible_extract,
    strict_match,
)
from statebridge.scoring.gold import Gold, gold_of
from statebridge.scoring.harness import harness
from statebridge.scoring.metrics import (
    first_answer_span,
    normalize,
    normalized_exact_match,
    word_boundary_contains,
)
from statebridge.scoring.squad import squad_exact_match, submitted

Convention = Callable[[str, Gold], bool]
"""(prediction, gold) to whether it is right."""

CONVENTIONS: Registry[Convention] = Registry(
    "scoring convention", group="statebridge.scoring_conventions", error=DatasetError
)

_LINE_END = re.compile(r"[\r\n]")

CONVENTIONS.add("squad_exact_match")(squad_exact_match)
CONVENTIONS.add("contains_answer")(contains_answer)
CONVENTIONS.add("strict_match")(strict_match)
CONVENTIONS.add("flexible_extract")(flexible_extract)
CONVENTIONS.add("harness")(harness)


@CONVENTIONS.add("babi")
def babi(prediction: str, gold: Gold) -> bool:
    """Whether the submitted answer is the answer, a list (`milk,football`) in its order.

    After arXiv 1502.05698, which scores an answer as right or wrong, a list as one answer. Case,
    spaces around the parts of a list and a full stop at the end are no difference.
    """
    return any(_babi_parts(submitted(prediction)) == _babi_parts(name) for name in gold.names)


def _babi_parts(text: str) -> list[str]:
    return [part.strip() for part in text.strip().removesuffix(".").lower().split(",")]


@CONVENTIONS.add("exact")
def exact(prediction: str, gold: Gold) -> bool:
    """Whether the normalised prediction is the normalised answer or an alias of it.

    "Exact match", as arXiv 2501.14082 scores Countries, Tip Sheets and Biographies; it gives
    no normalisation, so that of arXiv 2606.03280 is used.
    """
    return any(normalized_exact_match(prediction, name) for name in gold.names)


@CONVENTIONS.add("first_span")
def first_span(prediction: str, gold: Gold) -> bool:
    """Whether the first answer span is the answer or an alias of it.

    Exact match on the span that arXiv 2606.03280 cuts out (`metrics.first_answer_span`): for
    base models, which write on after the answer.
    """
    return any(first_answer_span(prediction, name) for name in gold.names)


@CONVENTIONS.add("first_line")
def first_line(prediction: str, gold: Gold) -> bool:
    """Whether the first line holds the answer or an alias of it as whole words.

    Ours, for Countries: word-boundary containment (arXiv 2606.03280) held to the first line
    and open to aliases. An abbreviation (two to four capitals, such as US) must be in
    capitals, with or without dots: "us" is a pronoun.
    """
    line = _LINE_END.split(prediction.strip(), maxsplit=1)[0]
    return any(_place(line, name) is not None for name in gold.names)


def _check_options(gold: Gold) -> None:
    if gold.answer not in gold.options:
        raise DatasetError(
            f"answer {gold.answer!r} is not among the options {', '.join(gold.options) or 'none'}; "
            "this convention needs a row with the attribute options"
        )


@CONVENTIONS.add("first_named")
def first_named(prediction: str, gold: Gold) -> bool:
    """Whether the first option that the prediction names is the answer or an alias of it.

    Ours, for Tip Sheets: naming all the options, or repeating the question, is no knowledge.

    Raises:
        DatasetError: The gold has no options, or the answer is not among them.
    """
    _check_options(gold)
    right = [_place(prediction, name) for name in gold.names]
    wrong = [_place(prediction, name) for name in gold.options if name not in gold.names]
    first = min((place for place in right if place is not None), default=None)
    return first is not None and all(place is None or place > first for place in wrong)


@CONVENTIONS.add("final_number")
def final_number(prediction: str, gold: Gold) -> bool:
    """Whether the final number equals the answer, as numbers: `$1,000.00` is 1000.

    After GSM8K's own grader (arXiv 2110.14168; the number after `####`, commas removed) and,
    where there is no `####`, the last number of the text, as lm-evaluation-harness extracts
    it ("flexible-extract"). What follows a further `Q:`, `Question:` or `Problem:` at the
    start of a line is left out: base models write on with a problem of their own.

    Raises:
        DatasetError: The gold answer is no number.
    """
    wanted = as_number(gold.answer)
    if wanted is None:
        raise DatasetError(f"answer {gold.answer!r} is no number; this convention needs one")
    return extract_number(prediction) == wanted


@CONVENTIONS.add("choice_letter")
def choice_letter(prediction: str, gold: Gold) -> bool:
    """Whether the letter that the prediction settles on is the answer.

    MMLU (arXiv 2009.03300) compares the probabilities of the letters; for decoded text each
    harness has its own rule. Ours is `extract_letter`.

    Raises:
        DatasetError: The gold has no options, or the answer is not among them.
    """
    _check_options(gold)
    return extract_letter(prediction, gold.options) == gold.answer


def row_convention(row: DatasetRow) -> str | None:
    """Return the name of a row's scoring convention; None where it names none.

    Raises:
        DatasetError: It names one that does not exist.
    """
    name = row.attributes.get(SCORING)
    if name is not None and name not in CONVENTIONS:
        raise DatasetError(
            f"row {row.row_id!r}: attribute {SCORING!r}: unknown convention {name!r}; "
            f"{nearest(str(name), CONVENTIONS.names())}; one of your own needs --plugin FILE"
        )
    return None if name is None else str(name)


def row_correct(prediction: str, row: DatasetRow, convention: str | None = None) -> bool:
    """Whether a prediction is right by the convention given, or the row's own.

    Raises:
        DatasetError: Unknown convention, none is given and the row names none, or the row
            lacks what the convention needs.
    """
    name = convention or row_convention(row)
    if name is None:
        raise DatasetError(
            f"row {row.row_id!r}: has no attribute {SCORING!r}; name a convention: "
            f"{', '.join(CONVENTIONS.names())}"
        )
    judged = CONVENTIONS.get(name)
    try:
        return judged(prediction, gold_of(row))
    except DatasetError as error:
        raise DatasetError(f"row {row.row_id!r}: {name}: {error}") from None


def _place(text: str, name: str) -> int | None:
    """Return the first place of a name in a text as whole words; None without one.

    Places are comparable within one text: its normalised form, or, for an abbreviation, the
    normalised form of the text before it.
    """
    if not name.isupper() or not 2 <= len(name) <= 4:
        if not word_boundary_contains(text, name):
            return None
        found = re.search(rf"(?<!\w){re.escape(normalize(name))}(?!\w)", normalize(text))
        return None if found is None else found.start()
    dotted = r"\.?".join(map(re.escape, name))
    found = re.search(rf"(?<![\w.]){dotted}(?!\w)", text)
    return None if found is None else len(normalize(text[: found.start()]))
