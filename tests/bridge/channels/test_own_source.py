"""A source of a user's own, as a function of one row: what it reads, gives, and is refused for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from statebridge.errors import ExperimentError, InputError, PairError
from statebridge.experiment.sources import SOURCES, Source, source
from statebridge.experiment.translator_settings import KINDS, translator_kind
from statebridge.models.pair import Pair
from statebridge.plugins import parts_added
from tests.bridge.engine.reuse_runs import tiny_pair
from tests.bridge.engine.test_lane_key import ROWS, Setting
from tests.bridge.engine.tiny_experiment import random_translator, run_engine

LAST = {"positions": "last", "source_positions": "last", "prompt": "question_only"}
QUESTION = {"positions": "question", "source_positions": "question", "prompt": "question_only"}


@pytest.fixture(scope="module")
def pair() -> Pair:
    return tiny_pair()


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    before = set(SOURCES.names())
    yield
    for name in set(SOURCES.names()) - before:
        del SOURCES._things[name]


def _scores(pair: Pair, **conditions: dict[str, Any]) -> dict[str, list[float | None]]:
    declared = [{"name": name} | fields for name, fields in conditions.items()]
    made = {42: random_translator(16, 24, seed=1)}
    run = run_engine(pair, ROWS, made, conditions=declared, decode=False)
    found: dict[str, list[float | None]] = {}
    for (cell, _), lane in run.rows.items():
        found.setdefault(cell.partition("/")[0], []).append(lane.gold_logprob)
    return found


def test_a_function_gives_what_a_source_of_ours_gives(pair: Pair) -> None:
    @source("mine", role="channel")
    def mine(translated: Any) -> Any:
        return translated

    @source("mine_of_another", shuffled=True)
    def of_another(translated: Any) -> Any:
        return translated

    @source("my_own")
    def my_own(own: Any) -> Any:
        return own

    @source("my_noise")
    def my_noise(noise: Any, width: int) -> Any:
        assert noise.shape[1] == width == 24
        return noise

    asked: dict[str, Any] = {
        "mine": ("translated", QUESTION),
        "mine_of_another": ("shuffled", LAST),
        "my_own": ("receiver", {}),
        "my_noise": ("random", {}),
    }
    conditions = {name: {"source": name} | where for name, (_, where) in asked.items()}
    ours = {f"{name}_ours": {"source": same} | where for name, (same, where) in asked.items()}
    found = _scores(pair, **conditions, **ours)
    for name in asked:
        assert found[name] == found[f"{name}_ours"], name
    assert len({tuple(found[name]) for name in asked}) == len(asked)


def test_a_function_may_pool_and_read_the_row(pair: Pair) -> None:
    seen: list[tuple[str, int]] = []

    @source("pooled")
    def pooled(row: Any, sender: Any, width: int) -> Any:
        seen.append((row.row_id, len(sender)))
        return sender.mean(0).tolist() + [0.0] * (width - sender.shape[1])

    @source("vector")
    def vector(width: int) -> Any:
        return np.linspace(-1, 1, width)

    where = QUESTION | {"align": "last_dimensions"}
    found = _scores(
        pair,
        pooled={"source": "pooled", **where},
        vector={"source": "vector"},
        none={"source": "none"},
    )
    assert len({tuple(scores) for scores in found.values()}) == 3
    # All of the sender's prompt, however short the receiver's is, and no padding.
    assert len({length for _, length in seen}) == 2
    assert {row_id for row_id, _ in seen} == {row.row_id for row in ROWS}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda own: own[:, :3],
            r"gave shape \(\d+, 3\) for row row0; return a vector of 24 numbers",
        ),
        (
            lambda own: own[:2],
            r"gave shape \(2, 24\) for row row0; .* one for each of \d+ positions",
        ),
        (lambda row: row.context, "gave str, which is no array of numbers"),
        (lambda row: None, "gave NoneType, which is no array of numbers"),
    ],
    ids=["narrow", "few positions", "text", "nothing"],
)
def test_what_is_no_state_is_refused(pair: Pair, function: Callable[..., Any], words: str) -> None:
    source("mine")(function)
    with pytest.raises(ExperimentError, match=words):
        _scores(pair, mine={"source": "mine"})


def test_a_function_with_another_argument_is_refused() -> None:
    with pytest.raises(ExperimentError, match="takes transalted; did you mean translated"):
        source("mine")(lambda transalted: transalted)
    with pytest.raises(ExperimentError, match="takes rows; did you mean row"):
        source("mine")(lambda *rows: rows)
    assert "mine" not in SOURCES
    source("mine")(lambda own, scale=2.0: own * scale)
    assert SOURCES.get("mine").role == "control"


def test_a_fact_that_another_one_needs_is_asked_for() -> None:
    with pytest.raises(ExperimentError, match="declares translates and not reads_sender; set"):
        type("Half", (Source,), {"translates": True, "seeded": True})
    with pytest.raises(ExperimentError, match="declares shuffled and not seeded; set"):
        type("Half", (Source,), {"shuffled": True})


class _Forgets(Source):
    """Translates, and says only that it reads the sender."""

    reads_sender = True

    def states(self, request: Any) -> Any:
        return request.translated_states(request.rows)


class _Draws(Source):
    """Draws, and does not say so."""

    def states(self, request: Any) -> Any:
        return request.noise(), request.batch


def test_a_source_that_forgets_translates_is_named(pair: Pair) -> None:
    SOURCES.add("forgets")(_Forgets)
    SOURCES.add("draws")(_Draws)
    mine = {"source": "forgets", **LAST}
    with pytest.raises(PairError, match="or declare translates in source forgets if it trans"):
        _scores(pair, mine=mine)
    with pytest.raises(ExperimentError, match="translated states and does not declare translates"):
        _scores(pair, mine=mine | {"align": "last_dimensions"})
    with pytest.raises(ExperimentError, match="random draws and does not declare draws_noise"):
        _scores(pair, mine={"source": "draws"})


def test_a_part_that_was_defined_at_a_prompt_is_refused() -> None:
    exec('@source("typed")\ndef typed(own): return own', {"source": source, "__name__": "<prompt>"})
    with pytest.raises(InputError, match="source typed: its code cannot be read"):
        parts_added(["typed"])


def test_code_of_a_notebook_is_recorded_by_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statebridge.plugins._file_of", lambda _: None)

    @source("noted")
    def noted(own: Any) -> Any:
        return own

    @translator_kind("noted_kind", source="a test")
    def kind(width_in: int, width_out: int, options: Any) -> Any:
        return None

    found = parts_added(["noted", "noted_kind"])
    del KINDS._things["noted_kind"]
    assert set(found) == {"source noted", "translator kind noted_kind"}
    assert len(set(found.values())) == 2


def test_a_lane_is_another_one_with_another_field_of_its_row(pair: Pair) -> None:
    @source("of_row")
    def of_row(row: Any, width: int) -> Any:
        return [float(len(row.context))] * width

    fields = {"conditions": [{"name": "mine", "source": "of_row", "prompt": "question_only"}]}
    before = Setting(pair, fields=fields).keys()
    rows = (replace(ROWS[0], context="Bob is in Rome now."), *ROWS[1:])
    assert Setting(pair, rows=rows, fields=fields).keys() != before
