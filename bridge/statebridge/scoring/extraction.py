r"""Numbers and letters that a longer text settles on.

Base models write on with a problem of their own: what follows a further `Q:`, `Question:` or
`Problem:` at the start of a line is left out of `extract_number` and `extract_letter`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from statebridge.data.answers import first_number, last_number
from statebridge.scoring.gold import Gold

_LINE_END = re.compile(r"[\r\n]")
_NEXT_QUESTION = re.compile(r"^(?:Q|Question|Problem):", re.MULTILINE)
_FINAL = "####"

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_STOP = "Question:"

_EMPHASIS = re.compile(r"[*_`$]")
_BOXED = r"\\boxed\{{(?:\\\w+\{{)?\s*\(?({letters})[).]?\s*\}}"
_OPENING = r"\W*(?:(?i:option|choice)\s+\(?({letters})(?![\w'’])|({letters})\s*(?:$|[).:,;\r\n]))"
_PRONOUN = r"(?!(?<=I)\s+(?:am|believe|can|cannot|do|don|have|need|think|was|will|would)\b)"
_STATED = (
    r"(?i:answer|correct (?:option|choice)|答案|答え|정답|"
    r"antwort|respuesta|réponse|resposta|risposta|ответ)"
    r"\s*(?i:is|:|是|为|為|は|ist|es|est|é|è)\s*:?\s*(?i:option|choice)?\s*"
    rf"\(?({{letters}})(?![A-Za-z0-9_'’]){_PRONOUN}"
)
_NAMED = r"\(({letters})\)|(?i:option|choice)\s+({letters})(?![\w'’])"


def extract_number(prediction: str) -> Decimal | None:
    """Return the final number of a text, or None; see `conventions.final_number`."""
    text = _own_answer(prediction)
    _, mark, after = text.partition(_FINAL)
    if mark:
        # The first one: the answer, not what a model writes after it.
        return first_number(_LINE_END.split(after.strip(), maxsplit=1)[0])
    return last_number(text)


def strict_match(prediction: str, gold: Gold) -> bool:
    """Whether the first `#### N` of the text is the answer, as texts without commas and `$`.

    `exact_match` with the filter strict-match of the task gsm8k in lm-evaluation-harness, which
    stops a model at `Question:`. 18.00 is not 18.

    Examples:
        >>> strict_match("#### 1,080", Gold("1080")), strict_match("It is 1080", Gold("1080"))
        (True, False)
    """
    return _harness_equal(_STRICT.search(_stopped(prediction)), gold)


def flexible_extract(prediction: str, gold: Gold) -> bool:
    """Whether the last number of the text is the answer, as texts without commas and `$`.

    `exact_match` with the filter flexible-extract of the task gsm8k in lm-evaluation-harness,
    which stops a model at `Question:`. 18.00 is not 18.

    Examples:
        >>> flexible_extract("2 and 3 make $5.", Gold("5"))
        True
    """
    found = list(_FLEXIBLE.finditer(_stopped(prediction)))
    return _harness_equal(found[-1] if found else None, gold)


def _stopped(prediction: str) -> str:
    return prediction.split(_STOP, maxsplit=1)[0]


def _harness_equal(found: re.Match[str] | None, gold: Gold) -> bool:
    if found is None:
        return False
    text = next(group for group in found.groups() if group)
    return _bare(text) in map(_bare, gold.names)


def _bare(number: str) -> str:
    return number.strip().replace(",", "").replace("$", "").removesuffix(".").lower()


def extract_letter(prediction: str, letters: Sequence[str]) -> str | None:
    r"""Return the letter that a text settles on, or None.

    The first of: the last letter in `\boxed{}`; a letter that opens the text and is followed by
    its end, a line end or one of `) . : , ;`, or comes after "option" or "choice"; the last
    letter after "answer is", "answer:" or "correct option is"; the first letter in brackets or
    after "option" or "choice". Emphasis (`**A**`) is no difference. Letters are capitals, and an
    article that opens the text ("A dog") is none.

    Examples:
        >>> [extract_letter(text, "ABCD") for text in ("**A**", "Option D", r"\boxed{B}", "A dog")]
        ['A', 'D', 'B', None]
    """
    text = _EMPHASIS.sub("", _own_answer(prediction))
    known = "|".join(map(re.escape, letters))

    def matches(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern.format(letters=known))

    if boxed := matches(_BOXED).findall(text):
        return str(boxed[-1])
    if opening := matches(_OPENING).match(text):
        return opening[1] or opening[2]
    if stated := matches(_STATED).findall(text):
        return str(stated[-1])
    named = matches(_NAMED).search(text)
    return None if named is None else named[1] or named[2]


def _own_answer(prediction: str) -> str:
    return _NEXT_QUESTION.split(_in_ascii(prediction.strip()), maxsplit=1)[0]


def _in_ascii(text: str) -> str:
    """Return a text with full-width forms, and the digits of any script, in ASCII."""
    if text.isascii():
        return text
    return "".join(map(_character_in_ascii, text))


def _character_in_ascii(character: str) -> str:
    if "！" <= character <= "～":  # U+FF01 to U+FF5E
        return chr(ord(character) - ord("！") + ord("!"))
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
