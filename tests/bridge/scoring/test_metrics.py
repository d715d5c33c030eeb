from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.scoring import METRICS, normalize


def held(prediction: str, gold: str) -> set[str]:
    return {name for name, metric in METRICS.items() if metric(prediction, gold)}


EXACT, NORMALIZED = "exact_match", "normalized_exact_match"
WORD, LEGACY, SPAN = "word_boundary_contains", "legacy_contains", "first_answer_span"


def test_names() -> None:
    assert list(METRICS) == [EXACT, NORMALIZED, WORD, LEGACY, SPAN]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The  Answer:\tIS\n42! ", "the answer is 42"),
        ("U.S.A.", "usa"),
        ("- x -", "x"),
        ("snake_case", "snakecase"),
        ("“Curly” it’s", "“curly” it’s"),
        ("ÉCOLE\u00a0Straße", "école straße"),
        ("?!", ""),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("Paris", " paris ", {EXACT, NORMALIZED, WORD, LEGACY, SPAN}),
        ("Paris.", "Paris", {NORMALIZED, WORD, LEGACY, SPAN}),
        ("Paris!", "Paris?", {NORMALIZED, WORD, SPAN}),
        ("Parisian", "Paris", {LEGACY}),
        ("In Paris, I think", "Paris", {WORD, LEGACY}),
        ("444", "44", {LEGACY}),
        ("about 44 countries", "44", {WORD, LEGACY}),
        ("4 4", "44", set()),
        ("4.4", "44", {NORMALIZED, WORD}),
        ("NEW   YORK city", "new york", {WORD}),
        ("the U.S. army", "US", {WORD}),
        ("the US army", "U.S.", {WORD}),
        ("anything", "?!", set()),
        ("", "Paris", set()),
        ("", "?", {NORMALIZED, SPAN}),
        # a letter of any script is a word character, a combining accent is none
        ("Кошка", "кош", {LEGACY}),
        ("cafe\u0301", "cafe", {WORD, LEGACY}),
        ("café", "caf", {LEGACY}),
        ("東京都", "東京", {LEGACY}),
        # the gold is a text, not a pattern
        ("axb", "a.b", set()),
        ("a€b", "€", {LEGACY}),
        ("costs €", "€", {WORD, LEGACY}),
    ],
)
def test_which_metrics_hold(prediction: str, gold: str, expected: set[str]) -> None:
    assert held(prediction, gold) == expected


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("New York", True),
        ("\n New York\nQ: and then?", True),
        ("New York\rand", True),
        ("New York. It is large.", True),
        ("New York! Or not", True),
        ("new-york? no", False),  # the hyphen goes, and with it the gap
        ("The answer is New York.", True),
        ("ANSWER IS: New York", True),
        ("Answer: New York", True),
        ("A: New York", True),
        ("It is New York", True),
        ("it's New York", True),
        ("It’s New York", False),
        ("The answer is: it is New York", False),  # one opening is removed, no more
        ("So it is New York", False),
        ("New York City", False),
        ("St. New York", False),
        ("First\nNew York", False),
        ("", False),
    ],
)
def test_first_answer_span(prediction: str, right: bool) -> None:
    assert METRICS[SPAN](prediction, "New  York!") is right


texts = st.text(
    st.sampled_from("aAbB ıİß" + string.punctuation + "\t\n\r\u00a0\u0301_0é東") | st.characters(),
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(texts)
def test_normalize_is_settled_once_applied(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert not set(once) & set(string.punctuation)
    assert once == once.strip()


@settings(deadline=None, max_examples=50)
@given(texts, texts)
def test_how_the_metrics_imply_each_other(prediction: str, gold: str) -> None:
    metrics = held(prediction, gold)
    if EXACT in metrics:
        assert NORMALIZED in metrics
        assert LEGACY in metrics
    if NORMALIZED in metrics and normalize(gold):
        assert WORD in metrics
    if not normalize(gold):
        assert WORD not in metrics


@settings(deadline=None, max_examples=50)
@given(texts, texts, texts)
def test_containment_survives_words_around(before: str, gold: str, after: str) -> None:
    assert METRICS[LEGACY](f"{before} {gold.strip()} {after}", gold)
    # Unless the text starts or ends inside white space, a gap keeps the words apart.
    if normalize(gold):
        assert METRICS[WORD](f"{before} {gold} {after}", gold)
        assert not METRICS[WORD](f"x{normalize(gold)}x", gold)


@settings(deadline=None, max_examples=50)
@given(texts, texts)
def test_none_fails_on_any_text(prediction: str, gold: str) -> None:
    for metric in METRICS.values():
        assert isinstance(metric(prediction, gold), bool)
