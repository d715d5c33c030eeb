from __future__ import annotations

from typing import Any

import pytest
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, MistralConfig, Qwen3Config

from statebridge.cost import LLAMA_3_1_8B, LLAMA_3_2_3B, ModelShape
from statebridge.errors import PairError
from statebridge.models.families import shape_from_config
from tests.bridge.data.refusal import refused

PYTHIA_160M: dict[str, Any] = {
    "model_type": "gpt_neox",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "tie_word_embeddings": False,
    "vocab_size": 50304,
}
LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "vocab_size": 50257,
}


def test_files_as_they_are_published() -> None:
    assert shape_from_config(PYTHIA_160M) == ModelShape(
        12, 768, 12, 12, 64, 3072, gated=False, vocabulary=50304, tied=False
    )
    assert shape_from_config(LLAMA_8B) == LLAMA_3_1_8B
    assert shape_from_config(GPT2) == ModelShape(
        12, 768, 12, 12, 64, 3072, gated=False, vocabulary=50257, tied=True
    )
    llama_3b = LLAMA_8B | {
        "hidden_size": 3072,
        "head_dim": 128,
        "intermediate_size": 8192,
        "num_attention_heads": 24,
        "num_hidden_layers": 28,
        "tie_word_embeddings": True,
    }
    assert shape_from_config(llama_3b) == LLAMA_3_2_3B


def test_absent_fields_are_the_configuration_classs_defaults() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 50}
    for config_class, kind in (
        (LlamaConfig, "llama"),
        (GPTNeoXConfig, "gpt_neox"),
        (Qwen3Config, "qwen3"),
    ):
        given: dict[str, Any] = {**sizes, "num_attention_heads": 4}
        if kind == "qwen3":
            given["num_key_value_heads"] = 2
        short = shape_from_config({"model_type": kind, **given})
        assert short == shape_from_config(config_class(**given).to_dict())
    short = shape_from_config(
        {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2} | {"vocab_size": 50}
    )
    assert short == shape_from_config(
        GPT2Config(n_embd=64, n_head=4, n_layer=2, vocab_size=50).to_dict()
    )
    assert shape_from_config(MistralConfig().to_dict()).kv_heads == 8


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({**PYTHIA_160M, "model_type": "gptneox"}, "did you mean gpt_neox"),
        ({"hidden_size": 4}, "model_type is None"),
        ({k: v for k, v in PYTHIA_160M.items() if k != "hidden_size"}, "'hidden_size' is missing"),
        ({k: v for k, v in GPT2.items() if k != "n_layer"}, "'n_layer' is missing"),
        ({**LLAMA_8B, "model_type": "mistral", "num_key_value_heads": None}, "is missing"),
        ({**PYTHIA_160M, "num_hidden_layers": 0}, "'num_hidden_layers' is 0"),
        ({**PYTHIA_160M, "num_hidden_layers": True}, "'num_hidden_layers' is True"),
        ({**PYTHIA_160M, "vocab_size": "50304"}, "'vocab_size' is '50304'"),
        ({**PYTHIA_160M, "num_attention_heads": 5}, "768 cannot be split evenly over 5 heads"),
        ({**LLAMA_8B, "num_key_value_heads": 5}, "32 heads cannot share 5 key-value heads"),
        ({**LLAMA_8B, "head_dim": -128}, "'head_dim' is -128"),
    ],
)
def test_wrong_configurations(config: dict[str, Any], problem: str) -> None:
    with refused(PairError, problem):
        shape_from_config(config)


def test_a_shape_made_by_hand_is_checked() -> None:
    with refused(PairError, "mlp_width is 0"):
        ModelShape(1, 4, 2, 2, 2, 0, gated=False, vocabulary=5, tied=False)
