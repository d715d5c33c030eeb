"""Several senders in front of one receiver, held to the oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from statebridge.channels.inputs.prompts import dealt_context
from statebridge.errors import StatebridgeError
from statebridge.records import DatasetRow
from tests.bridge.channels.prepended import declared, pair_of
from tests.bridge.engine.private_points import CLOSE
from tests.bridge.engine.tiny_experiment import EngineRun, dataset_rows, engine_pair, run_engine
from tests.reference.decoding import answer_ids, encode
from tests.reference.key_values import answer_behind, read_cache
from tests.reference.oracle import OraclePair
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.reference.rollout import input_rows, realigned
from tests.reference.senders import (
    blind_to_each_other,
    chained,
    in_turn,
    last_alone,
    side_by_side,
    soft_chain,
)
from tests.reference.soft_tokens import answer_after_vectors, mixed_by_vocabulary

NEW, STEPS = 2, 2
PARTS: list[list[str]] = [
    ["Kofi works in Delhi.", "Mei is in Cairo."],
    ["Bob works in Rome. Zara is in India.", "Mei is in Africa. Kofi is in Japan. Bob is in Rome."],
    ["Zara", "Delhi India"],
]
ROWS = [
    {"id": f"row_{i}", "context": " ".join(parts), "question": "Who is Bob?", "answer": answer}
    for i, (parts, answer) in enumerate(zip(PARTS, ("Delhi", "Rome", "India"), strict=True))
]
CHAIN = {"count": 2, "topology": "chain"}
ROLES = ["Plan. {context} Q: {question}", "Mei, check this: {question}"]
POINTS: dict[str, dict[str, Any]] = {
    "two": {"senders": {"count": 2}},
    "two_null": {"senders": {"count": 2}, "sender_context": "empty"},
    "two_neutral": {"senders": {"count": 2}, "sender_context": "neutral"},
    "two_shuffled": {
        "senders": {"count": 2},
        "source": "shuffled_sender",
        "lone_rows": "nearest",
    },
    "two_short": {"senders": {"count": 2}, "layers": [2]},
    "moved": {"senders": {"count": 2}, "reposition": "rotate"},
    "chain": {"senders": CHAIN},
    "chain_null": {"senders": CHAIN, "sender_context": "empty"},
    "chain_aware": {"senders": CHAIN, "prompt": "task"},
    "debate": {"senders": CHAIN | {"rounds": 2}},
    "pair": {"senders": {"count": 2, "models": "pair"}},
    "pair_debate": {"senders": CHAIN | {"rounds": 2, "models": "pair"}},
    "latent": {"senders": CHAIN, "rollout": {"steps": STEPS}},
    "last": {
        "senders": CHAIN | {"passes": "last"},
        "rollout": {"steps": STEPS, "keep": "latents"},
    },
    "roles": {
        "senders": CHAIN | {"context": "whole", "templates": ROLES},
        "rollout": {"steps": STEPS},
    },
}
SOFT = {
    "site": "embedding",
    "soft_tokens": {"by": "vocab", "temperature": 0.7},
    "senders": {"count": 2},
}
_WRITTEN = {"by": "cipher", "temperature": 0.7, "steps": 3}
SOFT_CHAINS: dict[str, dict[str, Any]] = {
    "vocab": SOFT | {"senders": CHAIN},
    "vocab_pair": SOFT | {"senders": CHAIN | {"rounds": 2, "models": "pair"}},
    "cipher_pair": SOFT
    | {"soft_tokens": _WRITTEN, "senders": {"count": 3, "topology": "chain", "models": "pair"}},
    "vocab_last": SOFT | {"senders": CHAIN | {"passes": "last"}},
    "cipher_null": SOFT | {"soft_tokens": _WRITTEN, "senders": CHAIN, "sender_context": "empty"},
    "text_pair": SOFT
    | {"soft_tokens": {"by": "text", "steps": 3}, "senders": CHAIN | {"models": "pair"}},
}


def _run(pair: OraclePair, path: str, conditions: list[Any], **fields: Any) -> EngineRun:
    file = {
        "conditions": conditions,
        "rng": "published",
        "decoding": {"max_new_tokens": NEW},
        "execution": {"path": path},
        "seeds": [42],
    }
    return run_engine(engine_pair(pair), dataset_rows(ROWS), {}, **(file | fields))


def _turns(tokenizer: Any, index: int, point: dict[str, Any]) -> list[list[int]]:
    row, limit, kind = ROWS[index], 256, point.get("sender_context")
    found = []
    parts = dealt_context(DatasetRow("r", " ".join(PARTS[index]), "q", "a"), 3)
    if "templates" in point["senders"]:
        return [encode(tokenizer, each.format(**row), limit) for each in ROLES]
    for part in PARTS[index] if point["senders"]["count"] == 2 else parts:
        own = dict(row) | {"context": part}
        found.append(
            encode(tokenizer, TASK.format(**own), limit)
            if kind is None
            else other_context(tokenizer, Texts(), own, kind, limit)
        )
    return found * point["senders"].get("rounds", 1)


@cache
def _expected(family: str) -> dict[tuple[str, str], Any]:
    pair = pair_of(family)
    tokenizer, sender = pair.tokenizer, pair.sender
    inputs, matrix = input_rows(sender), realigned(sender)
    lengths = [len(encode(tokenizer, TASK.format(**row))) for row in ROWS]
    donors = chosen_donors(lengths, [row["id"] for row in ROWS], 42, "nearest")
    found = {}
    for name, point in POINTS.items():
        shuffled = "source" in point
        for index, row in enumerate(ROWS):
            turns = _turns(tokenizer, donors[index] if shuffled else index, point)
            if "models" in point["senders"]:
                models = (sender, pair.receiver) * (len(turns) // 2)
                each = list(zip(models, turns, strict=True))
                if "topology" in point["senders"]:
                    message = in_turn(each)
                else:
                    message = side_by_side([read_cache(*turn) for turn in each])
            elif "topology" in point["senders"]:
                steps = point.get("rollout", {"steps": 0})["steps"]
                message = chained(sender, turns, steps, matrix, inputs)
                if "passes" in point["senders"]:
                    message = last_alone(sender, turns, steps, matrix, inputs)
            elif "reposition" in point:
                message = blind_to_each_other(sender, turns)
            else:
                message = side_by_side([read_cache(sender, ids) for ids in turns])
            text = (TASK if "prompt" in point else QUESTION_ONLY).format(**row)
            answered = answer_behind(
                pair.receiver,
                message,
                encode(tokenizer, text),
                point.get("layers", range(4)),
                answer_ids(tokenizer, text, row["answer"]),
                end=tokenizer.eos_token_id,
                new=NEW,
            )
            key = f"my_{name}/seed42" if shuffled else f"my_{name}"
            found[key, row["id"]] = answered, message[0][0].shape[2]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "path", "together"),
    [
        ("neox", "shared", 3),
        pytest.param("llama", "plain", 3, marks=pytest.mark.soak),
        pytest.param("qwen3", "shared", 1, marks=pytest.mark.soak),
        pytest.param("gemma3", "shared", 3, marks=pytest.mark.soak),
    ],
)
def test_several_senders_equal_the_oracle(family: str, path: str, together: int) -> None:
    conditions = [declared(name, **point) for name, point in POINTS.items()]
    done = _run(pair_of(family), path, conditions, rows_together=together)
    expected = _expected(family)
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        answered, positions = expected[key]
        assert row.message_positions == positions, key
        assert row.token_ids == answered.tokens, key
        latent = "rollout" in POINTS[key[0].removeprefix("my_").partition("/")[0]]
        close = {"rel": 1e-3, "abs": 1e-3} if latent else CLOSE
        assert row.gold_logprob == pytest.approx(answered.gold_logprob, **close), key
        assert row.prompt_len_sender == sum(row.sender_prompt_lens or ()), key


def test_soft_tokens_of_several_senders_equal_the_oracle() -> None:
    pair = pair_of("llama")
    done = _run(pair, "shared", [declared("soft", **SOFT)])
    inputs, tokenizer = input_rows(pair.receiver), pair.tokenizer
    shared = [(token, token) for token in range(len(tokenizer))]
    for index, row in enumerate(ROWS):
        turns = _turns(tokenizer, index, SOFT)
        parts = [mixed_by_vocabulary(pair.sender, ids, shared, inputs, 0.7) for ids in turns]
        text = QUESTION_ONLY.format(**row)
        expected = answer_after_vectors(
            pair.receiver,
            torch.cat(parts),
            encode(tokenizer, text),
            answer_ids(tokenizer, text, row["answer"]),
            inputs,
            end=tokenizer.eos_token_id,
            new=NEW,
        )
        found = done.rows["my_soft", row["id"]]
        assert found.message_positions == sum(map(len, parts))
        assert found.token_ids == expected.tokens
        assert found.gold_logprob == pytest.approx(expected.gold_logprob, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("together", [pytest.param(1, marks=pytest.mark.soak), 3])
def test_chains_of_soft_tokens_equal_the_oracle(together: int) -> None:
    pair = pair_of("llama")
    conditions = [declared(name, **point) for name, point in SOFT_CHAINS.items()]
    done = _run(pair, "shared", conditions, rows_together=together)
    models, tokenizer = (pair.sender, pair.receiver), pair.tokenizer
    inputs, end = [input_rows(model) for model in models], tokenizer.eos_token_id
    for name, point in SOFT_CHAINS.items():
        soft, both = point["soft_tokens"], "models" in point["senders"]
        for index, row in enumerate(ROWS):
            turns = _turns(tokenizer, index, point)
            order = [place % 2 if both else 0 for place in range(len(turns))]
            each = list(zip(order, turns, strict=True))
            _, vectors = soft_chain(models, each, inputs, end=end, **soft)
            if "passes" in point["senders"]:
                vectors = vectors[-len(turns[-1]) :]  # of two: the first one's is read, not sent
            text = QUESTION_ONLY.format(**row)
            expected = answer_after_vectors(
                pair.receiver,
                vectors,
                encode(tokenizer, text),
                answer_ids(tokenizer, text, row["answer"]),
                inputs[1],
                end=end,
                new=NEW,
            )
            found = done.rows[f"my_{name}", row["id"]]
            assert found.message_positions == len(vectors), name
            assert found.token_ids == expected.tokens, name
            close = {"rel": 1e-3, "abs": 1e-3}  # float32, each turn reads what others rounded
            assert found.gold_logprob == pytest.approx(expected.gold_logprob, **close), name


def test_vectors_in_a_chain_weigh_more_for_each_reader() -> None:
    points = {"one": SOFT, "chain": SOFT_CHAINS["vocab"], "debate": SOFT_CHAINS["vocab_pair"]}
    conditions = [declared(name, **point) for name, point in points.items()]
    done = _run(pair_of("llama"), "shared", conditions, decode=False)
    one, chain, debate = (done.rows[f"my_{name}", "row_0"] for name in points)
    first, second = one.sender_prompt_lens or (0, 0)
    each = (one.message_bytes or 0) // (first + second)
    assert chain.message_bytes == each * (2 * first + second)
    assert debate.message_bytes == each * (4 * first + 3 * second + 2 * first + second)


def test_messages_in_a_chain_weigh_more_for_each_reader() -> None:
    points = {"two": POINTS["two"], "chain": POINTS["chain"], "debate": POINTS["debate"]}
    conditions = [declared(name, **point) for name, point in points.items()]
    done = _run(pair_of("llama"), "shared", conditions, decode=False)
    two, chain, debate = (done.rows[f"my_{name}", "row_0"] for name in points)
    assert two.sender_prompt_lens is not None
    first, second = two.sender_prompt_lens
    assert two.message_bytes is not None
    each = two.message_bytes // (first + second)
    assert chain.message_bytes == each * (2 * first + second)
    assert debate.message_bytes == each * (4 * first + 3 * second + 2 * first + second)


@pytest.mark.parametrize(
    ("text", "count", "parts"),
    [
        ("A b. C d! E?", 2, ["A b.", "C d! E?"]),
        ("A b. C d! E?", 3, ["A b.", "C d!", "E?"]),
        ("one two three", 2, ["one", "two three"]),
        ("first line\nsecond line\n", 2, ["first line", "second line"]),
        ("東京です。大阪です。", 2, ["東京です。", "大阪です。"]),
    ],
)
def test_a_context_is_dealt_out_by_sentences(text: str, count: int, parts: list[str]) -> None:
    assert dealt_context(DatasetRow("r", text, "q", "a"), count) == parts


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"senders": {"count": 2, "rounds": 2}}, "rounds goes with topology: chain"),
    ({"senders": {"count": 1}}, "give a number of at least 2"),
    ({"senders": {"count": 2, "passes": "last"}}, "goes with topology: chain"),
    ({"senders": CHAIN, "layers": [1]}, "read all layers of each other"),
    ({"senders": {"count": 2, "models": ["a", "b"]}}, "a run holds two models"),
    ({"senders": CHAIN | {"templates": ["{question}"]}}, "1 for 2 senders"),
    ({"senders": CHAIN | {"templates": ["{question}", "same"]}}, "all rows would be alike"),
    ({"senders": CHAIN | {"templates": ["{question}"] * 2}}, "has no {context}"),
    (
        {**SOFT, "soft_tokens": _WRITTEN | {"steps": 200}, "senders": CHAIN | {"rounds": 8}},
        "other messages included",
    ),
    ({"senders": CHAIN, "reposition": "rotate"}, "senders in a hierarchy"),
    ({"senders": {"count": 9}}, "has fewer words than there are senders"),
    ({"senders": CHAIN | {"rounds": 8}, "rollout": {"steps": 200}}, "other messages included"),
]


@pytest.mark.parametrize(("point", "words"), REFUSED)
def test_senders_that_do_not_fit_are_refused(point: dict[str, Any], words: str) -> None:
    with pytest.raises(StatebridgeError) as caught:
        _run(pair_of("llama"), "shared", [declared("bad", **point)], decode=False)
    assert words in str(caught.value)


def test_senders_go_with_messages_alone() -> None:
    with pytest.raises(StatebridgeError, match="senders goes with operator: append"):
        _run(
            pair_of("llama"),
            "shared",
            [{"name": "bad", "source": "sender", "senders": {"count": 2}}],
        )
