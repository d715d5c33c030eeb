"""An experiment that is refused: the message's form, its place and its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from statebridge.errors import ExperimentError
from statebridge.experiment import Experiment, parse_experiment

BASE = """\
name: mine
sender: {model: ./sender, layer: 0.67}
receiver: {model: ./receiver, layer: 1}
dataset: {path: rows.jsonl}
"""
PLAIN = BASE + "conditions: [no_inject]\n"


def parsed(text: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    return parse_experiment(text, where="mine.yaml", overrides=overrides)


def refusal(text: str, overrides: Mapping[str, Any] | None = None) -> str:
    """Return the message without the file's name, after checking its form."""
    with pytest.raises(ExperimentError) as caught:
        parsed(text, overrides)
    message = str(caught.value)
    assert message.isprintable(), "more than one line, or a terminal's control characters"
    assert len(message) < 400, "a message that nobody reads to the end"
    assert message.startswith("mine.yaml")
    return message.removeprefix("mine.yaml")
