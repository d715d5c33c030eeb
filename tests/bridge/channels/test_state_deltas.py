"""State deltas on the sender's text, held to the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from statebridge.errors import StatebridgeError
from tests.bridge.channels.prepended import FAMILIES, ROWS, declared, pair_of, run
from tests.bridge.engine.private_points import CLOSE
from tests.reference.decoding import answer_ids, encode
from tests.reference.oracle import OraclePair
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.reference.rollout import input_rows
from tests.reference.soft_tokens import answer_after_vectors
from tests.reference.state_deltas import (
    changed_at_the_start,
    differences,
    greedy_text,
    states_of,
)
from tests.tiny_models import tiny_llama, tiny_tokenizer

NEW, STEPS, LAYERS = 2, 4, (1, 2)
LAST = (1, -1)


def _point(of: str | None = "differences", *, last: bool = False, **more: Any) -> dict[str, Any]:
    soft: dict[str, Any] = {"by": "text", "steps": STEPS}
    if of is not None:
        soft["deltas"] = {"layers": LAYERS, "of": of}
    if last:
        soft["deltas"] |= {"layers": LAST, "last": "final"}
    return {"site": "embedding", "soft_tokens": soft, **more}


POINTS: dict[str, dict[str, Any]] = {
    "text": _point(None),
    "deltas": _point(),
    "null": _point(sender_context="empty"),
    "shuffled": _point(source="shuffled_sender", lone_rows="nearest"),
    "states": _point("states"),
    "final": _point(last=True),
}


def _run(pair: OraclePair, points: dict[str, Any], path: str = "shared", **more: Any) -> Any:
    conditions = [declared(name, **point) for name, point in points.items()]
    return run(pair, 4, path, {}, new=NEW, conditions=conditions, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("neox", "shared"),
        pytest.param("llama", "plain", marks=pytest.mark.soak),
        pytest.param("qwen3", "shared", marks=pytest.mark.soak),
        pytest.param("gemma3", "shared", marks=pytest.mark.soak),
    ],
)
def test_deltas_on_a_text_equal_the_oracle(family: str, path: str) -> None:
    pair, rows = pair_of(family), ROWS[:4]
    tokenizer, inputs = pair.tokenizer, input_rows(pair.receiver)
    done = _run(pair, POINTS, path)
    lengths = [len(encode(tokenizer, TASK.format(**row))) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], 42, "nearest")
    end = tokenizer.eos_token_id
    checked = 0
    for name, point in POINTS.items():
        for index, row in enumerate(rows):
            shuffled = "source" in point
            if shuffled and index not in donors:
                continue
            own = encode(tokenizer, TASK.format(**row))
            if "sender_context" in point:
                own = other_context(tokenizer, Texts(), row, "empty", 256)
            text = greedy_text(pair.sender, own, STEPS, end)
            donor = own
            if shuffled:
                donor = encode(tokenizer, TASK.format(**rows[donors[index]]))
            theirs = greedy_text(pair.sender, donor, STEPS, end)
            changes: dict[int, Any] = {}
            layers = {"text": (), "final": (1, pair.sender.config.num_hidden_layers - 1)}
            for layer in layers.get(name, LAYERS):
                states = states_of(pair.sender, layer, [*donor, *theirs])
                found = differences(states, len(theirs))
                if name == "states":
                    found = list(states[len(donor) :])
                changes[layer] = found[: len(text)]
            question = QUESTION_ONLY.format(**row)
            with changed_at_the_start(pair.receiver, changes):
                expected = answer_after_vectors(
                    pair.receiver,
                    inputs[text],
                    encode(tokenizer, question),
                    answer_ids(tokenizer, question, row["answer"]),
                    inputs,
                    end=end,
                    new=NEW,
                )
            found_row = done.rows[f"my_{name}/seed42" if shuffled else f"my_{name}", row["id"]]
            checked += 1
            assert found_row.message_positions == len(text), name
            assert found_row.token_ids == expected.tokens, name
            assert found_row.gold_logprob == pytest.approx(expected.gold_logprob, **CLOSE), name
            width = pair.receiver.config.hidden_size
            each = 4 if name == "text" else 4 + 2 * 4 * width
            assert found_row.message_bytes == each * len(text)
    assert checked == len(done.rows)


def test_noise_on_a_text_is_the_same_for_a_row_alone() -> None:
    points = {"random": _point("random"), "deltas": _point()}
    pair = pair_of("llama")
    alone = _run(pair, points, rows_together=1).rows
    for key, row in _run(pair, points, rows_together=4).rows.items():
        assert row.token_ids == alone[key].token_ids
        assert row.gold_logprob == pytest.approx(alone[key].gold_logprob, **CLOSE)
    noise, own = ([r.gold_logprob for (c, _), r in alone.items() if n in c] for n in points)
    assert all(abs(a - b) > 1e-6 for a, b in zip(noise, own, strict=True))


@pytest.mark.parametrize(
    ("soft", "words"),
    [
        ({"by": "text", "deltas": {"layers": [4]}}, "deltas at layer 4 are out of range"),
        ({"by": "vocab", "deltas": {"layers": [1]}}, "deltas goes with by: text"),
        ({"by": "text", "temperature": 0.5}, "temperature goes with by: vocab"),
        ({"by": "text", "embedding": "sender"}, "steps and embedding go with by: cipher"),
        ({"by": "text", "deltas": {"layers": [0, 1, 2, 3]}}, "at most 3"),
        (
            {"by": "text", "deltas": {"layers": [1], "last": "final"}},
            "last: final goes with the sender's last layer, 3; add",
        ),
    ],
)
def test_deltas_that_do_not_fit_are_refused(soft: dict[str, Any], words: str) -> None:
    with pytest.raises(StatebridgeError) as caught:
        _run(pair_of("llama"), {"bad": {"site": "embedding", "soft_tokens": soft}}, decode=False)
    assert words in str(caught.value)


def test_deltas_of_another_width_are_refused() -> None:
    wide = OraclePair(
        tiny_llama(1, layers=4, hidden=64), FAMILIES["llama"](2), 1, 1, tiny_tokenizer()
    )
    with pytest.raises(StatebridgeError, match="deltas of width 64 do not fit"):
        _run(wide, {"bad": _point()}, decode=False)


def test_layers_from_the_end_need_models_of_one_depth() -> None:
    deep = OraclePair(tiny_llama(1, layers=5), FAMILIES["llama"](2), 1, 1, tiny_tokenizer())
    with pytest.raises(StatebridgeError, match="-1 are not the same layer in models of 5 and 4"):
        _run(deep, {"bad": _point(last=True)}, decode=False)
