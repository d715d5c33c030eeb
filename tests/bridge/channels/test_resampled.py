"""Soft tokens from learned queries, held to the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from statebridge.channels.soft_tokens import empty_resampler
from statebridge.errors import StatebridgeError
from statebridge.experiment.translator_settings import ResamplerSettings
from statebridge.translators import Translator
from statebridge.translators.modules.maps import initialise
from tests.bridge.channels.prepended import FAMILIES, ROWS, pair_of, run
from tests.bridge.engine.private_points import PAIRS
from tests.bridge.engine.tiny_experiment import engine_pair, random_translator
from tests.reference.decoding import answer_ids, encode
from tests.reference.hooks import capture
from tests.reference.oracle import OraclePair, Settings
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.reference.resampled import resampled
from tests.reference.rollout import input_rows
from tests.reference.soft_tokens import answer_after_vectors
from tests.tiny_models import tiny_neox, tiny_tokenizer

NEW, SEED, VECTORS = 2, 42, 3
SOFT = {"site": "embedding", "source": "translated", "soft_tokens": {"by": "resampler"}}
POINTS: dict[str, dict[str, Any]] = {
    "own": {},
    "null": {"sender_context": "empty"},
    "neutral": {"sender_context": "neutral"},
    "shuffled": {"source": "shuffled", "lone_rows": "nearest"},
}


def _drawn(pair: OraclePair) -> Translator:
    settings = ResamplerSettings(vectors=VECTORS, hidden_dim=12, heads=3)
    made = empty_resampler(engine_pair(pair), settings)
    initialise(made.map, torch.Generator().manual_seed(3))
    return made.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "together"),
    [("two-tokenizers", "shared", 7), ("two-tokenizers", "shared", 1), ("qwen3", "plain", 3)],
)
def test_every_row_equals_the_oracle(name: str, path: str, together: int) -> None:
    pair = PAIRS[name][0]() if name == "two-tokenizers" else pair_of(name)
    made, limit = _drawn(pair), Settings().max_prompt_tokens
    rows = ROWS[: 7 if together == 7 else 3]
    done = run(
        pair,
        len(rows),
        path,
        {name: SOFT | point for name, point in POINTS.items()},
        new=NEW,
        rows_together=together,
        translators_by_seed={SEED: made},
    )
    inputs, reads, tokenizer = input_rows(pair.receiver), pair.reads_with, pair.tokenizer
    norm = float(inputs.double().norm(dim=1).mean())
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], SEED, "nearest")
    count = 0
    for point_name, point in POINTS.items():
        for index, row in enumerate(rows):
            shuffled = point.get("source") == "shuffled"
            if shuffled and index not in donors:
                continue
            origin = rows[donors[index]] if shuffled else row
            sent = encode(reads, TASK.format(**origin), limit)
            if "sender_context" in point:
                sent = other_context(reads, Texts(), row, point["sender_context"], limit)
            states = capture(pair.sender, pair.sender_layer, sent)[0]
            text = QUESTION_ONLY.format(**row)
            expected = answer_after_vectors(
                pair.receiver,
                resampled(states, made.weights(), heads=3, norm=norm),
                encode(tokenizer, text, limit),
                answer_ids(tokenizer, text, row["answer"]),
                inputs,
                end=tokenizer.eos_token_id,
                new=NEW,
            )
            lane = done.rows[f"my_{point_name}/seed{SEED}", row["id"]]
            count += 1
            assert lane.token_ids == expected.tokens
            # Sums in float32 against float64.
            assert lane.gold_logprob == pytest.approx(expected.gold_logprob, rel=1e-4, abs=1e-4)
            assert lane.message_positions == VECTORS
            assert lane.message_bytes == VECTORS * inputs.shape[1] * 4
    assert count == len(done.rows)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (SOFT | {"source": "sender"}, "use source translated or shuffled, not sender"),
        (
            SOFT | {"soft_tokens": {"by": "vocab"}},
            "use source sender or shuffled_sender, not translated",
        ),
        (SOFT | {"soft_tokens": {"by": "resampler", "steps": 3}}, "steps and embedding go with"),
        (SOFT | {"source_positions": "last"}, "takes source_positions all"),
        (SOFT, "of kind affine, and soft_tokens by resampler need resampler"),
    ],
)
def test_points_that_do_not_fit_together_are_refused(point: dict[str, Any], words: str) -> None:
    pair = pair_of("llama")
    affine = {SEED: random_translator(32, 32, SEED)}
    with pytest.raises(StatebridgeError, match=words):
        run(pair, 2, "shared", {"m": point}, translators_by_seed=affine)


def test_resamplers_of_another_pair_and_of_states_are_refused() -> None:
    mixed = OraclePair(FAMILIES["llama"](1), tiny_neox(2, hidden=48), 1, 1, tiny_tokenizer())
    other = {SEED: _drawn(mixed)}
    with pytest.raises(StatebridgeError, match="its resampler maps width 32 to 48"):
        run(pair_of("llama"), 2, "shared", {"m": SOFT}, translators_by_seed=other)
    last = {"name": "m", "source": "translated", "prompt": "question_only"}
    conditions = [last | {"positions": "last", "source_positions": "last"}]
    with pytest.raises(StatebridgeError, match="makes soft tokens, not states"):
        run(pair_of("llama"), 2, "shared", {}, conditions=conditions, translators_by_seed=other)
