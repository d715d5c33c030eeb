"""Only its news shows which company is the right one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from statebridge.data import FieldMap, read_jsonl, row_identity, rows_sha256, write_jsonl
from statebridge.data.answers import attribute_names
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow
from statebridge.scoring.conventions import row_correct
from statebridge.tasks import tip_sheets_rows
from statebridge.tasks.tip_sheets import COMPANIES, FRAMES, GENERAL, HEADINGS, QUESTIONS, SECTORS
from tests.bridge.data.refusal import refused

FROZEN = "af7fb3d50807a8090d780904ed66617de9dcb3c3dd694efe1de6b6131e4e3372"
"""SHA-256 of the first 1,000 rows of seed 0; a change of it breaks every experiment that
declares them."""

FACTS = [*GENERAL, *(fact for sector in SECTORS for fact in sector.facts)]
CHANCE = 1 / 3


@pytest.fixture(scope="module")
def rows() -> list[DatasetRow]:
    return tip_sheets_rows(4500)


def parts(row: DatasetRow) -> list[tuple[str, str]]:
    """(company, what the note says of it), in the note's order."""
    names = attribute_names(row, "options")
    heading = next(h for h in HEADINGS if row.context.startswith(h))
    found: list[tuple[str, str]] = []
    for sentence in re.split(r"(?<=\.) ", row.context[len(heading) + 1 :]):
        named = [name for name in names if name in sentence]
        if named:
            found.append((named[0], sentence))
        else:  # "It also ...": of the company before
            found[-1] = (found[-1][0], f"{found[-1][1]} {sentence}")
    assert len(found) == 3
    return found


def accuracy(rows: Sequence[DatasetRow], guess: Callable[[DatasetRow], str]) -> float:
    return float(np.mean([guess(row) == row.answer for row in rows]))


def at_chance(rows: Sequence[DatasetRow], share: float) -> bool:
    """Within four standard errors: one false alarm in 16,000, and the seed is fixed."""
    return abs(share - CHANCE) < 4 * (CHANCE * (1 - CHANCE) / len(rows)) ** 0.5


def test_the_frozen_hash(rows: list[DatasetRow], tmp_path: Path) -> None:
    assert rows_sha256(rows[:1000]) == FROZEN
    assert write_jsonl(rows[:1000], tmp_path / "rows.jsonl") == FROZEN
    assert read_jsonl(tmp_path / "rows.jsonl", FieldMap(id="id")) == rows[:1000]


def test_one_company_has_good_news_only_and_the_others_none(rows: list[DatasetRow]) -> None:
    tones = {getattr(fact, tone): tone for fact in FACTS for tone in ("good", "bad", "neutral")}
    assert len(tones) == 3 * len(FACTS)
    kinds = set()
    for row in rows[:500]:
        for company, text in parts(row):
            news = sorted(tone for phrase, tone in tones.items() if phrase in text)
            assert len(news) == 2
            if company == row.answer:
                assert news == ["good", "good"]
            else:
                assert "good" not in news
                kinds.add(tuple(news))
    assert kinds == {("bad", "bad"), ("bad", "neutral"), ("neutral", "neutral")}


def test_rows_are_whole_and_distinct(rows: list[DatasetRow]) -> None:
    assert len({row_identity(row) for row in rows}) == len(rows)
    for index, row in enumerate(rows):
        options = attribute_names(row, "options")
        assert row.row_id == f"tip_sheets_{index:06d}"
        assert len(set(options)) == 3
        assert set(options) <= set(COMPANIES)
        assert options[int(str(row.attributes["question_place"])) - 1] == row.answer
        places = [row.question.index(name) for name in options]
        assert places == sorted(places)
        assert parts(row)[int(str(row.attributes["note_place"])) - 1][0] == row.answer


def test_phrases_of_a_fact_have_similar_lengths() -> None:
    for fact in FACTS:
        assert len({len(text.split()) for text in (fact.good, fact.bad, fact.neutral)}) == 1
    for group in (GENERAL, [fact for sector in SECTORS for fact in sector.facts]):
        good = np.mean([len(fact.good) for fact in group])
        other = np.mean([(len(fact.bad) + len(fact.neutral)) / 2 for fact in group])
        assert abs(good - other) < 1 / 3


def test_every_company_is_mentioned_once(rows: list[DatasetRow]) -> None:
    for row in rows:
        for name in attribute_names(row, "options"):
            assert row.context.count(name) == row.question.count(name) == 1


