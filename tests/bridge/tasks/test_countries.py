from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.data import FieldMap, read_jsonl, row_identity, rows_sha256, write_jsonl
from statebridge.data.answers import attribute_names
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow
from statebridge.scoring.conventions import row_correct
from statebridge.tasks import COUNTRIES, countries_rows
from statebridge.tasks.countries import MAX_ROWS, PEOPLE, QUESTION, TEMPLATES
from tests.bridge.data.refusal import refused

FROZEN = "f744b26a1971c52fbdc1bed4372bbb64d4e5e093152123ba94770655d7e2a7a3"
"""SHA-256 of the first 1,000 rows of seed 0; a change of it breaks every experiment that
declares them."""

LANDMARKS = [landmark for country in COUNTRIES for landmark in country.landmarks]


@pytest.fixture(scope="module")
def thousand() -> list[DatasetRow]:
    return countries_rows(1000)


def test_the_frozen_hash(thousand: list[DatasetRow], tmp_path: Path) -> None:
    assert rows_sha256(thousand) == FROZEN
    assert write_jsonl(thousand, tmp_path / "rows.jsonl") == FROZEN
    assert read_jsonl(tmp_path / "rows.jsonl", FieldMap(id="id")) == thousand


def test_enough_countries_equally_many_landmarks() -> None:
    assert len(COUNTRIES) >= 60
    assert len(LANDMARKS) >= 200
    assert len(set(LANDMARKS)) == len(LANDMARKS)
    assert {len(country.landmarks) for country in COUNTRIES} == {3}
    names = [name for country in COUNTRIES for name in (country.name, *country.aliases)]
    assert len({name.lower() for name in names}) == len(names)


def test_no_landmark_names_a_country() -> None:
    names = [name for country in COUNTRIES for name in (country.name, *country.aliases)]
    for country in COUNTRIES:
        for landmark in country.landmarks:
            for name in names:
                assert not re.search(rf"\b{re.escape(name)}\b", landmark, re.I), (landmark, name)
            # Nor its people or language, such as Egyptian: a word with the same beginning.
            for word in re.findall(r"\w{5,}", country.name):
                stem = word[: max(5, len(word) - 2)]
                assert not re.search(rf"\b{stem}", landmark, re.I), landmark


def test_no_country_name_stands_in_another_one() -> None:
    """Word-boundary containment would take the longer one for the shorter one."""
    for country in COUNTRIES:
        others = [c for c in COUNTRIES if c is not country]
        other_names = [name for c in others for name in (c.name, *c.aliases)]
        for name in (country.name, *country.aliases):
            assert not [o for o in other_names if re.search(rf"\b{re.escape(name)}\b", o, re.I)]


def test_no_person_stands_in_a_landmark_or_template() -> None:
    for text in (*LANDMARKS, *TEMPLATES.values(), QUESTION):
        assert not set(re.findall(r"\w+", text)) & set(PEOPLE), text


def test_rows_are_what_the_paper_describes(thousand: list[DatasetRow]) -> None:
    homes = {landmark: country for country in COUNTRIES for landmark in country.landmarks}
    for index, row in enumerate(thousand):
        assert row.row_id == f"countries_{index:06d}"
        template = TEMPLATES[str(row.attributes["template"])]
        landmark = str(row.attributes["landmark"])
        person = row.question.removeprefix("Which country is ").removesuffix(" located in?")
        assert person in PEOPLE
        assert row.context == template.format(person=person, landmark=landmark)
        assert row.answer == homes[landmark].name
        assert attribute_names(row, "aliases") == homes[landmark].aliases
        assert row.answer not in row.context
        assert not row_correct(row.context, row)
        for name in (row.answer, *homes[landmark].aliases):
            assert row_correct(f"{person} is in {name}.\nQ: Which", row)


def test_rows_are_distinct_and_even(thousand: list[DatasetRow]) -> None:
    assert len({row_identity(row) for row in thousand}) == 1000
    assert len({(row.attributes["landmark"], row.question) for row in thousand}) == 1000
    hundred = thousand[:100]
    assert max(Counter(row.answer for row in hundred).values()) == 1
    assert len({row.attributes["landmark"] for row in thousand[: len(LANDMARKS)]}) == len(LANDMARKS)
    for counts, slack in (
        (Counter(row.answer for row in thousand), 1),
        (Counter(row.attributes["landmark"] for row in thousand), 1),
        (Counter(row.attributes["template"] for row in thousand), 1),
        # A person who was at a landmark before waits for the next one.
        (Counter(row.question for row in thousand), 2),
    ):
        assert max(counts.values()) - min(counts.values()) <= slack
    assert len({row.question for row in thousand}) == len(PEOPLE)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(-(2**63), 2**63))
def test_a_row_does_not_depend_on_how_many_are_asked_for(few: int, more: int, seed: int) -> None:
    assert countries_rows(few + more, seed)[:few] == countries_rows(few, seed)


def test_seeds_differ() -> None:
    one, two = ({row_identity(row) for row in countries_rows(200, seed)} for seed in (1, 2))
    assert len(one & two) < 20


def test_every_person_can_be_at_every_landmark() -> None:
    rows = countries_rows(MAX_ROWS)
    assert len({(row.attributes["landmark"], row.question) for row in rows}) == MAX_ROWS


@pytest.mark.parametrize("rows", [0, -1, MAX_ROWS + 1])
def test_rows_out_of_range(rows: int) -> None:
    with refused(DatasetError, f"rows is {rows}", f"1 to {MAX_ROWS}"):
        countries_rows(rows)
