"""Find the phrases that CONTRIBUTING.md asks writers to avoid.

Docstrings, comments, test names and Markdown pages are read.

    python scripts/check_english.py                          # everything
    python scripts/check_english.py bridge/statebridge/stats
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREES = ("bridge", "client", "server", "tests", "benchmarks", "scripts", "docs")
LONGEST_TEST_NAME = 60

PHRASES = {
    r"\b(?:stands?|stood)\b": 'write "is", or the verb that is meant',
    r"\b(?:told|tells?|said)\b": 'write "sent", "received", "text", "states" or "shows"',
    r"\b(?:[Ww]hoever|[Ww]hom)\b": "name the person or the thing",
    r"\b[Ww]hat [^.:;]{1,60} is what\b": "say it with one subject and one verb",
}
DOCSTRING_STARTS = {
    r"\A(?:What|Whose|Who) ": "begin with a verb, or with a noun phrase for an attribute",
    r"\AOf ": 'name the thing first: "Width of the stream", not "Of the stream"',
}
NAMES = re.compile(r"told|tell|said")
RIGHT = re.compile(
    r"`[^`]*`"  # code
    r"|\bst(?:ands?|ood)\s+(?:for|in for|out)\b|\bstand-in"
    r"|\btells?\b(?=[^.]{1,60}\bapart\b)"
)
"""Text in which a phrase is right, or is not English."""


@dataclass(frozen=True, slots=True)
class Find:
    """One phrase to rewrite."""

    path: str
    line: int
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text!r}: {self.advice}"


def main() -> int:
    """Print every find; return 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("start", nargs="?", default="", help="read files below this path only")
    start = parser.parse_args().start.rstrip("/")
    files = (path for path in _files() if _relative(path).startswith(start))
    finds = [find for path in files for find in _finds(path)]
    print(*finds, sep="\n", end="\n" if finds else "")
    return 1 if finds else 0


def _files() -> Iterator[Path]:
    for tree in TREES:
        for path in sorted((ROOT / tree).rglob("*")):
            if path.suffix in (".py", ".md"):
                yield path
    yield from sorted(ROOT.glob("*.md"))


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _finds(path: Path) -> Iterator[Find]:
    name, text = _relative(path), path.read_text("utf-8")
    if path.suffix == ".md":
        yield from _phrases(name, 1, re.sub(r"(?ms)^```.*?^```", _blank, text), PHRASES)
        return
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
    ]
    before = tokenize.NEWLINE
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            yield from _phrases(name, line, token.string, PHRASES)
            continue
        if token.type == tokenize.NAME and before != ".":  # a method of another object
            yield from _name(name, line, token.string, after_def=before == "def")
        docstring = token.type == tokenize.STRING and before == tokenize.NEWLINE
        if docstring and following is not None and following.type == tokenize.NEWLINE:
            written = re.sub(r"\A[a-zA-Z]*(\"\"\"|\"|''')", "", token.string)
            yield from _phrases(name, line, written, PHRASES | DOCSTRING_STARTS)
        before = token.string if token.string in ("def", ".") else token.type


def _name(path: str, line: int, name: str, *, after_def: bool) -> Iterator[Find]:
    if NAMES.fullmatch(name):
        yield Find(path, line, name, "a name for the thing: sent, received, text")
    if after_def and name.startswith("test_") and len(name) > LONGEST_TEST_NAME:
        yield Find(path, line, name, f"a test name has at most {LONGEST_TEST_NAME} characters")


def _phrases(path: str, line: int, text: str, phrases: dict[str, str]) -> Iterator[Find]:
    text = RIGHT.sub(_blank, text)
    for pattern, advice in phrases.items():
        for match in re.finditer(pattern, text):
            yield Find(path, line + text.count("\n", 0, match.start()), match[0], advice)


def _blank(match: re.Match[str]) -> str:
    """Return spaces in the place of a text, its line ends kept."""
    return re.sub(r"[^\n]", " ", match[0])


if __name__ == "__main__":
    sys.exit(main())
