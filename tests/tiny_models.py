"""Tiny random models, a tiny tokenizer and rows to run them on; nothing is downloaded.

Everything is a function of its seed; the global random state is left alone. The weights
are spread widely enough for greedy decoding to be lively, and the end token's output row
is set so that a share of the rows stops before its 64 tokens are used up.
"""

from __future__ import annotations

import copy
import functools
import random
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

END = "<|endoftext|>"
PADDING = "<|padding|>"
VOCAB = 421
"""Size of the tiny tokenizers' vocabulary, and of the tiny models' by default."""

NAMES = ("Bob", "Zara", "Mei", "Omar", "Ana", "Ivan", "Lena", "Kofi")
PLACES = ("Tokyo", "London", "Lima", "Accra", "Oslo", "Cairo", "Paris", "Delhi", "Quito", "Rome")
REGIONS = ("Japan", "Peru", "Ghana", "Norway", "Egypt", "France", "India", "Asia", "Africa")
PLAIN_WORDS = ("the", "city", "of", "is", "in", "a", "on", "and", "near", "works", "lives", "was")

TEXTS = tuple(
    f"Context: {name} works in {place}. {place} is in {region}. {name} lives near the city "
    f"of {place} and was on a train in {region}.\nQ: Which country is the city where {name} "
    f"works in?\nA: {region}\n\nKey facts: {' '.join(PLAIN_WORDS)}"
    for name in NAMES
    for place in PLACES
    for region in REGIONS
)
"""Texts that the tokenizers are trained on: every word that `mixed_rows` counts is one token."""


# --------------------------------------------------------------------------- tokenizers


@functools.cache
def _byte_level_bpe(vocab: int, specials: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in the manner of GPT-NeoX: one special token for everything, no pad.

    `<|endoftext|>` is id 0 and beginning, end and unknown token; `<|padding|>` is id 1 and
    in the vocabulary, but not declared as the pad token. Any text encodes and decodes.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level_bpe(VOCAB, (END, PADDING))),
        bos_token=END,
        eos_token=END,
        unk_token=END,
    )


