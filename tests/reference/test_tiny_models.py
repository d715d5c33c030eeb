"""The tiny models, tokenizers and rows are what the tests that use them take for granted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.reference.decoding import encode
from tests.reference.formulas import task_prompt
from tests.tiny_models import (
    VOCAB,
    forget_models,
    mixed_rows,
    save_pair_folder,
    tiny_gemma,
    tiny_gpt2,
    tiny_llama,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_padded_tokenizer,
    tiny_qwen,
    tiny_tokenizer,
)

STRANGE = "Zoë flew\tto 東京…\n\nKey facts:  48 🙂"
FAMILIES = [
    (tiny_neox, {}),
    (tiny_llama, {}),
    (tiny_gpt2, {}),
    (tiny_qwen, {"version": 2}),
    (tiny_qwen, {"version": 3}),
    (tiny_gemma, {"version": 2}),
    (tiny_gemma, {"version": 3}),
]


def test_tokenizers() -> None:
    plain, padded, llama = tiny_tokenizer(), tiny_padded_tokenizer(), tiny_llama_tokenizer()
    assert plain.eos_token_id == plain.bos_token_id == plain.unk_token_id == 0
    assert plain.pad_token is None
    assert len(plain) == len(padded) == VOCAB
    assert padded.pad_token_id == 1
    assert encode(plain, STRANGE) == encode(padded, STRANGE)
    assert plain.decode(encode(plain, STRANGE)) == STRANGE
    assert llama.decode(encode(llama, STRANGE), skip_special_tokens=True) == STRANGE
    assert encode(llama, STRANGE)[0] == llama.bos_token_id
    assert len(encode(llama, task_prompt(mixed_rows(1)[0]))) != len(
        encode(plain, task_prompt(mixed_rows(1)[0]))
    )


def test_rows() -> None:
    rows = mixed_rows(42, seed=3)
    assert rows == mixed_rows(42, seed=3) != mixed_rows(42, seed=4)
    assert rows[:14] == mixed_rows(14, seed=3)
    assert len({row["id"] for row in rows}) == 42
    assert all(row["answer"].split()[-1] in row["context"] for row in rows)
    lengths = Counter(len(encode(tiny_tokenizer(), task_prompt(row))) for row in rows)
    assert min(lengths) < 15
    assert max(lengths) < 128
    assert any(count == 1 for count in lengths.values())
    assert sum(count for count in lengths.values() if count > 3) > 10


@pytest.mark.slow
@pytest.mark.parametrize(("build", "options"), FAMILIES)
def test_models(build: Any, options: dict[str, Any], tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    forget_models()
    model = build(5, **options)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not model.training
    forget_models()
    again, other = build(5, **options), build(6, end_share=0, **options)
    weights = model.state_dict()
    assert all(torch.equal(weights[name], x) for name, x in again.state_dict().items())
    assert any(not torch.equal(weights[name], x) for name, x in other.state_dict().items())
    small = build(5, layers=2, hidden=32, heads=2, end_share=0, **options)
    assert (small.config.num_hidden_layers, small.config.hidden_size) == (2, 32)

    tokenizer = tiny_tokenizer()
    folder = save_pair_folder(model, tokenizer, tmp_path / "pair")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(weights[name], x) for name, x in loaded.state_dict().items())
    assert loaded.dtype == torch.float32
    reread = AutoTokenizer.from_pretrained(folder)
    for row in mixed_rows(14):
        assert encode(reread, task_prompt(row)) == encode(tokenizer, task_prompt(row))


@pytest.mark.slow
@pytest.mark.parametrize(("build", "options"), FAMILIES)
def test_decoding_is_lively(build: Any, options: dict[str, Any]) -> None:
    """Some of the rows end within 64 tokens and some don't; no row repeats itself for long."""
    model = build(0, **options)
    prompts = torch.randint(2, VOCAB, (24, 20), generator=torch.Generator().manual_seed(0))
    tokens = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        max_new_tokens=64,
        repetition_penalty=1.3,
        no_repeat_ngram_size=3,
        eos_token_id=0,
        pad_token_id=0,
    )[:, 20:]
    ended = int((tokens == 0).any(dim=1).sum())
    assert 1 <= ended <= 20
    assert all(len(set(row)) > 24 for row in tokens.tolist() if 0 not in row)
