"""Hashes of training texts, and what of an evaluated row is among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from statebridge.data import generate_multihop
from statebridge.data.training_texts import (
    Names,
    TrainingTexts,
    answer_names,
    normal_text,
    repeats,
    row_overlaps,
    sentences,
)
from statebridge.records import DatasetRow


def row(context: str, question: str, answer: str, **attributes: str) -> DatasetRow:
    return DatasetRow(question + context, context, question, answer, attributes)


TRAINED = [
    row("Ann lives in Oslo. Bo lives in Rome.", "Where does Ann live?", "Oslo"),
    row("Cy sold 3 boats to Dee.", "How many boats did Cy sell?", "3"),
]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (" The  Oslo. ", "the oslo"),
        ("3.14", "3.14"),
        ("ﬁne", "fine"),
        ("İzmir", "i̇zmir"),
        ("STRASSE", "strasse"),
        ("...", "..."),
        ("Ann's", "ann's"),
    ],
)
def test_texts_have_one_form(text: str, form: str) -> None:
    assert normal_text(text) == form


def test_aliases_are_answers_too() -> None:
    names = answer_names(row("", "?", "The U.S.A.", aliases="America | USA"))
    assert names == {"the u.s.a", "america", "usa"}


def test_headings_are_no_sentences() -> None:
    assert sentences("Facts. Ann lives in Oslo! “Bo does not.” End\nThe next line is one") == [
        "ann lives in oslo",
        "bo does not",
        "the next line is one",
    ]


def test_names_have_their_capital_within_a_sentence() -> None:
    rows = [row("Then Ann left. Where is Bo? I know.", "Does Ann know?", "Cy")]
    assert Names(rows).of(rows[0].context, "Cy and Eve") == {"Ann", "Bo", "Cy"}


def test_a_template_masks_names_and_numbers() -> None:
    rows = [row("Of Ann, New York and Bo.", "Is Ann in New York at 7 or 7.30?", "no")]
    names = Names(rows)
    assert names.template(rows[0].question) == "is 0 in 0 at 0 or 0"
    assert names.template("Is Bo in York at 8 or 9?") == "is 0 in 0 at 0 or 0"


def test_rows_are_told_apart_by_answer_names_and_template() -> None:
    evaluated = [
        row("Bo lives in Oslo.", "Where does Bo live?", "Oslo"),
        row("We met Eve in Rome.", "Where does Eve live?", "Rome"),
        row("We met Fay, then Gus.", "Who came after Fay?", "Gus"),
        row("nothing", "what is it?", "it"),
    ]
    found = row_overlaps(evaluated, TrainingTexts.of(TRAINED))
    assert [one.answer for one in found] == [True, False, False, False]
    assert [one.names for one in found] == ["all", "some", "none", None]
    assert [one.template for one in found] == [True, True, False, False]
    assert not any(one.question for one in found)
    (again,) = row_overlaps([TRAINED[0]], TrainingTexts.of(TRAINED))
    assert (again.question, again.sentence) == (True, True)


def test_running_text_has_seen_names_and_no_questions() -> None:
    texts = TrainingTexts.of(passages=["Oslo is a city. Ann lives there."])
    evaluated = [*TRAINED, row("Bo is in Rome.", "Where is Bo?", "Rome")]
    found = row_overlaps(evaluated, texts)
    assert [one.answer for one in found] == [True, None, False]
    assert [one.template for one in found] == [None, None, None]
    assert [one.names for one in found] == ["some", "none", "none"]


@given(st.lists(st.text(max_size=30), max_size=5), st.lists(st.text(max_size=30), max_size=5))
def test_joined_texts_are_those_of_both(some: list[str], others: list[str]) -> None:
    one, other = TrainingTexts.of(passages=some), TrainingTexts.of(passages=others)
    both = one.joined(other)
    assert both == TrainingTexts.of(passages=[*some, *others])
    assert TrainingTexts.model_validate_json(both.model_dump_json()) == both


def test_hashes_that_were_cut_are_refused() -> None:
    packed = TrainingTexts.of(TRAINED).answers
    with pytest.raises(ValidationError, match="hashes in base64"):
        TrainingTexts(answers=packed[:-1])


def test_repeats_within_the_evaluated_rows_are_counted() -> None:
    found = repeats([*TRAINED, TRAINED[0], row("Ann lives in Oslo.", "Who?", "Ann")])
    assert (found.question, found.sentence, found.answer) == (2, 3, 2)


def test_the_taught_pairs_answers_are_seen_as_a_referee_counted() -> None:
    world = {"hops": [2], "distractors": 4, "domains": ["geography", "work"], "wording": "plain"}
    evaluated = generate_multihop(200, seed=0, **world)  # type: ignore[arg-type]
    found = row_overlaps(evaluated, TrainingTexts.of(generate_multihop(1500, seed=6, **world)))  # type: ignore[arg-type]
    assert sum(one.answer is True for one in found) == 199
    assert sum(one.question is True for one in found) == 193