def tiny_padded_tokenizer() -> PreTrainedTokenizerFast:
    """The same vocabulary with a pad token of its own, id 1."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level_bpe(VOCAB, (END, PADDING))),
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=PADDING,
    )


def tiny_llama_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in the manner of Llama 3: fewer merges, other ids, `<s>` before every text."""
    tokenizer = Tokenizer.from_str(_byte_level_bpe(VOCAB - 60, ("<unk>", "<s>", "</s>")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


# --------------------------------------------------------------------------- models


def tiny_neox(
    seed: int = 0,
    *,
    layers: int = 4,
    hidden: int = 48,
    heads: int = 3,
    vocab: int = VOCAB,
    end_share: float = 0.12,
    **settings: Any,
) -> PreTrainedModel:
    """A GPT-NeoX model on the CPU, float32, in evaluation mode, of the given shape.

    `end_share` is, roughly, the share of rows that end before their 64 new tokens are used
    up; 0 leaves that to chance. `settings` go to the configuration and override the rest.
    """
    shape = _shape(layers, hidden, heads, vocab)
    return _build(GPTNeoXConfig, seed, end_share, shape | {"initializer_range": 0.2} | settings)


def tiny_llama(
    seed: int = 0,
    *,
    layers: int = 5,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = VOCAB,
    end_share: float = 0.12,
    **settings: Any,
) -> PreTrainedModel:
    """A Llama model with grouped-query attention; else as `tiny_neox`."""
    shape = _shape(layers, hidden, heads, vocab, kv_heads)
    return _build(LlamaConfig, seed, end_share, shape | settings)


def tiny_qwen(
    seed: int = 0,
    *,
    version: Literal[2, 3] = 2,
    layers: int = 4,
    hidden: int = 48,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = VOCAB,
    end_share: float = 0.12,
    **settings: Any,
) -> PreTrainedModel:
    """A Qwen 2 or Qwen 3 model; else as `tiny_llama`."""
    shape = _shape(layers, hidden, heads, vocab, kv_heads)
    if version == 2:
        return _build(Qwen2Config, seed, end_share, shape | settings)
    return _build(Qwen3Config, seed, end_share, shape | {"head_dim": hidden // heads} | settings)


def tiny_gemma(
    seed: int = 0,
    *,
    version: Literal[2, 3] = 2,
    layers: int = 4,
    hidden: int = 48,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = VOCAB,
    end_share: float = 0.12,
    **settings: Any,
) -> PreTrainedModel:
    """A Gemma 2 or Gemma 3 text model; else as `tiny_llama`."""
    kind = Gemma2Config if version == 2 else Gemma3TextConfig
    width = hidden // heads
    shape = _shape(layers, hidden, heads, vocab, kv_heads)
    attention = {"head_dim": width, "query_pre_attn_scalar": width}
    return _build(kind, seed, end_share, shape | attention | settings)


def tiny_gpt2(
    seed: int = 0,
    *,
    layers: int = 4,
    hidden: int = 48,
    heads: int = 4,
    vocab: int = VOCAB,
    end_share: float = 0.12,
    **settings: Any,
) -> PreTrainedModel:
    """A GPT-2 model (learned positions); else as `tiny_neox`."""
    shape = _shape(layers, hidden, heads, vocab)
    del shape["intermediate_size"], shape["num_key_value_heads"]
    return _build(GPT2Config, seed, end_share, shape | {"initializer_range": 0.2} | settings)


def _shape(
    layers: int, hidden: int, heads: int, vocab: int, kv_heads: int | None = None
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": 2 * hidden,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }


_BUILT: dict[str, PreTrainedModel] = {}
"""Models that this process has built, by what they are made of; each user gets a copy."""


def forget_models() -> None:
    """Let the next models be built anew."""
    _BUILT.clear()


def _build(
    kind: type[PretrainedConfig], seed: int, end_share: float, settings: dict[str, Any]
) -> PreTrainedModel:
    made_of = repr((kind.__name__, seed, end_share, sorted(settings.items())))
    if made_of not in _BUILT:
        _BUILT[made_of] = _build_anew(kind, seed, end_share, settings)
    return copy.deepcopy(_BUILT[made_of])


def _build_anew(
    kind: type[PretrainedConfig], seed: int, end_share: float, settings: dict[str, Any]
) -> PreTrainedModel:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster here, and the same sums whatever the machine
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                kind(**settings), dtype=torch.float32
            )
            model.eval()
            if not model.config.tie_word_embeddings:  # a tied head is also the embedding
                _set_output_head(model, end_share)
    finally:
        torch.set_num_threads(threads)
    return model


@torch.no_grad()
def _set_output_head(model: PreTrainedModel, end_share: float) -> None:
    """Scale the output head to logits of spread 2.5, then raise the end token's row.

    Small weights in the blocks keep rounding errors small, and a spread of 2.5 keeps the
    best two tokens apart: exact ties and near ties stay improbable in float32. The end
    row is moved until it would have ended about `end_share` of some greedy texts.
    """
    head = model.get_output_embeddings()
    prompts = torch.randint(2, head.out_features, (32, 8))
    head.weight *= 2.5 / model(prompts).logits.std()
    if end_share == 0:
        return
    texts = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        max_new_tokens=40,
        repetition_penalty=1.3,
        no_repeat_ngram_size=3,
        suppress_tokens=[0],
        pad_token_id=0,
    )
    states: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    try:
        model(texts)
    finally:
        handle.remove()
    final = states[0][:, prompts.shape[1] :].flatten(0, 1)
    rivals = (final @ head.weight[1:].T).max(dim=-1).values
    own, towards = head.weight[0].clone(), final.mean(dim=0) / final.mean(dim=0).norm()
    needed = (rivals - final @ own) / (final @ towards).clamp_min(1e-3)
    first = needed.reshape(len(prompts), -1).min(dim=1).values
    head.weight[0] = own + first.quantile(end_share) * towards


def save_pair_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path
) -> Path:
    """Save weights (safetensors), configuration and tokenizer for `from_pretrained(path)`."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


# --------------------------------------------------------------------------- rows

_LENGTHS = (1, 2, 4, 7, 7, 7, 12, 12, 20, 20, 20, 20, 33, 50)
"""Words of context: some lengths several rows share, some that one row has, some tiny."""


def mixed_rows(n: int, seed: int = 0) -> list[dict[str, str]]:
    """Return n rows of `id`, `context`, `question` and `answer`, of mixed prompt lengths.

    Of any 14 rows in succession the prompts hold lengths that several share, lengths that
    one alone has, and very short ones. Every fifth answer has two words, and some rows
    hold text outside the tokenizer's training words, non-ASCII included.
    """
    draw = random.Random(seed)
    rows = []
    for index in range(n):
        words = [
            draw.choice((*NAMES, *PLACES, *REGIONS, *PLAIN_WORDS))
            for _ in range(_LENGTHS[index % len(_LENGTHS)])
        ]
        answer = " ".join(draw.choice(REGIONS) for _ in range(2 if index % 5 == 4 else 1))
        words[-1] = answer.split()[-1]
        context = " ".join(words) + "."
        question = f"Which city is {draw.choice(NAMES)} in?"
        if index % 14 == 1:
            context, question = f"{answer}", "Who?"
        elif index % 14 == 6:
            context = f"Zoë flew to 東京 & São Paulo – 48 times. {context}"
        elif index % 14 == 13:
            # One more word for every further round keeps the longest prompts apart.
            context += " city" * (index // 14)
        rows.append(
            {"id": f"row_{index:04d}", "context": context, "question": question, "answer": answer}
        )
    return rows
