"""Parts of a user's own under which a row depends on those beside it are refused before a run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from statebridge.channels.channel import CHANNELS
from statebridge.channels.text import TextChannel
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.row_check import _alike, check_row_independence
from statebridge.errors import ExperimentError
from statebridge.experiment.sources import SOURCES, Source, source
from statebridge.experiment.translator_settings import KINDS, translator_kind
from statebridge.models.pair import Pair
from statebridge.registry import Registry
from statebridge.translators import Translator
from tests.bridge.engine.reuse_runs import experiment_of, tiny_pair
from tests.bridge.engine.test_lane_key import ROWS
from tests.bridge.engine.tiny_experiment import random_translator

LAST = {"positions": "last", "source_positions": "last", "prompt": "question_only"}
CHANNEL = (Path(__file__).resolve().parents[3] / "docs" / "recipes" / "channel.md").read_text()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return tiny_pair()


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    """Forget what a test added."""
    registries: tuple[Registry[Any], ...] = (CHANNELS, SOURCES, KINDS)
    before = [set(registry.names()) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry.names()) - names:
            del registry._things[name]


def _check(
    pair: Pair, condition: dict[str, Any], translator: Translator | None = None, **fields: Any
) -> None:
    fields = {"decode": False, "conditions": ["no_inject", {"name": "mine"} | condition]} | fields
    experiment = experiment_of({42: Path("x.safetensors")}, **fields)
    made = translator or random_translator(16, 24, seed=1)
    check_row_independence(prepare(experiment, pair, ROWS, {42: made}))


def _of_recipe(changed: str, wrong: str) -> None:
    """Add the channel of the recipe, with a line of it changed."""
    (text,) = re.findall(r"```python\n(# mean_state\.py.*?)```", CHANNEL, re.DOTALL)
    assert changed in text
    exec(text.replace(changed, wrong), {"__name__": "mean_state"})


@pytest.mark.parametrize(
    ("changed", "wrong", "whose"),
    [
        ("[places].unsqueeze(-1)", "[: len(places)].unsqueeze(-1)", "shuffled"),
        ("places = [sent.place[row] for row in whose]", "places = range(len(whose))", "translated"),
        (" * mask).sum(1, keepdim=True)", ").sum(1, keepdim=True)", "translated"),
    ],
    ids=["mask of other rows", "places of other rows", "padding read"],
)
def test_a_channel_that_mixes_rows_is_refused(
    pair: Pair, changed: str, wrong: str, whose: str
) -> None:
    _of_recipe(changed, wrong)
    with pytest.raises(ExperimentError) as caught:
        _check(pair, {"channel": "mean_state", "source": whose, **LAST})
    assert "condition mine: with channel mean_state, row row" in str(caught.value)
    assert "sent.batch.select(places)" in str(caught.value)


def test_a_source_that_reads_its_neighbours_is_refused(pair: Pair) -> None:
    class Mean(Source):
        seeded = reads_sender = translates = True

        def states(self, request: Any) -> Any:
            found, prompts = request.translated_states(request.rows)
            return found - found.mean(0), prompts

    SOURCES.add("centred")(Mean)
    with pytest.raises(ExperimentError, match="with source centred, row row"):
        _check(pair, {"source": "centred", **LAST})


def test_a_map_that_reads_its_neighbours_is_refused(pair: Pair) -> None:
    class Centred(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return super().forward(states - states.mean(1, keepdim=True))

    @translator_kind("centred", source="a test")
    def centred(width_in: int, width_out: int, options: Any) -> torch.nn.Module:
        return Centred(width_in, width_out)

    made = Translator("centred", 16, 24).requires_grad_(False)
    with pytest.raises(ExperimentError, match="with translator kind centred, row row"):
        _check(pair, {"source": "translated", **LAST}, made)


class _Talks(TextChannel):
    """Gives each row the prompt of the first rows, as far as there are others."""

    def carry(self, operations: Any, cells: Any, rows: Sequence[int]) -> Any:
        first = list(range(len(rows)))
        turned = SimpleNamespace(
            workload=operations.workload,
            write_text=lambda cell, _, *more: operations.write_text(cell, rows, *more),
            answer=lambda cells, _, readings: operations.answer(cells, rows, readings),
        )
        return super().carry(turned, cells, first)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_a_channel_of_texts_is_checked_by_its_prompts(pair: Pair, wrong: bool) -> None:
    CHANNELS.add("talks")(_Talks if wrong else type("Right", (TextChannel,), {}))
    condition = {"channel": "talks", "source": "none", "prompt": "relay"}
    if not wrong:
        _check(pair, condition)
        return
    with pytest.raises(ExperimentError, match="with channel talks, row row"):
        _check(pair, condition)


def test_parts_that_keep_rows_apart_pass(pair: Pair) -> None:
    _of_recipe("", "")
    _check(pair, {"channel": "mean_state", "source": "shuffled", **LAST})

    @source("of_row")
    def of_row(row: Any, own: torch.Tensor, translated: torch.Tensor) -> torch.Tensor:
        return translated.mean(0) + own[-1] * len(row.context)

    for path in ("shared", "plain"):
        _check(pair, {"source": "of_row", **LAST}, execution={"path": path})


def test_rounding_is_no_dependence() -> None:
    state = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    assert _alike(state, state * (1 + 1e-5))
    assert not _alike(state, state * 1.01)
    assert not _alike(state, torch.full_like(state, torch.nan))
    half = state.to(torch.bfloat16)
    assert _alike(half, half * 1.01)
    assert not _alike(half, half[[1, 0, 2]])
    assert not _alike(half, half[:2])
