"""A small GPT-NeoX pair with random weights and a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from statebridge.data import generate_multihop
from statebridge.experiment.experiment import Prompts

END = "<|endoftext|>"
VOCABULARY = 1024
SHAPES = {"sender": (4, 64, 4), "receiver": (6, 96, 6)}
"""Blocks, width, heads."""


def build_random_pair(folder: Path, seed: int = 0) -> dict[str, Path]:
    """Write a sender and a receiver with random weights; return their folders.

    They answer nothing; they show that the apparatus runs. As in GPT-NeoX, the end token is
    id 0 and there is no padding token.
    """
    tokenizer = _tokenizer()
    folders: dict[str, Path] = {}
    for place, (side, (blocks, width, heads)) in enumerate(SHAPES.items()):
        config = GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=512,
            # Wide enough that greedy texts of random weights are not one token repeated.
            initializer_range=0.1,
            bos_token_id=0,
            eos_token_id=0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + place)
            model = GPTNeoXForCausalLM(config)
        folders[side] = folder / f"random-{side}"
        model.save_pretrained(folders[side])
        tokenizer.save_pretrained(folders[side])
    return folders


def _tokenizer() -> PreTrainedTokenizerFast:
    prompts = Prompts()
    texts = [
        prompts.task.format(context=row.context, question=row.question) + f" {row.answer}"
        for row in generate_multihop(400, seed=1)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END
    )
