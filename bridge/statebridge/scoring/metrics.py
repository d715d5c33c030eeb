r"""The five text metrics of arXiv 2606.03280.

They compare a decoded prediction with one gold answer, on Python `str` as it is: no Unicode
normalisation (a letter and its accent as two characters are two characters), `str.lower` for
lower case, and only the 32 ASCII characters of `string.punctuation` count as punctuation, so
curly quotes stay. A *word character* is Python's Unicode `\w`: a letter or digit of any
script, or the underscore (which normalising has removed as punctuation). A combining mark is
no word character.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType

Metric = Callable[[str, str], bool]
"""(prediction, gold) to whether it is right."""

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SENTENCE_END = re.compile(r"[.!?]")
_LINE_END = re.compile(r"[\r\n]")
_ANSWER_OPENINGS = ("the answer is", "answer is", "answer:", "a:", "it is", "it's")


def normalize(text: str) -> str:
    """Strip, lower-case, remove ASCII punctuation, make each run of white space one space."""
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())


def exact_match(prediction: str, gold: str) -> bool:
    """Whether the stripped, lower-cased texts are equal."""
    return prediction.strip().lower() == gold.strip().lower()


def normalized_exact_match(prediction: str, gold: str) -> bool:
    """Whether the normalised texts are equal."""
    return normalize(prediction) == normalize(gold)


def word_boundary_contains(prediction: str, gold: str) -> bool:
    """Whether the normalised prediction contains the normalised gold as whole words.

    No word character may touch it on either side. A gold that normalises to nothing never
    matches. The main metric of the paper.
    """
    wanted = normalize(gold)
    if not wanted:
        return False
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", normalize(prediction)) is not None


def legacy_contains(prediction: str, gold: str) -> bool:
    """Whether the stripped, lower-cased gold is a substring of the lower-cased prediction."""
    return gold.strip().lower() in prediction.lower()


def first_answer_span(prediction: str, gold: str) -> bool:
    """Whether the prediction's first answer span is the gold, both normalised.

    The span: the first line, up to the first of `. ! ?`, without one leading "the answer
    is", "answer is", "answer:", "a:", "it is" or "it's" (in any case).
    """
    line = _LINE_END.split(prediction.strip(), maxsplit=1)[0]
    span = _SENTENCE_END.split(line, maxsplit=1)[0].strip().lower()
    opening = next((words for words in _ANSWER_OPENINGS if span.startswith(words)), "")
    return normalize(span.removeprefix(opening)) == normalize(gold)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "exact_match": exact_match,
        "normalized_exact_match": normalized_exact_match,
        "word_boundary_contains": word_boundary_contains,
        "legacy_contains": legacy_contains,
        "first_answer_span": first_answer_span,
    }
)
