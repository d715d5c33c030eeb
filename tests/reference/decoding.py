"""One prompt in, tokens out: tokenising, greedy decoding and the gold answer's measures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.reference.hooks import blocks, writing


def encode(tokenizer: Any, text: str, max_tokens: int | None = None) -> list[int]:
    """Return the token ids of a prompt, cut at `max_tokens` on its right side if given."""
    return list(tokenizer(text)["input_ids"])[:max_tokens]


@torch.no_grad()
def generate(
    model: Any,
    ids: list[int],
    *,
    end: int,
    max_new_tokens: int,
    repetition_penalty: float,
    no_repeat_ngram_size: int,
) -> list[int]:
    """Decode one unpadded row greedily; the new tokens, the end token included if reached."""
    prompt = torch.tensor([ids])
    output = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        eos_token_id=end,
        pad_token_id=end,
    )
    new: list[int] = output[0, len(ids) :].tolist()
    return new


def text_of(tokenizer: Any, tokens: list[int]) -> str:
    """Return the decoded tokens without special tokens, stripped."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text.strip()


OPENING = "([{<“‘«„（「『【《〈"
"""Marks that a word follows without a space."""
WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60]"
)
"""Letters and marks of Chinese, Japanese and Korean type."""


def space_before_answer(prompt: str) -> str:
    """Return the space between a prompt and its answer, or nothing where none is written."""
    end = prompt[-1:]
    quoted = end in ('"', "'", "`") and prompt[-2:-1] in ("", " ", "\n", "\t")
    if end in ("", " ", "\n", "\t", "\r") or end in OPENING or WIDE.match(end) or quoted:
        return ""
    return " "


def answer_ids(tokenizer: Any, prompt: str, answer: str) -> list[int]:
    """Return the tokens of the gold answer as they follow the (uncut) prompt.

    They are what the prompt, a space where one is written and the answer have beyond the
    prompt's own tokens. Where the prompt's tokens are no prefix of those, they are the tokens
    of the space and the answer alone. White space around the answer does not count.
    """
    added = space_before_answer(prompt) + answer.strip()
    before, whole = encode(tokenizer, prompt), encode(tokenizer, prompt + added)
    if whole[: len(before)] == before and len(whole) > len(before):
        return whole[len(before) :]
    return list(tokenizer(added, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True)
class GoldMeasures:
    """Results of one forward over prompt and gold answer; log-probabilities in nats."""

    logprob: float
    """Sum over the answer's tokens, each given all before it."""
    rank: int | None
    """Place of the answer's first token after the prompt, from 1; None for no token."""
    next_token: Tensor
    """(vocabulary,), float64: log-probabilities after the prompt's last token."""


@torch.no_grad()
def gold_measures(
    model: Any, layer: int, prompt: list[int], answer: list[int], state: Tensor | None
) -> GoldMeasures:
    """Score the answer after the prompt, with `state` (1, T, width) written at `layer`."""
    with writing(blocks(model)[layer], state):
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    logprobs = logits.double().log_softmax(dim=-1)
    total = 0.0
    for offset, token in enumerate(answer):
        total += float(logprobs[len(prompt) - 1 + offset, token])
    after_prompt = logprobs[len(prompt) - 1]
    # How many tokens are at least as probable as the gold one, itself included.
    rank = int((after_prompt >= after_prompt[answer[0]]).sum()) if answer else None
    return GoldMeasures(total, rank, after_prompt)


def kl_divergence(p: Tensor, q: Tensor) -> float:
    """Return KL(p || q) in nats of two vectors of log-probabilities."""
    return float((p.exp() * (p - q)).sum())


def first_difference(tokens: Sequence[int], baseline: Sequence[int]) -> int | None:
    """Return the index of the first new token that differs, a length included, or None."""
    for index in range(max(len(tokens), len(baseline))):
        if tokens[index : index + 1] != baseline[index : index + 1]:
            return index
    return None
