from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.errors import DatasetError
from statebridge.records import DatasetRow
from statebridge.scoring.conventions import (
    CONVENTIONS,
    Gold,
    exact,
    final_number,
    first_line,
    first_named,
    first_span,
    gold_of,
    row_convention,
    row_correct,
)
from tests.bridge.data.refusal import refused

UK = Gold("United Kingdom", ("UK", "Britain"))
US = Gold("United States", ("US", "USA"))
NIGER = Gold("Niger")
TIPS = Gold("Borvane", options=("Astrel", "Borvane", "Cadix"))
LETTERS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        (" United Kingdom.", UK, True),
        ("britain", UK, True),
        ("uk", UK, True),
        ("U.K.", UK, True),
        ("the United Kingdom", UK, False),
        ("United Kingdom\nQ: Which", UK, False),
        ("Nigeria", NIGER, False),
        ("", NIGER, False),
    ],
)
def test_exact(prediction: str, gold: Gold, right: bool) -> None:
    assert exact(prediction, gold) is right


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        ("Britain.\nQ: Which country", UK, True),
        ("The answer is UK. I think", UK, True),
        ("Alice is in Britain", UK, False),
        ("France\nBritain", UK, False),
    ],
)
def test_first_span(prediction: str, gold: Gold, right: bool) -> None:
    assert first_span(prediction, gold) is right


@pytest.mark.parametrize(
    ("prediction", "gold", "right"),
    [
        ("Alice is in the United Kingdom, I believe.", UK, True),
        ("\n  Great britain!\nFrance", UK, True),
        ("France\nUK", UK, False),
        ("Ukraine", UK, False),
        ("She is in the UK.", UK, True),
        ("the U.K., surely", UK, True),
        ("the uk", UK, False),
        ("Let us see.", US, False),
        ("the US", US, True),
        ("the USA", US, True),
        ("U.S.A.", US, True),
        ("in the U.S.", US, True),
        ("AUSTRIA", US, False),
        ("GUS", US, False),
        ("Nigeria", NIGER, False),
        ("Niger's capital", Gold("Nigers"), True),  # as normalising has it: the ' is dropped
        ("", UK, False),
        ("Türkiye", Gold("Turkey", ("Türkiye",)), True),
    ],
)
def test_first_line(prediction: str, gold: Gold, right: bool) -> None:
    assert first_line(prediction, gold) is right


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("Borvane", True),
        ("I would invest in BORVANE, not in Astrel.", True),
        ("Not Astrel but Borvane", False),
        ("Astrel, Borvane or Cadix?", False),
        ("Borvane, Cadix and Astrel", True),
        ("It is hard to say.\nBorvane.", True),
        ("Borvaneco", False),
        ("none of them", False),
        ("", False),
    ],
)
def test_first_named(prediction: str, right: bool) -> None:
    assert first_named(prediction, TIPS) is right


def test_first_named_knows_aliases_and_abbreviations() -> None:
    gold = Gold("United States", ("US",), options=("United States", "UK", "Peru"))
    assert first_named("In the US, not the UK.", gold)
    assert not first_named("In the UK, not the US.", gold)
    assert not first_named("Peru, says us all. US.", gold)


@pytest.mark.parametrize(
    ("gold", "prediction", "right"),
    [
        ("18", "$18.00", True),
        ("1000", "1,000", True),
        ("18", "118", False),
        ("-3", "-3", True),
        ("3", "-3", False),
        ("18", "eighteen", False),
    ],
)
def test_final_number(gold: str, prediction: str, right: bool) -> None:
    assert final_number(prediction, Gold(gold)) is right


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_found_however_it_is_written(value: int) -> None:
    for text in (f"{value}", f"{value:,}", f"{value}.00", f"so {value}."):
        assert final_number(text, Gold(str(value)))
        assert final_number(f"Step 1: 2 and 3\n#### {text.removeprefix('so ')}", Gold(str(value)))
        assert not final_number(text, Gold(str(value + 1)))


def test_a_row_names_its_convention() -> None:
    attributes = {"aliases": "UK|Britain", "options": "", "scoring": "first_line"}
    row = DatasetRow("r1", "", "q", "United Kingdom", attributes)
    assert gold_of(row) == UK
    assert row_convention(row) == "first_line"
    assert row_correct("It is in Britain.", row)
    assert not row_correct("It is in Britain.", row, "exact")


def test_the_gold_answer_is_right_by_every_convention() -> None:
    golds = {
        "final_number": Gold("5"),
        "flexible_extract": Gold("5"),
        "strict_match": Gold("5"),
        "choice_letter": Gold("B", options=LETTERS),
    }
    for name in CONVENTIONS.names():
        convention = CONVENTIONS.get(name)
        gold = golds.get(name, TIPS)
        text = f"#### {gold.answer}" if name == "strict_match" else gold.answer
        assert convention(text, gold)
        assert convention(f"  {text}\n", gold)
        assert not convention("", gold)


def test_wrong_rows() -> None:
    bare = DatasetRow("r1", "", "q", "London")
    assert row_convention(bare) is None
    with refused(DatasetError, "row 'r1': has no attribute 'scoring'", "first_line"):
        row_correct("x", bare)
    with refused(DatasetError, "unknown scoring convention 'exat'; did you mean exact?"):
        row_correct("x", bare, "exat")
    with refused(DatasetError, "row 'r1': final_number: answer 'London' is no number"):
        row_correct("x", bare, "final_number")
    for name in ("first_named", "choice_letter"):
        with refused(DatasetError, f"row 'r1': {name}: answer 'London' is not among", "none"):
            row_correct("x", bare, name)
    other = DatasetRow("r2", "", "q", "a", {"scoring": "first_lime"})
    with refused(DatasetError, "row 'r2'", "unknown convention 'first_lime'", "first_line"):
        row_convention(other)
