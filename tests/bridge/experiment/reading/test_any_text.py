"""Any text in a file gives an experiment, or one line that states why not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.errors import ExperimentError
from statebridge.experiment import Experiment, parse_experiment
from tests.bridge.experiment.refusal import BASE

WHOLE = (
    BASE
    + """\
translators:
  fit:
    kind: ridge
    corpus: {generate: {rows: 9, hops: [2, 3]}}
conditions:
- no_inject
- {name: half, source: receiver, weight: 0.5, positions: [0, -1], source_positions: [1, 0]}
seeds: [42, 7]
prompts: {task: "{question}"}
decoding: {max_new_tokens: 3}
"""
)
WORDS = st.sampled_from(
    [
        *Experiment.model_fields,
        "fit",
        "corpus",
        "layer",
        "model",
        "path",
        "str",
        "a[0]",
        "no_inject",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def _parse(text: str) -> None:
    refusal: str | None = None
    try:
        parse_experiment(text, where="mine.yaml")
    except ExperimentError as error:
        refusal = str(error)
    assert refusal is None or refusal.isprintable()


@settings(max_examples=100)
@given(value=values)
def test_any_yaml(value: Any) -> None:
    _parse(yaml.safe_dump(value, allow_unicode=True))


@pytest.mark.slow
@settings(max_examples=100)
@given(field=WORDS, value=values)
def test_any_value_of_any_field(field: str, value: Any) -> None:
    declared = yaml.safe_load(WHOLE)
    declared[field] = value
    _parse(yaml.safe_dump(declared, allow_unicode=True))


@settings(max_examples=100)
@given(data=st.data())
def test_any_change_of_a_few_characters(data: st.DataObject) -> None:
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + data.draw(st.text(max_size=4)) + text[end:]
    _parse(text)
