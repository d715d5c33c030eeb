"""The text that a translator is fitted on: a file, cut into passages.

Free of torch and of any tokenizer: a passage is a string. The expected form is that of
WikiText: one paragraph a line, empty lines between, headings between equals signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from statebridge.data.files import iter_lines, sha256_file
from statebridge.errors import TranslatorError

HEADING = re.compile(r"= .+ =")
"""A WikiText heading, `= Title =` or `= = Section = =`, its outer white space removed.

Inner equals signs are not counted: a pattern that does so takes hours for a long line of them.
"""


@dataclass(frozen=True, slots=True)
class TextCorpus:
    """A UTF-8 text file as a stream of passages; it may be gone through any number of times.

    A passage is a non-empty line, or, with `unit` "paragraph", a run of them joined by
    line feeds. Outer white space is removed. `skip_headings` leaves WikiText headings out;
    they also end a paragraph. At most `max_passages` are given, from the start. A line of more
    than `longest_line` bytes is refused before it is read.
    """

    path: Path
    unit: Literal["line", "paragraph"] = "line"
    skip_headings: bool = True
    max_passages: int | None = None
    longest_line: int | None = None

    def __post_init__(self) -> None:
        if self.max_passages is not None and self.max_passages < 1:
            raise TranslatorError(f"max_passages must be 1 or more, got {self.max_passages}")

    @property
    def name(self) -> str:
        """The file's name without its directory, as a card records it."""
        return self.path.name

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, hexadecimal.

        Raises `DatasetError` where it cannot be read.
        """
        return sha256_file(self.path)

    def __iter__(self) -> Iterator[str]:
        """Give the passages in file order, one at a time.

        Raises `DatasetError` where the file cannot be read or is not UTF-8 (the line and
        byte are named), `TranslatorError` where it holds no passage.
        """
        given = 0
        for passage in self._passages():
            yield passage
            given += 1
            if given == self.max_passages:
                return
        if not given:
            raise TranslatorError(
                f"{self.path}: the corpus holds no passage; it needs lines of text"
                + (" beside headings" if self.skip_headings else "")
            )

    def _passages(self) -> Iterator[str]:
        paragraph: list[str] = []
        for _, whole_line in iter_lines(self.path, self.longest_line):
            line = whole_line.strip()
            heading = self.skip_headings and HEADING.fullmatch(line) is not None
            if line and not heading:
                if self.unit == "line":
                    yield line
                else:
                    paragraph.append(line)
            elif paragraph:
                yield "\n".join(paragraph)
                paragraph = []
        if paragraph:
            yield "\n".join(paragraph)
