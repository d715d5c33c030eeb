"""Noise and zeros in place of a message, held to the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from statebridge.channels.messages.key_value_maps import empty_map
from statebridge.errors import StatebridgeError
from statebridge.experiment.experiment import Causal
from statebridge.experiment.presets import CONDITIONS
from statebridge.experiment.translator_settings import KeyValueSettings
from statebridge.tables.condition_words import condition_words, control_word
from statebridge.translators import Translator
from tests.bridge.channels.prepended import ROWS, pair_of, run
from tests.bridge.engine.tiny_experiment import engine_pair
from tests.reference.decoding import answer_ids, encode
from tests.reference.filled import filled_entries, filled_part
from tests.reference.key_values import answer_behind, read_cache
from tests.reference.oracle import OraclePair
from tests.reference.points import QUESTION_ONLY, TASK
from tests.reference.rollout import input_rows
from tests.reference.soft_tokens import answer_after_vectors, mixed_by_vocabulary

NEW, SEED = 2, 42
# The norms are rounded sums in float32.
CLOSE: dict[str, Any] = {"rel": 1e-4, "abs": 1e-4}
SOFT = {"site": "embedding", "soft_tokens": {"by": "vocab"}}
POINTS: dict[str, dict[str, Any]] = {
    "noise": {"filled_with": "random"},
    "zero": {"filled_with": "zero"},
    "short": {"filled_with": "random", "layers": [2]},
    "mapped": {"filled_with": "random", "source": "translated"},
    "soft_noise": SOFT | {"filled_with": "random"},
    "soft_zero": SOFT | {"filled_with": "zero"},
}


def _identity(pair: OraclePair) -> Translator:
    made = empty_map(engine_pair(pair), KeyValueSettings(heads="same", sources=1))
    weights = made.weights()
    weights["chosen"] = torch.arange(4.0)[:, None]
    weights["weight"] = torch.eye(8).expand_as(weights["weight"]).contiguous()
    made.set_weights(weights, where="test")
    return made


def _expected(pair: OraclePair, point: dict[str, Any], row: dict[str, str]) -> Any:
    tokenizer, what = pair.tokenizer, point["filled_with"]
    sent, text = encode(tokenizer, TASK.format(**row)), QUESTION_ONLY.format(**row)
    prompt, gold = encode(tokenizer, text), answer_ids(tokenizer, text, row["answer"])
    seed, end = SEED if what == "random" else None, tokenizer.eos_token_id
    if "site" not in point:
        cache = filled_entries(read_cache(pair.sender, sent), what, seed, [sent])
        layers = point.get("layers", range(4))
        return answer_behind(pair.receiver, cache, prompt, layers, gold, end=end, new=NEW)
    inputs = input_rows(pair.receiver)
    shared = [(i, i) for i in sorted(tokenizer.get_vocab().values())]
    own = mixed_by_vocabulary(pair.sender, sent, shared, inputs, 1.0)
    vectors = filled_part(own, what, f"{seed} vector {(tuple(sent),)}")
    return answer_after_vectors(pair.receiver, vectors, prompt, gold, inputs, end=end, new=NEW)


@pytest.mark.parametrize(
    ("family", "path", "together"),
    [("llama", "shared", 3), pytest.param("neox", "plain", 1, marks=pytest.mark.soak)],
)
def test_noise_and_zeros_equal_the_oracle(family: str, path: str, together: int) -> None:
    pair, rows = pair_of(family), ROWS[:3]
    made = {SEED: _identity(pair)}
    done = run(pair, 3, path, POINTS, new=NEW, rows_together=together, translators_by_seed=made)
    assert len(done.rows) == len(POINTS) * len(rows)
    for name, point in POINTS.items():
        cell = f"my_{name}/seed{SEED}" if point["filled_with"] == "random" else f"my_{name}"
        for row in rows:
            found, expected = done.rows[cell, row["id"]], _expected(pair, point, row)
            assert found.message_positions == found.prompt_len_sender
            assert found.token_ids == expected.tokens, name
            assert found.gold_logprob == pytest.approx(expected.gold_logprob, **CLOSE), name


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"source": "random"}, "not random; for random messages set filled_with: random"),
        (SOFT | {"source": "zero"}, "not zero; for zero messages set filled_with: zero"),
        ({"site": None, "operator": "blend"}, "here use source random or zero"),
        ({"source": "translated", "operator": "fuse"}, "here use fuse: {sharer: zero}"),
        ({"source": "shuffled_sender"}, "replaces the row's own message"),
        ({"sender_context": "empty"}, "and no sender_context"),
        ({"source": "mean"}, "use source sender or translated"),
        (
            {"site": "embedding", "soft_tokens": {"by": "text"}},
            "because a token's id has no norm; use a shuffled source",
        ),
    ],
)
def test_what_cannot_be_filled_is_refused(point: dict[str, Any], words: str) -> None:
    filled = {} if point.get("source") in ("random", "zero") else {"filled_with": "random"}
    with pytest.raises(StatebridgeError) as caught:
        run(pair_of("llama"), 2, "shared", {"bad": filled | point}, decode=False)
    assert words in str(caught.value)


def test_no_map_is_trained_through_noise() -> None:
    rows = {"generate": {"rows": 9}}
    with pytest.raises(ValueError, match="kv_mapped_noise sends no content; leave filled_with out"):
        Causal.model_validate({"rows": rows, "through": "kv_mapped_noise"})


def test_a_filled_message_is_a_control_of_its_channel() -> None:
    for own in ("kv_all", "kv_mapped", "latent", "vocab_all", "vocab_last", "cipher", "resampled"):
        noise, zeros = CONDITIONS[f"{own}_noise"], CONDITIONS[f"{own}_zero"]
        words = [control_word(CONDITIONS[own], control) for control in (noise, zeros)]
        assert words == ["noise", "zeros"]
        assert {noise.role, zeros.role} == {"control"}
        assert (noise.seeded, zeros.seeded) == (True, CONDITIONS[own].seeded)
    assert control_word(CONDITIONS["kv_all"], CONDITIONS["latent_noise"]) is None
    assert condition_words(CONDITIONS["kv_all_noise"]).startswith(
        "noise in place of the sender's keys and values"
    )
