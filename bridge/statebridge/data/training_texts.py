"""Training texts of a map, as hashes that show which evaluated rows are new to it.

A map can learn its training answers by heart, above all where they come from a closed list. So a
translator's card keeps, of the rows and texts that it was trained on, hashes of the answers, the
names, the questions, their templates and the sentences; never the texts.

A *name* is a word with a capital first letter that has the capital within a sentence as well,
somewhere in the same rows; scripts without capitals have none. The *template* of a question is its
text with names and numbers masked.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal

from pydantic import AfterValidator

from statebridge.data.answers import ALIASES, attribute_names
from statebridge.records import DatasetRow, Record

_HASH_BYTES = 6
"""A text that is not among a million hashes has one of them by chance once in 3 · 10⁸."""
_CHARACTERS = 4 * _HASH_BYTES // 3

_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_NUMBER = re.compile(r"\d[\d.,]*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|[\r\n]+")
_EDGES = re.compile(r"(?<!\w)[^\w\s]+|[^\w\s]+(?!\w)")
_SHORTEST_SENTENCE = 3
"""Words; what is shorter is a heading."""


def normal_text(text: str) -> str:
    """Return a text in one form: NFKC, case folded, without punctuation around words.

    Examples:
        >>> normal_text(" The  U.S. "), normal_text("3.14")
        ('the u.s', '3.14')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_EDGES.sub(" ", folded).split()) or folded.strip()


def answer_names(row: DatasetRow) -> frozenset[str]:
    """Return a row's answer and its aliases in one form (`normal_text`)."""
    names = (row.answer, *attribute_names(row, ALIASES))
    return frozenset(normal_text(name) for name in names)


