from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.data import read_jsonl
from statebridge.scoring.containment import contains_answer
from statebridge.scoring.gold import Gold, gold_of
from tests.shared_data import SHARED, needs_shared


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        # numbers
        ("It is 314.", "3.14", False),
        ("It is 3.14.", "314", False),
        ("about 3.14, I think", "3.14", True),
        ("3.140", "3.14", True),
        ("1289500 people", "1,289,500", True),
        ("$72,641 a year", "72641", True),
        ("13.14", "3.14", False),
        ("1.2.3", "1.2", False),
        ("-5", "5", False),
        ("2-5 of them", "5", True),
        ("the 20th", "20", False),
        ("3.14メートル", "3.14", True),
        ("１２３", "123", True),
        # abbreviations
        ("Let us go", "US", False),
        ("in the U.S. today", "US", True),
        ("in the US", "U.S.", True),
        ("AUSTRIA", "US", False),
        ("C.S. Lewis", "C. S. Lewis", True),
        ("plan A. I agree", "AI", False),
        ("a.p.j. abdul kalam", "A.P.J. Abdul Kalam", True),
        # words
        ("In ROME, of course", "Rome", True),
        ("Romeo", "Rome", False),
        ("Nigeria", "Niger", False),
        ("Niger's capital", "Niger", True),
        ("the Hudson’s Bay", "Hudson's Bay", True),
        ("Hewlett Packard", "Hewlett-Packard", True),
        ("York, new", "New York", False),
        ("STRASSE", "Straße", True),
        ("cafe\u0301 au lait", "Café", True),
        ("cafe", "Café", False),
        # scripts
        ("答えは東京です。", "東京", True),
        ("答えは京都です。", "東京", False),
        ("เมืองหลวงคือกรุงเทพครับ", "กรุงเทพ", True),
        ("राजधानी दिल्ली है", "दिल्ली", True),
        ("राजधानी दिल्ली है", "दिल", False),
        # yes and no
        ("No.", "no", True),
        ("There is no way to know", "no", False),
        ("Yes, no doubt", "no", False),
        ("The answer is no, since yes is wrong", "no", True),
        ("Answer: Yes", "yes", True),
        ("I have no answer", "no", False),
        ("nobody", "no one", False),
        ("no one knows", "no one", True),
        # nothing
        ("", "Rome", False),
        ("...", "?", False),
    ],
)
def test_contains_answer(prediction: str, answer: str, right: bool) -> None:
    assert contains_answer(prediction, Gold(answer)) is right


def test_an_alias_is_as_right_as_the_answer() -> None:
    assert contains_answer("the Bucs' Pirates", Gold("Pittsburgh Pirates", ("Pirates",)))
    assert not contains_answer("the Mets", Gold("Pittsburgh Pirates", ("Pirates",)))


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_form_of_unicode_does_not_matter(prediction: str, answer: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        there = unicodedata.normalize(form, prediction), unicodedata.normalize(form, answer)
        assert contains_answer(there[0], Gold(answer)) == contains_answer(
            prediction, Gold(there[1])
        )


@needs_shared
@pytest.mark.parametrize("name", ["hotpotqa", "musique"])
def test_every_gold_of_the_real_files_is_contained(name: str) -> None:
    for row in read_jsonl(SHARED / "qa" / f"{name}_gold.jsonl"):
        gold = gold_of(row)
        for one in gold.names:
            assert contains_answer(f"{one}.", Gold(one))
            assert contains_answer(one, gold)
