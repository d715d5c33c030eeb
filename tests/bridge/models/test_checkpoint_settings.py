"""Settings that a checkpoint and its tokenizer bring are used, refused or named; never silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, BertConfig, LlamaConfig

from statebridge.errors import PairError
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.chat import as_turns, encoded, encoded_answer
from statebridge.models.loading import load_model
from statebridge.models.traced_model import TracedModel
from tests.tiny_models import VOCAB, save_pair_folder, tiny_neox, tiny_tokenizer

SHAPE: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "end_share": 0}


def _saved(folder: Path, **generation: Any) -> Path:
    save_pair_folder(tiny_neox(1, **SHAPE), tiny_tokenizer(), folder)
    if generation:
        file = folder / "generation_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | generation))
    return folder


def _load(folder: Path) -> TracedModel:
    return load_model(ModelAtLayer(model=str(folder), layer=0), device="cpu")


def test_an_ordinary_checkpoint_needs_no_caution(tmp_path: Path) -> None:
    assert _load(_saved(tmp_path, temperature=0.6, top_p=0.9, max_length=99)).cautions == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("suppress_tokens", [5, 6]),
        ("begin_suppress_tokens", [5]),
        ("bad_words_ids", [[5]]),
        ("stop_strings", ["the"]),
        ("min_new_tokens", 3),
        ("forced_eos_token_id", 0),
    ],
)
def test_decoding_that_a_checkpoint_brings_is_not_used_and_said(
    setting: str, value: Any, tmp_path: Path
) -> None:
    """One path would obey it, and the other one would not."""
    plain = _load(_saved(tmp_path / "plain"))
    brought = _load(_saved(tmp_path / "brought", **{setting: value}))
    if value:
        (caution,) = brought.cautions
        assert caution.startswith(f"generation_config.json sets {setting}: {json.dumps(value)}, ")
    prompts = plain.pack([[5, 6, 7], [9, 10, 11]])
    texts = [
        model.module.generate(
            prompts.ids, attention_mask=prompts.mask.long(), do_sample=False, max_new_tokens=6
        )
        for model in (plain, brought)
    ]
    assert torch.equal(*texts)


def test_weights_that_the_model_does_not_take_are_said(tmp_path: Path) -> None:
    folder = _saved(tmp_path)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    surplus = {f"gpt_neox.layers.{i}.attention.lora_A.weight": torch.ones(2, 16) for i in (0, 1)}
    safetensors.torch.save_file(weights | surplus, folder / "model.safetensors", {"format": "pt"})
    (caution,) = _load(folder).cautions
    assert caution.startswith(
        "the checkpoint's weight gpt_neox.layers.0.attention.lora_A.weight (and 1 more) is not used"
    )


def test_biases_that_the_model_does_not_take_are_said(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    biased = LlamaConfig(**fields, intermediate_size=32, vocab_size=VOCAB, attention_bias=True)
    save_pair_folder(AutoModelForCausalLM.from_config(biased), tiny_tokenizer(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_bias": False}))
    (caution,) = _load(tmp_path).cautions
    assert caution.startswith(
        "the checkpoint's weight model.layers.0.self_attn.k_proj.bias (and 7 more) is not used"
    )


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    (_saved(tmp_path) / "adapter_config.json").write_text("{}")
    with pytest.raises(PairError, match=r"holds an adapter .*; give its base as model"):
        _load(tmp_path)


@pytest.mark.filterwarnings("ignore:Module .* has a submodule")
@pytest.mark.parametrize("is_decoder", [True, False])
def test_a_model_that_sees_later_tokens_is_refused(is_decoder: bool, tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=VOCAB,
        is_decoder=is_decoder,
    )
    torch.manual_seed(0)
    save_pair_folder(AutoModelForCausalLM.from_config(config), tiny_tokenizer(), tmp_path)
    if is_decoder:
        assert _load(tmp_path).name == tmp_path.name
    else:
        with pytest.raises(PairError, match=r"depends on the tokens after it.*is_decoder: true"):
            _load(tmp_path)


def test_the_name_of_a_folder_here_is_no_id_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _saved(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PairError, match=r"^model tiny: is a folder here, .* write \./tiny for"):
        load_model(ModelAtLayer(model="tiny", layer=0), device="cpu")


# ---------------------------------------------------------------- the edges of tokenizers


def _ending(tokenizer: Any) -> Any:
    """A tokenizer that puts its end token after every text."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


def test_an_end_token_that_is_appended_is_no_part_of_a_prompt() -> None:
    plain, ending = tiny_tokenizer(), _ending(tiny_tokenizer())
    assert ending("Mei is")["input_ids"][-1] == 0
    texts = ["Mei is in", "Q: Who?\nA:"]
    assert encoded(ending, texts, "none", "m") == encoded(plain, texts, "none", "m")
    for text in texts:
        answers = [encoded_answer(t, text, "Oslo", "none", "m") for t in (ending, plain)]
        assert answers[0] == answers[1]


@pytest.mark.parametrize("end", [" ", "\n", "\t"])
def test_the_answer_after_white_space_begins_without_a_space(end: str) -> None:
    tokenizer = tiny_tokenizer()
    prompt = tokenizer(f"A:{end}")["input_ids"]
    answer = encoded_answer(tokenizer, f"A:{end}", "Oslo", "none", "m")
    assert tokenizer.decode([*prompt, *answer]) == f"A:{end}Oslo"
    assert tokenizer.decode(encoded_answer(tokenizer, "A:", "Oslo", "none", "m")) == " Oslo"


def test_a_template_that_asks_for_the_moment_gets_one_day() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d %H:%M') }}: {{ messages[0]['content'] }}"
    assert as_turns(tokenizer, ["Hi"], "m") == ["2024-07-26 00:00: Hi"]
