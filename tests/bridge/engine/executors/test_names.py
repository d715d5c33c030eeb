"""Names that nothing has, and prompts that a channel cannot carry, before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.channels.channel import CHANNELS
from statebridge.engine.doctor.readiness import check_readiness
from statebridge.engine.layer_search.search import run_layer_search
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import ExperimentError
from statebridge.experiment import Experiment, parse_experiment
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.tiny_models import mixed_rows

SENT = {"name": "sent", "source": "sender"}
ROWS = dataset_rows(mixed_rows(2, seed=5))


def _declared(**fields: Any) -> Experiment:
    """Return an experiment whose models do not exist."""
    whole = {
        "name": "tiny",
        "sender": {"model": "no/sender", "layer": 1},
        "receiver": {"model": "no/receiver", "layer": 1},
        "dataset": {"generate": {"rows": 2}},
        "conditions": ["no_inject", SENT],
        **fields,
    }
    return parse_experiment(json.dumps(whole))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"execution": {"executor": "in_proces"}},
            "execution.executor: unknown executor 'in_proces'; did you mean in_process?",
        ),
        (
            {"conditions": ["no_inject", SENT | {"channel": "state"}]},
            "conditions: sent: channel: unknown channel 'state'; did you mean states or "
            "soft_tokens?",
        ),
    ],
)
def test_an_unknown_name_is_refused_before_a_model_is_loaded(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExperimentError) as caught:
        run_experiment(_declared(**fields), out)
    assert str(caught.value) == message
    searched = _declared(**fields, layer_search={"sender_layers": [0, 1], "receiver_layers": [0]})
    with pytest.raises(ExperimentError) as caught:
        run_layer_search(searched, out)
    assert str(caught.value) == message
    assert not out.exists()
    first = next(check_readiness(_declared(**fields)))
    assert (first.what, first.ready, first.detail) == ("names", False, message)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {"source": "none", "prompt": "relay", "channel": "states"},
            "relay goes with",
        ),
        ({"source": "zero", "channel": "text"}, "channel text takes prompt relay or debate"),
    ],
)
def test_a_prompt_that_the_channel_cannot_carry_is_refused(
    condition: dict[str, Any], words: str
) -> None:
    with pytest.raises(ExperimentError, match=words):
        run_engine(engine_pair(neox_pair()), ROWS, {}, conditions=[{"name": "mine", **condition}])


def test_a_channel_checks_its_own_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    class Mine:
        def check(self, _: Any, cells: Any) -> None:
            checked.extend(cell.name for cell in cells)

    monkeypatch.setitem(CHANNELS._things, "mine", Mine)
    # Positions that the channel of states would refuse.
    mine = {"name": "own", "source": "translated", "prompt": "question_only", "channel": "mine"}
    pair = neox_pair()
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    files = {"translators": {42: "t.safetensors"}, "seeds": [42]}
    experiment = _declared(conditions=["no_inject", mine], **files)
    prepare(experiment, engine_pair(pair), ROWS, {42: random_translator(*widths, seed=42)})
    assert checked == ["own/seed42"]
