"""Containment without the faults of the published one: `contains_answer`.

`metrics.word_boundary_contains` (arXiv 2606.03280) removes all ASCII punctuation and case. With
that 3.14 is 314 and the pronoun "us" is the answer US; a name that Unicode can write in two ways
is two names; an answer in a script without spaces is never found; and "no" is found in most texts.
Here both texts become tokens, and the answer's tokens must follow one another in the text.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache

from statebridge.scoring.gold import Gold

_DOTTED = re.compile(r"(?<!\w)(?:(?:{L}\.)+{L}(?!\w)\.?|(?:{L}\. ?){{2,}})".format(L=r"[^\W\d_]"))
"""Letters with dots between them: U.S., A. P. J."""
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_NO_LETTER = re.compile(r"[. ]")
_APOSTROPHE = re.compile(r"(?<=\w)['’ʼ](?=\w)")
_POSSESSIVE = re.compile(r"(?<=\w)['’ʼ]s\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?=[-−.\d])(?<![\w.])(?:(?<![%)])[-−](?=[.\d]))?"
    r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+|(?=\.\d))(?:\.\d+)?(?![\w.]*\w)"
)
"""A decimal number, with commas between thousands or without, and no part of a longer word."""
_WITHOUT_SPACES = (
    "CJK UNIFIED",
    "CJK COMPATIBILITY",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)
"""First words of the Unicode names of letters whose scripts put no spaces between words."""
_YES_NO = ("yes", "no")


def contains_answer(prediction: str, gold: Gold) -> bool:
    """Whether the text contains the answer or an alias of it as whole words.

    Ours, after `word_boundary_contains` (arXiv 2606.03280). Texts are in Unicode's form NFKC. A
    number is compared as a number. An abbreviation (two to four capitals) must be in capitals,
    with or without dots. Case, hyphens, apostrophes and a possessive 's are no difference. In a
    script without spaces every letter is a word. Yes and no count only as the answer: the
    first word of the text, or the first one after "answer is" or "answer:".

    Examples:
        >>> contains_answer("It is 3.14.", Gold("314")), contains_answer("Let us", Gold("US"))
        (False, False)
        >>> contains_answer("答えは東京です", Gold("東京"))
        True
    """
    return any(_contains(prediction, name) for name in gold.names)


def _contains(prediction: str, name: str) -> bool:
    wanted, found = _words(name), _words(prediction)
    if not wanted:
        return False
    if len(wanted) == 1 and wanted[0].casefold() in _YES_NO:
        return _answered(found) == wanted[0].casefold()
    if not (len(wanted) == 1 and wanted[0].isupper() and 2 <= len(wanted[0]) <= 4):
        wanted, found = _folded(wanted), _folded(found)
    return any(
        found[start : start + len(wanted)] == wanted
        for start in range(len(found) - len(wanted) + 1)
    )


def _answered(words: tuple[str, ...]) -> str | None:
    """Return what a text answers to a question for yes or no, in lower case."""
    folded = _folded(words)
    for place, word in enumerate(folded):
        if word == "answer":
            rest = folded[place + 1 :]
            return next((word for word in rest[:2] if word in _YES_NO), None)
    return folded[0] if folded else None


def _folded(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.casefold() for word in words)


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text in their case; a number is one word, written in one way."""
    text = unicodedata.normalize("NFKC", text)
    if not text.isascii():
        text = "".join(f" {c} " if _kind(c) == "word" else c for c in text)
    text = _DOTTED.sub(lambda found: _NO_LETTER.sub("", found[0]) + " ", text)
    text = _APOSTROPHE.sub("", _POSSESSIVE.sub("", text))
    words: list[str] = []
    end = 0
    for found in _NUMBER.finditer(text):
        words += _letters(text[end : found.start()])
        words.append(f"{Decimal(found[0].replace(',', '').replace('−', '-')).normalize():f}")
        end = found.end()
    return (*words, *_letters(text[end:]))


def _letters(text: str) -> list[str]:
    """Return the words of a text without numbers."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    words: list[str] = []
    inside = False
    for character in text:
        kind = _kind(character)
        if kind == "mark" and words:
            words[-1] += character  # the vowel signs of many scripts are marks
        elif kind == "letter" and inside:
            words[-1] += character
        elif kind in ("letter", "word"):
            words.append(character)
        inside = kind == "letter" or (kind == "mark" and inside)
    return words


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """Return `letter`, `mark` (of the letter before), `word` (a letter alone) or `none`."""
    if unicodedata.category(character)[0] == "M":
        return "mark"
    if not character.isalnum():
        return "none"
    return "word" if unicodedata.name(character, "").startswith(_WITHOUT_SPACES) else "letter"
