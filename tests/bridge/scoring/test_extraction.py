from __future__ import annotations

from decimal import Decimal

import pytest

from statebridge.scoring.conventions import choice_letter
from statebridge.scoring.extraction import (
    extract_letter,
    extract_number,
    flexible_extract,
    strict_match,
)
from statebridge.scoring.gold import Gold

LETTERS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("prediction", "number"),
    [
        ("48+24 = 72\n#### 72", 72),
        ("#### $1,080.50 in all, of 3", Decimal("1080.5")),
        ("#### 72\n#### 5", 72),
        ("####", None),
        ("#### many\n4", None),
        ("She has 3 and 4, so 7 apples.", 7),
        ("7.\n\nQ: A farmer has 90 cows.\nA: 12", 7),
        ("7\nQuestion: has 90 cows?", 7),
        ("Question 7 is it", 7),
        ("It costs $1,200.", 1200),
        ("no idea", None),
        ("Q: 5", None),
        ("", None),
    ],
)
def test_extract_number(prediction: str, number: int | Decimal | None) -> None:
    assert extract_number(prediction) == number


# Worked out by hand from the filters of gsm8k.yaml, version 3, in lm-evaluation-harness.
@pytest.mark.parametrize(
    ("prediction", "answer", "strict", "flexible"),
    [
        ("48+24 = 72\n#### 72", "72", True, True),
        ("#### 72", "72", True, True),
        ("####72", "72", False, True),
        ("So she sold 72 clips.", "72", False, True),
        ("#### 72 and not 5", "72", True, False),
        ("#### 72\n\nQuestion: 5 + 5?\n#### 10", "72", True, True),
        ("#### 72\nQ: 5", "72", True, False),
        ("#### $1,080", "1080", False, True),
        ("#### 1,080.", "1080", True, True),
        ("#### 18.00", "18", False, False),
        ("#### -5", "-5", True, True),
        ("it is 5...", "5", False, False),
        ("7, 8 or 9, ...", "9", False, False),
        ("nothing", "5", False, False),
        ("", "5", False, False),
    ],
)
def test_the_two_filters_of_the_harness(
    prediction: str, answer: str, strict: bool, flexible: bool
) -> None:
    assert strict_match(prediction, Gold(answer)) is strict
    assert flexible_extract(prediction, Gold(answer)) is flexible


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("B", "B"),
        (" (C) because", "C"),
        ("D. Saturn", "D"),
        ("A: the Sun", "A"),
        ("C\n\nQuestion: x\nAnswer: D", "C"),
        ("A dog is an animal.", None),
        ("A dog, so the answer is (D).", "D"),
        ("The answer is B because A is wrong.", "B"),
        ("Answer: A. No: the answer is C", "C"),
        ("I take (B) over (C)", "B"),
        ("The answer is Beta", None),
        ("E", None),
        ("b", None),
        ("BAD", None),
        ("**A**", "A"),
        ("**B.** Venus", "B"),
        ("Answer: **D**", "D"),
        ("**Answer:** C, since", "C"),
        ("The answer is **(B)**.", "B"),
        ("Answer: Option C", "C"),
        ("The correct option is D", "D"),
        (r"\boxed{B}", "B"),
        (r"A: no, so $\boxed{\text{B}}$ or rather \boxed{(C)}.", "C"),
        ("Option D", "D"),
        ("option (B) is right", "B"),
        ("I choose option B, not option C.", "B"),
        ("Options are many", None),
        ("An option Anna likes", None),
        ("_C_", "C"),
        ("`D`", "D"),
        ("", None),
    ],
)
def test_extract_letter(prediction: str, letter: str | None) -> None:
    assert extract_letter(prediction, LETTERS) == letter
    for gold in LETTERS:
        assert choice_letter(prediction, Gold(gold, options=LETTERS)) is (gold == letter)


def test_letters_are_those_of_the_row() -> None:
    assert extract_letter("E.", (*LETTERS, "E")) == "E"