def test_places_are_balanced_and_independent(rows: list[DatasetRow]) -> None:
    pairs = Counter(
        (row.attributes["note_place"], row.attributes["question_place"]) for row in rows
    )
    assert set(pairs.values()) == {len(rows) // 9}
    # Nor does the note's order of the other two depend on the question's.
    same = Counter()
    for row in rows:
        noted = [company for company, _ in parts(row) if company != row.answer]
        asked = [name for name in attribute_names(row, "options") if name != row.answer]
        same[noted == asked] += 1
    assert chisquare(list(same.values())).pvalue > 1e-4


def test_a_hundred_rows_are_balanced_too(rows: list[DatasetRow]) -> None:
    for place in ("note_place", "question_place"):
        counts = Counter(row.attributes[place] for row in rows[:100])
        assert max(counts.values()) - min(counts.values()) <= 3


def test_no_place_in_note_or_question_is_right_more_often(rows: list[DatasetRow]) -> None:
    for place in range(3):
        assert accuracy(rows, lambda row, p=place: attribute_names(row, "options")[p]) == CHANCE
        assert accuracy(rows, lambda row, p=place: parts(row)[p][0]) == CHANCE


@pytest.mark.parametrize(
    "measure", [len, lambda text: len(text.split())], ids=["characters", "words"]
)
@pytest.mark.parametrize("rank", [0, 1, 2], ids=["shortest", "middle", "longest"])
def test_length_does_not_tell(
    rows: list[DatasetRow], measure: Callable[[str], int], rank: int
) -> None:
    def by_length(row: DatasetRow) -> str:
        return sorted(parts(row), key=lambda part: measure(part[1]))[rank][0]

    assert at_chance(rows, accuracy(rows, by_length))


def test_a_classifier_fitted_on_lengths_is_at_chance(rows: list[DatasetRow]) -> None:
    """Share of right ones per length, learnt on one half, chooses on the other half."""
    half = len(rows) // 2
    seen: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for row in rows[:half]:
        for company, text in parts(row):
            seen[len(text)] += 1
            right[len(text)] += company == row.answer

    def learnt(row: DatasetRow) -> str:
        return max(
            parts(row), key=lambda part: (right[len(part[1])] + 1) / (seen[len(part[1])] + 3)
        )[0]

    assert at_chance(rows[half:], accuracy(rows[half:], learnt))
    assert accuracy(rows[:half], learnt) > CHANCE  # it does learn: of its own half, the noise


def test_the_name_does_not_tell(rows: list[DatasetRow]) -> None:
    right = Counter(row.answer for row in rows)
    assert set(right) == set(COMPANIES)
    assert max(right.values()) - min(right.values()) <= 1
    named = Counter(name for row in rows for name in attribute_names(row, "options"))
    expected = len(rows) * 3 / len(COMPANIES)
    assert chisquare([named[name] for name in COMPANIES], [expected] * len(COMPANIES)).pvalue > 1e-4


def test_sector_frame_and_question_do_not_tell(rows: list[DatasetRow]) -> None:
    sectors = Counter(row.attributes["sector"] for row in rows)
    assert len(sectors) == len(SECTORS)
    assert chisquare(list(sectors.values())).pvalue > 1e-4
    for row in rows[:300]:
        # One frame a note: all its parts are worded alike.
        starts = {"It also" in text for _, text in parts(row)}
        assert len(starts) == 1
    assert not any(sector.name in question for sector in SECTORS for question in QUESTIONS)
    assert all(frame.count("{company}") == 1 for frame in FRAMES)


def test_no_company_stands_in_the_wording() -> None:
    words = " ".join((*HEADINGS, *QUESTIONS, *FRAMES, *(fact.good for fact in FACTS))).lower()
    assert not [name for name in COMPANIES if name.lower() in words]


def test_scoring_takes_the_first_company_named(rows: list[DatasetRow]) -> None:
    # Repeating the question is no knowledge: it is right one time in three.
    assert np.mean([row_correct(row.question, row) for row in rows]) == CHANCE
    assert all(row_correct(f" {row.answer}, since it does well.", row) for row in rows[:100])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(-(2**63), 2**63))
def test_a_row_does_not_depend_on_how_many_are_asked_for(few: int, more: int, seed: int) -> None:
    assert tip_sheets_rows(few + more, seed)[:few] == tip_sheets_rows(few, seed)


def test_seeds_differ() -> None:
    one, two = ({row_identity(row) for row in tip_sheets_rows(200, seed)} for seed in (1, 2))
    assert not one & two


@pytest.mark.parametrize("rows", [0, 1_000_001])
def test_rows_out_of_range(rows: int) -> None:
    with refused(DatasetError, f"rows is {rows}", "1 to 1000000"):
        tip_sheets_rows(rows)
