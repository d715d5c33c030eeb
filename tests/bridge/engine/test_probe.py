"""A model of an unknown family is probed: the shared path, the plain one, or one line."""

from __future__ import annotations

from typing import Any

import nnsight
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from statebridge.engine.probe import on_a_path_that_fits
from statebridge.errors import PairError
from statebridge.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair, run_engine
from tests.tiny_models import VOCAB, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Module .* has a submodule")

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCAB,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 2},  # blocks put out tuples, and attend by a bias
    "lfm2": {
        "num_key_value_heads": 2,
        "intermediate_size": 32,
        "layer_types": ["conv", "full_attention"],
    },
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "openai-gpt": {"n_embd": 16, "n_layer": 2, "n_head": 2},  # blocks put out lists
    "phi3": {
        "num_key_value_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 512,
        "original_max_position_embeddings": 24,
        "rope_scaling": {
            "rope_type": "longrope",
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
        },
    },
}


def _model(kind: str) -> TracedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SMALL | SHAPES[kind]))
    module = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = tiny_tokenizer()
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return TracedModel.wrap(model, tokenizer, 0, name=kind)


def _experiment(**fields: Any) -> Experiment:
    side = {"model": "m", "layer": 0}
    return Experiment.model_validate(
        {
            "name": "x",
            "sender": side,
            "receiver": side,
            "dataset": {"generate": {"rows": 2}},
            "conditions": ["no_inject"],
            **fields,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bloom", "lfm2"])
def test_a_model_that_does_not_fit_takes_the_plain_path(kind: str) -> None:
    model = _model(kind)
    pair = Pair(model, model)
    found, (caution,) = on_a_path_that_fits(_experiment(), pair)
    assert found.path == "plain"
    assert caution.startswith(f"{kind}: a model of type {kind} does not run on the shared path (")
    assert caution.endswith("The plain path is taken, which is slower.")
    with pytest.raises(PairError, match=r"which execution\.path shared needs; use .* plain$"):
        on_a_path_that_fits(_experiment(execution={"path": "shared"}), pair)
    with pytest.raises(PairError, match=r"which decoding\.sample needs"):
        on_a_path_that_fits(_experiment(decoding={"sample": {}}), pair)


def test_a_model_that_fits_keeps_the_shared_path() -> None:
    model = _model("opt")
    found, cautions = on_a_path_that_fits(_experiment(), Pair(model, model))
    assert (found.path, cautions) == ("shared", ())


def test_a_known_family_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statebridge.engine.probe.open_path", None)
    found, cautions = on_a_path_that_fits(_experiment(), engine_pair(neox_pair()))
    assert (found.path, cautions) == ("shared", ())


def test_blocks_that_put_out_lists_are_refused_in_one_line() -> None:
    with pytest.raises(PairError) as caught:
        _model("openai-gpt")
    assert "puts out list for one token; only models whose blocks put out" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- positions by the longest row

LONG = DatasetRow("long", "Mei went to the garden. " * 4, "Where is Mei?", "garden")
SHORT = [DatasetRow(name, "Ada.", "Who?", "Ada") for name in ("a", "b")]


def test_rows_whose_states_depend_on_other_rows_are_refused() -> None:
    model = _model("phi3")
    pair, conditions = Pair(model, model), ["no_inject"]
    decoding = {"max_new_tokens": 2}
    with pytest.raises(PairError, match=r"^phi3: encodes positions .* more than 24 tokens, and"):
        run_engine(pair, [*SHORT, LONG], {}, conditions=conditions, decoding=decoding)
    # On one side of that length they do not, and on the plain path they do not meet.
    run_engine(pair, [LONG], {}, conditions=conditions, decoding=decoding)
    run_engine(pair, SHORT, {}, conditions=conditions, decoding=decoding)
    plain = {"conditions": conditions, "decoding": decoding, "execution": {"path": "plain"}}
    together = run_engine(pair, [*SHORT, LONG], {}, **plain).rows
    for row in (SHORT[0], LONG):
        key = ("no_inject", row.row_id)
        alone = run_engine(pair, [row], {}, **plain).rows[key]
        assert alone.token_ids == together[key].token_ids
        # Float32 sums in another order.
        assert alone.gold_logprob == pytest.approx(together[key].gold_logprob, rel=1e-5)
    with pytest.raises(PairError, match=r"one side of that length for the sender"):
        run_engine(
            pair, [*SHORT, LONG], {}, **plain | {"conditions": [{"name": "r", "source": "sender"}]}
        )


def test_states_that_longer_rows_would_change_are_of_a_row_alone() -> None:
    model = _model("phi3")
    for weights in model.module.parameters():
        if weights.dim() > 1:
            weights.data *= 10  # so that attention, and with it positions, matters
    short, long = list(range(5, 25)), list(range(4, 34))
    together = model.capture(model.pack([short, long]))
    for row, prompt in enumerate((short, long)):
        alone = model.capture(model.pack([prompt]))[0]
        # Float32 sums of a batch and of one row.
        torch.testing.assert_close(together[row, -len(prompt) :], alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(PairError, match="a cache takes prompts of one length"):
        model.key_values(model.pack([short, long]))
    model.key_values(model.pack([short, short[:2]]))
