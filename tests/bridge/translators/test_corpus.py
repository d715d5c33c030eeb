from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from statebridge.data.text_corpus import TextCorpus
from statebridge.errors import DatasetError, TranslatorError
from tests.bridge.translators.refusal import refused
from tests.shared_data import SHARED, needs_shared

TEXT = (
    " \n = Title = \n \n First line . \n Second line é . \n \n = = Part = = \n Third . \n"
    " = not a heading \n \n = nor = this \n"
)


def corpus(folder: Path, content: str | bytes) -> Path:
    path = folder / "corpus.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_lines(tmp_path: Path) -> None:
    path = corpus(tmp_path, TEXT)
    body = ["First line .", "Second line é .", "Third .", "= not a heading", "= nor = this"]
    assert list(TextCorpus(path)) == body
    assert list(TextCorpus(path, skip_headings=False)) == [
        "= Title =",
        *body[:2],
        "= = Part = =",
        *body[2:],
    ]


def test_paragraphs(tmp_path: Path) -> None:
    text = "One.\nTwo.\n\n\n= Head =\nThree.\n= Head =\nFour."
    path = corpus(tmp_path, text)
    assert list(TextCorpus(path, unit="paragraph")) == ["One.\nTwo.", "Three.", "Four."]
    with_headings = list(TextCorpus(path, unit="paragraph", skip_headings=False))
    assert with_headings == ["One.\nTwo.", "= Head =\nThree.\n= Head =\nFour."]


def test_max_passages_and_going_through_twice(tmp_path: Path) -> None:
    passages = TextCorpus(corpus(tmp_path, TEXT), max_passages=2)
    assert list(passages) == list(passages) == ["First line .", "Second line é ."]
    # The rest is not even looked at: it streams.
    path = corpus(tmp_path, b"good\nalso good\n\xff\n")
    assert list(TextCorpus(path, max_passages=2)) == ["good", "also good"]
    assert next(iter(TextCorpus(path))) == "good"


def test_name_and_hash(tmp_path: Path) -> None:
    passages = TextCorpus(corpus(tmp_path, "abc"))
    assert passages.name == "corpus.txt"
    # The SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    assert passages.sha256() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = corpus(tmp_path, b"good\nbad \xff here\n")
    with refused(DatasetError, "corpus.txt", "line 2", "byte 5", "UTF-8"):
        list(TextCorpus(path))


@pytest.mark.parametrize("content", ["", "\n \n", "= Only =\n\n = = Headings = = \n"])
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_empty_corpus(tmp_path: Path, content: str, unit: str) -> None:
    with refused(TranslatorError, "corpus.txt", "no passage"):
        list(TextCorpus(corpus(tmp_path, content), unit=unit))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("= a =", True),
        ("= = a = =", True),
        ("= = a =", True),
        ("= = =", True),
        ("= a", False),
        ("a =", False),
        ("==a==", False),
        ("= =", False),
        ("=  =", False),
        ("= " * 50_000 + "x", False),  # which a pattern that counts the signs never gets through
        ("= " * 50_000 + "x" + " =" * 50_000, True),
    ],
)
def test_what_is_a_heading(tmp_path: Path, line: str, heading: bool) -> None:
    given = list(TextCorpus(corpus(tmp_path, f"{line}\nbody\n")))
    assert given == (["body"] if heading else [line, "body"])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.txt", tmp_path):
        with refused(DatasetError, str(path)):
            list(TextCorpus(path))
        with refused(DatasetError, str(path)):
            TextCorpus(path).sha256()


def test_max_passages_below_one(tmp_path: Path) -> None:
    with refused(TranslatorError, "max_passages", "0"):
        TextCorpus(tmp_path, max_passages=0)


@needs_shared
def test_wikitext() -> None:
    passages = TextCorpus(SHARED / "text" / "wikitext2_valid.txt")
    first = next(iter(passages))
    assert first.startswith("Homarus gammarus , known as the European lobster")
    lines = (SHARED / "text" / "wikitext2_valid.txt").read_text("utf-8").split("\n")
    filled = [line.strip() for line in lines if line.strip()]
    assert list(TextCorpus(passages.path, skip_headings=False)) == filled
    headings = [line for line in filled if line.startswith("= ") and line.endswith(" =")]
    assert len(list(passages)) == len(filled) - len(headings)
    assert len(list(islice(passages, 10))) == 10
