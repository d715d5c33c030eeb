"""Decoding and the gold answer's measures, against slower ways to the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tokenizers import processors
from torch import Tensor

from tests.reference.decoding import answer_ids, encode, generate, gold_measures, text_of
from tests.reference.formulas import task_prompt
from tests.reference.hooks import blocks, writing
from tests.reference.tiny_pairs import FULL, ROWS, cell, pair
from tests.tiny_models import tiny_llama_tokenizer, tiny_tokenizer


def slow_greedy(
    model: Any, ids: list[int], new: int, penalty: float, ngram: int, end: int
) -> list[int]:
    """Decode by whole forwards and Python lists, as the two rules are written down."""
    tokens = list(ids)
    while len(tokens) < len(ids) + new:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([tokens])).logits[0, -1].float().tolist()
        for token in set(tokens):
            score = scores[token]
            scores[token] = score * penalty if score < 0 else score / penalty
        if ngram > 0:
            grams = [tuple(tokens[i : i + ngram]) for i in range(len(tokens) - ngram + 1)]
            start = tuple(tokens[len(tokens) - ngram + 1 :])
            for gram in grams:
                if gram[:-1] == start:
                    scores[gram[-1]] = -math.inf
        tokens.append(scores.index(max(scores)))
        if tokens[-1] == end:
            break
    return tokens[len(ids) :]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "ngram"), [(1.0, 0), (1.3, 0), (1.0, 1), (1.0, 2), (1.3, 3), (0.7, 4)]
)
def test_decoding_by_hand(penalty: float, ngram: int) -> None:
    # float64, so that cached and whole forwards cannot part over rounding.
    model = pair("neox", torch.float64).receiver
    for ids in ([7], [9, 9], [5, 6, 5, 6, 5], encode(tiny_tokenizer(), task_prompt(ROWS[1]))):
        options: dict[str, Any] = {"repetition_penalty": penalty, "no_repeat_ngram_size": ngram}
        tokens = generate(model, ids, end=0, max_new_tokens=24, **options)
        assert tokens == slow_greedy(model, ids, 24, penalty, ngram, 0)


@pytest.mark.slow
def test_the_end_token_stops_and_is_kept() -> None:
    rows = [row.token_ids or () for row in cell(pair("neox"), "no_inject", **FULL)]
    ended = [tokens for tokens in rows if tokens[-1] == 0]
    assert 0 < len(ended) < len(rows)
    assert all(0 not in tokens[:-1] for tokens in rows)
    assert all(len(tokens) == 64 for tokens in rows if tokens[-1] != 0)


def test_gold_measures_step_by_step() -> None:
    """Token by token, each from a forward of its own, instead of one teacher-forced pass."""
    of = pair("llama", torch.float64)
    row = ROWS[4]
    prompt = encode(of.tokenizer, task_prompt(row))
    answer = answer_ids(of.tokenizer, task_prompt(row), row["answer"])
    assert len(answer) == 2
    assert text_of(of.tokenizer, answer) == row["answer"]
    (result,) = cell(of, "replace", [row], decode=False)
    (baseline,) = cell(of, "no_inject", [row], decode=False)
    assert result.written is not None

    def next_logprobs(before: list[int], state: Tensor | None) -> Tensor:
        with torch.no_grad(), writing(blocks(of.receiver)[of.receiver_layer], state):
            logits: Tensor = of.receiver(input_ids=torch.tensor([before])).logits[0, -1]
        return logits.log_softmax(-1)

    for written, found in ((result.written, result), (None, baseline)):
        expected = sum(
            float(next_logprobs(prompt + answer[:i], written)[token])
            for i, token in enumerate(answer)
        )
        assert found.gold_logprob == pytest.approx(expected)
        first = next_logprobs(prompt, written)
        order = first.argsort(descending=True).tolist()
        assert found.gold_rank == order.index(answer[0]) + 1
    p, q = next_logprobs(prompt, None).exp(), next_logprobs(prompt, result.written).exp()
    expected = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert result.kl_from_no_inject == pytest.approx(expected)


def test_answer_tokens_follow_the_prompt() -> None:
    tokenizer = tiny_tokenizer()
    for prompt, space in (("A:", " "), ("A: ", ""), ("Zoë\n", ""), (task_prompt(ROWS[6]), " ")):
        whole = encode(tokenizer, f"{prompt}{space}Rio Japan")
        assert encode(tokenizer, prompt) + answer_ids(tokenizer, prompt, "Rio Japan") == whole
    # A tokenizer that ends every text: the prompt's tokens are no prefix then.
    ending = tiny_llama_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    answer = answer_ids(ending, "A:", "Rio Japan")
    assert ending.decode(answer) == " Rio Japan"
    assert not {1, 2} & set(answer)
    assert gold_measures(pair("neox").receiver, 1, whole, [], None).rank is None
