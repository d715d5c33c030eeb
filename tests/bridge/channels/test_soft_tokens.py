"""Vectors in front of the receiver's prompt, held to the oracle and to plain text."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from statebridge.errors import ExperimentError, StatebridgeError
from statebridge.models.messages.input_vectors import (
    Vectors,
    input_vectors,
    read_vectors,
    write_mixtures,
)
from statebridge.models.messages.shared_tokens import shared_tokens
from statebridge.models.passes import Pass
from tests.bridge.channels.prepended import FAMILIES, ROWS, declared, pair_of, run, traced
from tests.bridge.engine.private_points import PAIRS
from tests.bridge.engine.tiny_experiment import engine_pair
from tests.reference.decoding import answer_ids, encode
from tests.reference.oracle import OraclePair, Settings
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.reference.rollout import input_rows
from tests.reference.soft_tokens import (
    answer_after_vectors,
    mixed_by_vocabulary,
    written_mixtures,
)

NEW, STEPS = 2, 5
PROMPT, READ = [0, 5, 9, 200, 31, 44, 7], [0, 17, 300, 8]
# The mixtures are rounded sums over the vocabulary, in float32.
CLOSE: dict[str, Any] = {"rel": 1e-4, "abs": 1e-4}
VOCAB = {"by": "vocab", "temperature": 0.7}
CIPHER = {"by": "cipher", "temperature": 0.5, "steps": STEPS}
ELSEWHERE: dict[str, dict[str, Any]] = {
    "": {},
    "_null": {"sender_context": "empty"},
    "_neutral": {"sender_context": "neutral"},
    "_shuffled": {"source": "shuffled_sender", "lone_rows": "nearest"},
}
POINTS: dict[str, dict[str, Any]] = {
    **{f"vocab{end}": {"soft_tokens": VOCAB} | more for end, more in ELSEWHERE.items()},
    "vocab_last": {"soft_tokens": VOCAB, "source_positions": "last"},
    "vocab_aware": {"soft_tokens": VOCAB, "prompt": "task"},
}
WRITTEN: dict[str, dict[str, Any]] = {
    **{f"cipher{end}": {"soft_tokens": CIPHER} | more for end, more in ELSEWHERE.items()},
    "cipher_theirs": {"soft_tokens": CIPHER | {"embedding": "sender"}},
}


def _declared(name: str, point: dict[str, Any]) -> dict[str, Any]:
    return declared(name, **{"site": "embedding", **point})


def _texts_of(tokenizer: Any) -> dict[str, int]:
    """The ids of a byte-level vocabulary by text, special tokens by their name."""
    found: dict[str, int] = {}
    for name, token in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        found.setdefault(name, token)
    return found


@cache
def _expected(name: str, count: int) -> dict[tuple[str, str], Any]:
    pair, points = _pair(name), _points(name)
    rows, limit = ROWS[:count], Settings().max_prompt_tokens
    reads, tokenizer = pair.reads_with, pair.tokenizer
    own, inputs = input_rows(pair.sender), input_rows(pair.receiver)
    theirs = _texts_of(tokenizer)
    shared = [(i, theirs[text]) for text, i in _texts_of(reads).items() if text in theirs]
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], 42, "nearest")
    found = {}
    for point_name, point in points.items():
        shuffled, soft = point.get("source") == "shuffled_sender", point["soft_tokens"]
        for index, row in enumerate(rows):
            if shuffled and index not in donors:
                continue
            origin = rows[donors[index]] if shuffled else row
            sent = encode(reads, TASK.format(**origin), limit)
            if "sender_context" in point:
                sent = other_context(reads, Texts(), row, point["sender_context"], limit)
            temperature = soft["temperature"]
            if soft["by"] == "vocab":
                vectors = mixed_by_vocabulary(pair.sender, sent, shared, inputs, temperature)
                vectors = vectors[-1:] if "source_positions" in point else vectors
            else:
                table = own if soft.get("embedding") == "sender" else inputs
                end = reads.eos_token_id
                vectors = written_mixtures(
                    pair.sender, sent, own, table, steps=STEPS, temperature=temperature, end=end
                )
            text = (TASK if point.get("prompt") == "task" else QUESTION_ONLY).format(**row)
            found[f"my_{point_name}{'/seed42' if shuffled else ''}", row["id"]] = (
                len(vectors),
                answer_after_vectors(
                    pair.receiver,
                    vectors,
                    encode(tokenizer, text, limit),
                    answer_ids(tokenizer, text, row["answer"]),
                    inputs,
                    end=tokenizer.eos_token_id,
                    new=NEW,
                ),
            )
    return found


def _pair(name: str) -> OraclePair:
    return PAIRS[name][0]() if name == "two-tokenizers" else pair_of(name)


def _points(name: str) -> dict[str, dict[str, Any]]:
    if name == "two-tokenizers":
        return POINTS
    both = POINTS | WRITTEN
    some = ("vocab_last", "cipher", "cipher_shuffled", "cipher_theirs")
    return {each: both[each] for each in some} if name == "llama" else both


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "together"),
    [
        # GPT-NeoX to Llama, two vocabularies and two widths.
        ("two-tokenizers", "shared", 3),
        ("llama", "plain", 2),
        pytest.param("neox", "shared", 1, marks=pytest.mark.soak),
        pytest.param("gemma3", "shared", 3, marks=pytest.mark.soak),
        pytest.param("qwen3", "plain", 3, marks=pytest.mark.soak),
    ],
)
def test_every_row_equals_the_oracle(name: str, path: str, together: int) -> None:
    conditions = [_declared(each, point) for each, point in _points(name).items()]
    count = 2 if path == "plain" else 3
    pair = _pair(name)
    done = run(pair, count, path, {}, new=NEW, conditions=conditions, rows_together=together)
    expected = _expected(name, count)
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        vectors, answered = expected[key]
        assert row.message_positions == vectors, key
        assert row.message_bytes == vectors * 4 * pair.receiver.config.hidden_size
        assert row.token_ids == answered.tokens, key
        assert row.gold_logprob == pytest.approx(answered.gold_logprob, **CLOSE), key


@pytest.mark.parametrize("family", ["neox", "gemma3"])
def test_vectors_of_tokens_are_the_text(family: str) -> None:
    module = FAMILIES[family](3)
    model = traced(module)
    vectors = input_vectors(model)[PROMPT]
    both = Vectors(torch.stack((vectors, torch.zeros_like(vectors))), (len(PROMPT), 0))
    both.values[1].fill_(9.0)  # whatever is at padding
    message = read_vectors(model, both)
    with torch.no_grad():
        plain = module(input_ids=torch.tensor([PROMPT + READ])).logits[:, len(PROMPT) :]
        alone = module(input_ids=torch.tensor([READ])).logits
    inputs = {"input_ids": torch.tensor([READ, READ])}
    found = next(model.run_passes([Pass(inputs, message=message)]))
    torch.testing.assert_close(found[:1], plain, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(found[1:], alone, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["neox", "gemma3"])
def test_cipher_without_temperature_is_the_greedy_text(family: str) -> None:
    model = traced(FAMILIES[family](2))
    prompts = [PROMPT, PROMPT[:2], [5]]
    table = input_vectors(model)
    made = write_mixtures(model, model.pack(prompts), 6, 1e-6, [table])[0]
    for row, ids in enumerate(prompts):
        alone = write_mixtures(model, model.pack([ids]), 6, 1e-6, [table])[0]
        settings = {"max_new_tokens": 6, "do_sample": False}
        text = model.module.generate(
            torch.tensor([ids]), **settings, pad_token_id=0, eos_token_id=list(model.end_ids)
        )
        new = [token for token in text[0, len(ids) :].tolist() if token not in model.end_ids]
        assert made.lengths[row] == len(new)
        assert alone.lengths == (len(new),)
        if new:
            torch.testing.assert_close(made.values[row, -len(new) :], table[new])
            torch.testing.assert_close(alone.values[0], table[new])


def test_mixtures_of_a_row_alone_are_those_in_a_batch() -> None:
    model = traced(FAMILIES["llama"](2))
    prompts, table = [PROMPT, PROMPT[:2], [5], PROMPT[1:6]], input_vectors(model)
    made = write_mixtures(model, model.pack(prompts), STEPS, 1.0, [table])[0]
    for row, ids in enumerate(prompts):
        alone = write_mixtures(model, model.pack([ids]), STEPS, 1.0, [table])[0]
        assert alone.lengths == (made.lengths[row],)
        chosen = made.select([row])
        torch.testing.assert_close(chosen.values, alone.values, rtol=1e-4, atol=1e-5)


def test_shared_tokens_are_the_same_text() -> None:
    pair = engine_pair(PAIRS["two-tokenizers"][0]())
    sender, receiver = pair.sender, pair.receiver
    own, theirs = shared_tokens(sender, receiver)
    assert len(own) == len(set(own)) == len(set(theirs)) > 200
    first, second = (
        [model.tokenizer.decode([token]) for token in tokens]
        for model, tokens in ((sender, own), (receiver, theirs))
    )
    assert first == second
    assert any(text.startswith(" ") for text in first)
    same = shared_tokens(sender, sender)
    assert same[0] == same[1] == list(range(len(sender.tokenizer)))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "point", "words"),
    [
        ("two-tokenizers", {"soft_tokens": CIPHER}, "needs one vocabulary; use by: vocab"),
        ("llama", {"soft_tokens": {"by": "vocab", "steps": 3}}, "go with by: cipher"),
        ("llama", {}, "site embedding takes soft_tokens"),
        ("llama", {"soft_tokens": VOCAB, "layers": [1]}, "layers goes with site: kv"),
        ("llama", {"soft_tokens": VOCAB, "site": "kv"}, "soft_tokens goes with site: embedding"),
        ("llama", {"soft_tokens": CIPHER | {"steps": 900}}, "reach beyond the context window"),
        (
            "llama",
            {"soft_tokens": CIPHER, "source_positions": "last"},
            "soft_tokens by cipher takes source_positions all",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(name: str, point: Any, words: str) -> None:
    with pytest.raises(StatebridgeError) as caught:
        run(_pair(name), 2, "shared", {}, conditions=[_declared("soft", point)], decode=False)
    assert words in str(caught.value)
    if not isinstance(caught.value, ExperimentError):
        assert "\n" not in str(caught.value)
