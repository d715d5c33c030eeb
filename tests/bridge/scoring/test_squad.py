"""Scores of HotpotQA, 2WikiMultihopQA and MuSiQue, worked out by hand from their scripts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statebridge.data import read_jsonl
from statebridge.scoring.conventions import babi
from statebridge.scoring.gold import Gold, gold_of
from statebridge.scoring.metrics import normalize
from statebridge.scoring.squad import (
    hotpotqa_f1,
    squad_exact_match,
    squad_f1,
    squad_normalize,
    submitted,
)
from tests.shared_data import SHARED, needs_shared

PIRATES = Gold("Pittsburgh Pirates", ("Pirates", "Mets"))


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Beatles!", "beatles"),
        ("A.P.J. Abdul Kalam", "apj abdul kalam"),
        ("an apple a day", "apple day"),
        ("Theatre", "theatre"),
        ("the-sea", "thesea"),  # punctuation goes first, so this "the" is no word
        ("$1,289,500", "1289500"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation
        ("The", ""),
    ],
)
def test_normalising_drops_articles(text: str, normalised: str) -> None:
    assert squad_normalize(text) == normalised


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "f1", "hotpotqa"),
    [
        ("the Pittsburgh Pirates.", PIRATES, True, 1, 1),
        ("PIRATES", PIRATES, True, 1, 1),
        ("Pirates of Pittsburgh", PIRATES, False, 4 / 5, 4 / 5),
        ("New York Mets", PIRATES, False, 1 / 2, 1 / 2),
        ("Mets\nQ: Who? A: Ada", PIRATES, True, 1, 1),
        ("Ada", PIRATES, False, 0, 0),
        ("", PIRATES, False, 0, 0),
        ("pirates pirates", Gold("Pirates Cove Pirates"), False, 4 / 5, 4 / 5),
        ("pirates pirates", Gold("pirates"), False, 2 / 3, 2 / 3),
        ("Yes.", Gold("yes"), True, 1, 1),
        ("yes, it is", Gold("yes"), False, 1 / 2, 0),
        ("no", Gold("no one"), False, 2 / 3, 0),
        ("noanswer", Gold("noanswer"), True, 1, 1),
        ("no", Gold("yes", ("no",)), True, 1, 1),
        ("a", Gold("The The"), True, 1, 0),  # neither has a token
        ("the", Gold("Rome"), False, 0, 0),
    ],
)
def test_scores_by_hand(
    prediction: str, gold: Gold, exact: bool, f1: float, hotpotqa: float
) -> None:
    assert squad_exact_match(prediction, gold) is exact
    assert squad_f1(prediction, gold) == pytest.approx(f1, abs=1e-15)
    assert hotpotqa_f1(prediction, gold) == pytest.approx(hotpotqa, abs=1e-15)


def test_a_text_submits_its_first_line() -> None:
    assert submitted("\n Rome \r\nQ:") == "Rome"
    assert submitted(" ") == ""


@needs_shared
@pytest.mark.parametrize(("name", "rows", "changed"), [("hotpotqa", 397, 24), ("musique", 300, 24)])
def test_every_gold_of_the_real_files_is_right(name: str, rows: int, changed: int) -> None:
    read = read_jsonl(SHARED / "qa" / f"{name}_gold.jsonl")
    golds = [gold_of(row) for row in read]
    assert len(golds) == rows
    # As many golds differ from what the normalising of arXiv 2606.03280 makes of them.
    assert sum(squad_normalize(g.answer) != normalize(g.answer) for g in golds) == changed
    for gold in golds:
        for one in gold.names:
            assert squad_exact_match(f"The {one}.", gold)
            assert squad_f1(f"The {one}.", gold) == hotpotqa_f1(one, gold) == 1
        assert squad_exact_match(gold.answer, replace(gold, aliases=()))
    with_aliases = sum(bool(gold.aliases) for gold in golds)
    assert with_aliases == {"hotpotqa": 0, "musique": 89}[name]


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("hallway", "hallway", True),
        (" Hallway.\n6 John", "hallway", True),
        ("the hallway", "hallway", False),
        ("milk, football", "milk,football", True),
        ("football,milk", "milk,football", False),
        ("n,w", "n,w", True),
        ("", "hallway", False),
    ],
)
def test_babi_is_right_or_wrong(prediction: str, answer: str, right: bool) -> None:
    assert babi(prediction, Gold(answer)) is right