def held_out_answers(rows: Iterable[DatasetRow], share: float | None) -> frozenset[str]:
    """Return the names (`answer_names`) of about a share of the rows' answers; of none for None.

    An answer is held out by its hash alone, whatever other rows there are.
    """
    limit = int((share or 0.0) * 2 ** (8 * _HASH_BYTES))
    held = (row for row in rows if int.from_bytes(_hash(normal_text(row.answer)), "big") < limit)
    return frozenset(name for row in held for name in answer_names(row))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in one form, those of fewer than three words left out."""
    parts = (normal_text(part) for part in _SENTENCE_END.split(text) if part)
    return [part for part in parts if len(part.split()) >= _SHORTEST_SENTENCE]


def _capitals(text: str) -> Iterable[tuple[re.Match[str], bool]]:
    """Yield the words with a capital first letter, and whether each opens a sentence."""
    start = 0
    for part in _SENTENCE_END.split(text):
        start = text.index(part, start)
        first = True
        for word in _WORD.finditer(text, start, start + len(part)):
            if word[0][0].isupper() and len(word[0]) > 1:
                yield word, first
            first = False
        start += len(part)


class Names:
    """Recognises the names in some rows."""

    def __init__(self, rows: Iterable[DatasetRow]) -> None:
        self._known: set[str] = set()
        for row in rows:
            self._known |= {
                w[0] for text in _texts(row) for w, first in _capitals(text) if not first
            }
            self._known |= {word[0] for word, _ in _capitals(row.answer)}

    def of(self, *texts: str) -> set[str]:
        """Return the names in texts of the rows."""
        found = {word[0] for text in texts for word, _ in _capitals(text)}
        return found & self._known

    def template(self, question: str) -> str:
        """Return a question with its names and numbers masked (`0`), in one form.

        Examples:
            >>> row = DatasetRow("r", "Ann met Bo.", "Is Bo at home, 7 Hill Street?", "no")
            >>> Names([row]).template(row.question)
            'is 0 at home 0'
        """
        masked, end = [], 0
        for word, _ in _capitals(question):
            if word[0] in self._known:
                masked += [question[end : word.start()], "0"]
                end = word.end()
        words = normal_text(_NUMBER.sub("0", "".join([*masked, question[end:]]))).split()
        return " ".join(word for word, _ in groupby(words))


def _texts(row: DatasetRow) -> tuple[str, str]:
    return row.context, row.question


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:_HASH_BYTES]


def _packed(items: Iterable[str]) -> str:
    return _encoded({_hash(item) for item in items})


def _encoded(hashes: Set[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(hashes))).decode("ascii")


def _unpacked(packed: str) -> frozenset[bytes]:
    content = base64.b64decode(packed)
    starts = range(0, len(content), _HASH_BYTES)
    return frozenset(content[start : start + _HASH_BYTES] for start in starts)


def _checked(packed: str) -> str:
    if len(packed) % _CHARACTERS or not re.fullmatch(r"[A-Za-z0-9+/]*", packed):
        raise ValueError(f"must be hashes in base64, {_CHARACTERS} characters each")
    return packed


Packed = Annotated[str, AfterValidator(_checked)]
"""Set of hashes in base64, eight characters each, sorted."""


class TrainingTexts(Record):
    """Hashes of the texts that a map was trained on."""

    rows: int = 0
    """Rows with a question and an answer, those of its validation included."""
    passages: int = 0
    """Passages of running text, which have neither."""
    answers: Packed = ""
    """Answers of the rows and their aliases (`normal_text`)."""
    names: Packed = ""
    """Words with a capital first letter in any of the texts, wherever in a sentence."""
    templates: Packed = ""
    questions: Packed = ""
    sentences: Packed = ""
    """Sentences of contexts and passages."""

    @classmethod
    def of(cls, rows: Sequence[DatasetRow] = (), passages: Sequence[str] = ()) -> TrainingTexts:
        """Return the hashes of rows, and of passages of running text."""
        finder = Names(rows)
        texts = [text for row in rows for text in (*_texts(row), row.answer)] + list(passages)
        contexts = [row.context for row in rows] + list(passages)
        return cls(
            rows=len(rows),
            passages=len(passages),
            answers=_packed(name for row in rows for name in answer_names(row)),
            names=_packed(word[0] for text in texts for word, _ in _capitals(text)),
            templates=_packed(finder.template(row.question) for row in rows),
            questions=_packed(normal_text(row.question) for row in rows),
            sentences=_packed(sentence for text in contexts for sentence in sentences(text)),
        )

    def joined(self, other: TrainingTexts) -> TrainingTexts:
        """Return the hashes of both."""
        return TrainingTexts(
            rows=self.rows + other.rows,
            passages=self.passages + other.passages,
            **{
                name: _encoded(_unpacked(getattr(self, name)) | _unpacked(getattr(other, name)))
                for name in ("answers", "names", "templates", "questions", "sentences")
            },
        )


NamesSeen = Literal["all", "some", "none"]


@dataclass(frozen=True, slots=True)
class RowOverlap:
    """The share of an evaluated row that is in a map's training texts; None where it has none.

    Attributes:
        answer: Whether the answer or an alias was an answer. Of a map that was trained on running
            text alone: whether all names in the answer occur there.
        names: Names of context and question that occur in the texts.
        template: Whether the question's template was there.
        question: Whether the question itself was there, word for word.
        sentence: Whether a sentence of the context was there, word for word.
    """

    answer: bool | None
    names: NamesSeen | None
    template: bool | None
    question: bool | None
    sentence: bool | None


def row_overlaps(rows: Sequence[DatasetRow], trained: TrainingTexts) -> list[RowOverlap]:
    """Return how much of each evaluated row is in a map's training texts.

    A map that was trained on running text has seen no questions: their template and text are None.
    """
    finder = Names(rows)
    answers, names = _unpacked(trained.answers), _unpacked(trained.names)
    templates, questions = _unpacked(trained.templates), _unpacked(trained.questions)
    known_sentences = _unpacked(trained.sentences)
    found = []
    for row in rows:
        own = [_hash(name) in names for name in finder.of(*_texts(row))]
        in_answer = [_hash(word[0]) in names for word, _ in _capitals(row.answer)]
        parts = sentences(row.context)
        if trained.rows:
            answer: bool | None = any(_hash(name) in answers for name in answer_names(row))
        else:
            answer = all(in_answer) if in_answer else None
        found.append(
            RowOverlap(
                answer=answer,
                names=("all" if all(own) else "some" if any(own) else "none") if own else None,
                template=_hash(finder.template(row.question)) in templates
                if trained.rows
                else None,
                question=_hash(normal_text(row.question)) in questions if trained.rows else None,
                sentence=any(_hash(part) in known_sentences for part in parts) if parts else None,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that are not independent of another row of the same data."""

    question: int
    """Rows whose question another row has too, word for word."""
    sentence: int
    """Rows of which a sentence of the context is in another row too."""
    answer: int
    """Rows whose answer is that of another row too."""


def repeats(rows: Sequence[DatasetRow]) -> Repeats:
    """Count the rows that share text with another one."""

    def shared(texts: Sequence[Collection[str]]) -> int:
        count = Counter(text for own in texts for text in set(own))
        return sum(any(count[text] > 1 for text in own) for own in texts)

    return Repeats(
        question=shared([[normal_text(row.question)] for row in rows]),
        sentence=shared([sentences(row.context) for row in rows]),
        answer=shared([answer_names(row) for row in rows]),
    )
