"""Latent steps behind the sender's prompt, held to the oracle and to LatentMAS' own outputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from statebridge.errors import ExperimentError, StatebridgeError
from statebridge.models.messages.input_vectors import input_vectors, latent_step, roll_out
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.messages.rotary import angles, moved, rotate, strip
from tests.bridge.channels.prepended import FAMILIES, ROWS, declared, pair_of, run, traced
from tests.bridge.engine.private_points import CLOSE
from tests.reference.decoding import answer_ids, encode
from tests.reference.key_values import answer_behind
from tests.reference.oracle import Settings
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.reference.rollout import (
    cache_of_vectors,
    input_rows,
    latent_vectors,
    realigned,
    turned_keys,
)
from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_neox

NEW, STEPS = 2, 3
# A latent step multiplies a rounding error by up to ten.
ROLLED: dict[str, Any] = {"rel": 1e-3, "abs": 1e-3}
PROMPT = [0, 5, 9, 200, 31, 44, 7]
# What rotates: the first dimensions of a head, and the base of the frequencies.
ROTATED = {"neox": (4, 10000.0), "llama": (8, 10000.0), "qwen3": (8, 10000.0)}


@pytest.mark.parametrize("family", ["neox", "gemma3"])
def test_input_vectors_are_what_the_model_reads(family: str) -> None:
    module = FAMILIES[family](3)
    torch.testing.assert_close(input_vectors(traced(module)), input_rows(module))


def test_the_random_map_has_the_spectrum_of_least_squares() -> None:
    model = traced(FAMILIES["llama"](3))
    found, expected = latent_step(model, "realigned").matrix, realigned(model.module)
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    drawn = [latent_step(model, "random", seed).matrix for seed in (1, 1, 2)]
    assert drawn[0] is not None
    assert drawn[2] is not None
    assert torch.equal(drawn[0], drawn[1])  # type: ignore[arg-type]
    assert (drawn[0] - drawn[2]).abs().max() > 0.01
    values = [torch.linalg.svdvals(matrix.double()) for matrix in (found, drawn[0], drawn[2])]
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(values[2], values[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_rolled_out_alone_is_the_row_in_a_batch(family: str) -> None:
    model = traced(FAMILIES[family](2))
    step, prompts = latent_step(model, "realigned"), [PROMPT, PROMPT[:2], [5]]
    matrix, inputs = realigned(model.module), input_rows(model.module)
    together = roll_out(model, model.pack(prompts), STEPS, step)
    assert together.lengths == tuple(len(ids) + STEPS for ids in prompts)
    for row, ids in enumerate(prompts):
        vectors = latent_vectors(model.module, ids, STEPS, matrix, inputs)
        expected = cache_of_vectors(model.module, vectors)
        alone = roll_out(model, model.pack([ids]), STEPS, step)
        for found in (alone, together.select([row])):
            for layer, theirs in zip(found.layers, expected, strict=True):
                for ours, other in zip(layer, theirs, strict=True):
                    torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3)


def test_no_latent_steps_are_the_prompt_alone() -> None:
    model = traced(FAMILIES["llama"](2))
    batch = model.pack([PROMPT, PROMPT[:3]])
    plain = model.key_values(batch)
    none = roll_out(model, batch, 0, latent_step(model, "identity"))
    for layer, theirs in zip(none.layers, plain.layers, strict=True):
        assert torch.equal(layer[0], theirs[0])
        assert torch.equal(layer[1], theirs[1])


# ---------------------------------------------------------------- positions of keys

SCALED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}
ROTARY: dict[str, Any] = dict(FAMILIES) | {
    "llama3": lambda seed: tiny_llama(seed, layers=4, hidden=32, rope_parameters=SCALED),
    "yarn": lambda seed: tiny_llama(seed, layers=4, hidden=32, rope_parameters=YARN),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ROTARY)
def test_keys_stripped_and_rotated_again_are_the_keys(family: str) -> None:
    module = ROTARY[family](3)
    model = traced(module)
    batch = model.pack([PROMPT])
    keys = [keys for keys, _ in model.key_values(batch).layers]
    everywhere = angles(module, torch.arange(len(PROMPT))[None])
    first = angles(module, torch.zeros((1, 1), dtype=torch.int64))
    for block, of_block in enumerate(everywhere):
        bare = strip(keys[block], of_block)
        torch.testing.assert_close(rotate(bare, of_block), keys[block], rtol=1e-6, atol=1e-6)
        # At position 0 nothing is turned.
        lengthened = rotate(bare[:, :, :1], first[block]) / first[block][0][0, 0, 0]
        torch.testing.assert_close(lengthened, bare[:, :, :1], rtol=1e-6, atol=1e-6)
        assert (bare[:, :, 1:] - keys[block][:, :, 1:]).abs().max() > 1e-3
    # A model of one block reads the same token at every place, so its bare keys are equal.
    same = model.key_values(model.pack([[7] * 6])).layers[0][0]
    bare = strip(same, angles(module, torch.arange(6)[None])[0])
    torch.testing.assert_close(bare, bare[:, :, :1].expand_as(bare), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ROTATED)
def test_moved_keys_are_those_of_an_independent_turn(family: str) -> None:
    module = FAMILIES[family](3)
    model = traced(module)
    dimensions, base = ROTATED[family]
    message = model.key_values(model.pack([PROMPT, PROMPT[2:]])).last(3)
    found = moved(module, message, [4, 2])
    for (keys, values), (own, same) in zip(found.layers, message.layers, strict=True):
        assert torch.equal(values, same)
        for row, start in enumerate((4, 2)):
            expected = turned_keys(own[row : row + 1], -start, dimensions=dimensions, base=base)
            torch.testing.assert_close(keys[row : row + 1], expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- whole runs

POINTS: dict[str, dict[str, Any]] = {
    "both": {"rollout": {"steps": STEPS}},
    "both_null": {"rollout": {"steps": STEPS}, "sender_context": "empty"},
    "both_neutral": {"rollout": {"steps": STEPS}, "sender_context": "neutral"},
    "both_shuffled": {
        "rollout": {"steps": STEPS},
        "source": "shuffled_sender",
        "lone_rows": "nearest",
    },
    "identity": {"rollout": {"steps": STEPS, "by": "identity"}},
    "latents": {"rollout": {"steps": STEPS, "keep": "latents"}},
    "latents_moved": {"rollout": {"steps": STEPS, "keep": "latents"}, "reposition": "rotate"},
    "both_aware": {"rollout": {"steps": STEPS}, "prompt": "task"},
    "both_short": {"rollout": {"steps": STEPS}, "layers": [2]},
    "random": {"rollout": {"steps": STEPS, "by": "random"}},
}


@cache
def _expected(family: str, count: int) -> dict[tuple[str, str], Any]:
    pair, rows, limit = pair_of(family), ROWS[:count], Settings().max_prompt_tokens
    tokenizer, sender = pair.tokenizer, pair.sender
    inputs = input_rows(sender)
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], 42, "nearest")
    # The draw of the random matrix is the library's.
    matrices = {
        "realigned": realigned(sender),
        "identity": None,
        "random": latent_step(traced(sender), "random", 42).matrix,
    }
    found = {}
    for name, point in POINTS.items():
        shuffled, rollout = point.get("source") == "shuffled_sender", point["rollout"]
        for index, row in enumerate(rows):
            if shuffled and index not in donors:
                continue
            origin = rows[donors[index]] if shuffled else row
            sent = encode(tokenizer, TASK.format(**origin), limit)
            if "sender_context" in point:
                sent = other_context(tokenizer, Texts(), row, point["sender_context"], limit)
            matrix = matrices[rollout.get("by", "realigned")]
            message = cache_of_vectors(sender, latent_vectors(sender, sent, STEPS, matrix, inputs))
            if rollout.get("keep") == "latents":
                message = [(k[:, :, -STEPS:], v[:, :, -STEPS:]) for k, v in message]
            if "reposition" in point:
                dimensions, base = ROTATED[family]
                message = [
                    (turned_keys(k, -len(sent), dimensions=dimensions, base=base), v)
                    for k, v in message
                ]
            text = (TASK if point.get("prompt") == "task" else QUESTION_ONLY).format(**row)
            seeded = shuffled or name == "random"
            found[f"my_{name}/seed42" if seeded else f"my_{name}", row["id"]] = answer_behind(
                pair.receiver,
                message,
                encode(tokenizer, text, limit),
                point.get("layers", range(4)),
                answer_ids(tokenizer, text, row["answer"]),
                end=tokenizer.eos_token_id,
                new=NEW,
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "path", "together"),
    [
        ("neox", "shared", 3),
        ("llama", "plain", 3),
        pytest.param("llama", "shared", 1, marks=pytest.mark.soak),
        pytest.param("qwen3", "shared", 3, marks=pytest.mark.soak),
    ],
)
def test_every_row_equals_the_oracle(family: str, path: str, together: int) -> None:
    # The plain path reads what the shared path does; a few points show that it sends it.
    few = ("both_shuffled", "latents_moved", "both_short")
    points = POINTS if path == "shared" else {name: POINTS[name] for name in few}
    done = run(pair_of(family), 3, path, points, new=NEW, rows_together=together)
    names = {f"my_{name}" for name in points}
    expected = {
        key: found
        for key, found in _expected(family, 3).items()
        if key[0].partition("/")[0] in names
    }
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        assert row.token_ids == expected[key].tokens, key
        assert row.gold_logprob == pytest.approx(expected[key].gold_logprob, **ROLLED), key
        positions = (row.prompt_len_sender or 0) + STEPS
        if "latents" in key[0]:
            assert row.message_positions == STEPS
        elif "shuffled" not in key[0] and "null" not in key[0]:
            assert row.message_positions == positions


def test_a_rollout_of_no_steps_is_none() -> None:
    points = {
        "none": {"rollout": {"steps": 0}},
        "silent": {"rollout": {"steps": 0, "keep": "latents"}},
        "plain": {},
    }
    conditions = [*(declared(name, **point) for name, point in points.items()), "question_only"]
    done = run(pair_of("llama"), 4, "shared", {}, new=NEW, conditions=conditions)
    of: dict[str, list[Any]] = {}
    for (cell, _), row in done.rows.items():
        of.setdefault(cell, []).append((row.token_ids, row.gold_logprob))
    assert of["my_none"] == of["my_plain"]
    for silent, floor in zip(of["my_silent"], of["question_only"], strict=True):
        assert silent[0] == floor[0]
        assert silent[1] == pytest.approx(floor[1], **CLOSE)


# ---------------------------------------------------------------- refusals


def test_a_rollout_beyond_the_senders_window_is_refused() -> None:
    pair = pair_of("llama")
    with pytest.raises(StatebridgeError, match="reach beyond the context window of tiny-sender"):
        run(pair, 2, "shared", {"long": {"rollout": {"steps": 1000, "keep": "latents"}}})


def test_keys_that_are_not_rotated_are_not_moved() -> None:
    with pytest.raises(StatebridgeError, match="'gpt2': its keys are not rotated"):
        angles(tiny_gpt2(1), torch.zeros((1, 1), dtype=torch.int64))


def test_only_latents_alone_are_moved() -> None:
    with pytest.raises(ExperimentError, match="rotate goes with rollout"):
        run(pair_of("llama"), 2, "shared", {"moved": {"reposition": "rotate"}})


def test_an_empty_message_of_latents_has_no_bytes() -> None:
    model = traced(tiny_neox(1))
    message: KeyValues = model.key_values(model.pack([PROMPT])).last(0)
    assert message.lengths == (0,)
    assert message.sent_bytes == (0,)
