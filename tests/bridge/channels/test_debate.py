"""A debate equals an independent loop: one row at a time, hooks of nothing, `generate` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.errors import ExperimentError, PairError
from tests.bridge.engine.private_points import CLOSE, PAIRS
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    run_engine,
)
from tests.reference.decoding import answer_ids, encode, generate, gold_measures, text_of
from tests.reference.oracle import OraclePair
from tests.tiny_models import mixed_rows

ROWS = mixed_rows(5, seed=11)
TASK = "Context: {context}\nQ: {question}\nA:"
ALONE = "Q: {question}\nA:"
SENDER = "Context: {context}\nQ: {question}\nYour answer: {own}\nAnother answer: {other}\nA:"
RECEIVER = "Q: {question}\nYour answer: {own}\nAnother answer: {other}\nA:"
DECODING: dict[str, Any] = {"max_new_tokens": 7, "relay_max_new_tokens": 5}
DEBATES: dict[str, dict[str, Any]] = {
    "debate": {},
    "longer": {"name": "longer", "source": "none", "prompt": "debate", "rounds": 4},
}


def _pair(kind: str) -> OraclePair:
    makers = {
        "neox": neox_pair,
        "llama": llama_pair,
        "two-tokenizers": PAIRS["two-tokenizers"][0],
    }
    return makers[kind]()


def _end(model: Any) -> int:
    return int(model.generation_config.eos_token_id)


def _answer(model: Any, tokenizer: Any, text: str, new_tokens: int) -> list[int]:
    return generate(
        model,
        encode(tokenizer, text),
        end=_end(model),
        max_new_tokens=new_tokens,
        repetition_penalty=1.3,
        no_repeat_ngram_size=3,
    )


def _debate(pair: OraclePair, row: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """The debate of one row, written down plainly."""
    sender, receiver = pair.sender, pair.receiver
    sent = text_of(pair.reads_with, _answer(sender, pair.reads_with, TASK.format(**row), 5))
    own = text_of(pair.tokenizer, _answer(receiver, pair.tokenizer, ALONE.format(**row), 5))
    for _ in range(rounds - 2):
        asked = SENDER.format(**row, own=sent, other=own)
        read = RECEIVER.format(**row, own=own, other=sent)
        sent = text_of(pair.reads_with, _answer(sender, pair.reads_with, asked, 5))
        own = text_of(pair.tokenizer, _answer(receiver, pair.tokenizer, read, 5))
    last = RECEIVER.format(**row, own=own, other=sent)
    gold = answer_ids(pair.tokenizer, last, row["answer"])
    ids = encode(pair.tokenizer, last)
    return {
        "token_ids": tuple(_answer(receiver, pair.tokenizer, last, 7)),
        "prompt_len_receiver": len(ids),
        "relay": sent,
        "gold_logprob": gold_measures(receiver, 0, ids, gold, None).logprob,
    }


@cache
def _expected(kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The debates of all rows, by condition and row id; both paths are held to them."""
    pair = _pair(kind)
    return {
        (name, row["id"]): _debate(pair, row, rounds)
        for name, rounds in (("debate", 2), ("longer", 4))
        for row in ROWS
    }


def _run(pair: OraclePair, rows: Sequence[Mapping[str, str]] = ROWS, **fields: Any) -> EngineRun:
    declared = {
        "conditions": ["debate", DEBATES["longer"], "question_only"],
        "decoding": DECODING,
    }
    return run_engine(engine_pair(pair), dataset_rows(rows), {}, **(declared | fields))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
@pytest.mark.parametrize("kind", ["neox", "llama", "two-tokenizers"])
def test_both_paths_equal_the_loop(kind: str, path: str) -> None:
    run = _run(_pair(kind), execution={"path": path}, rows_together=4)
    spoken = set()
    for name, rounds in (("debate", 2), ("longer", 4)):
        for row in ROWS:
            found, expected = run.rows[name, row["id"]], _expected(kind)[name, row["id"]]
            for field in ("token_ids", "prompt_len_receiver", "relay"):
                assert getattr(found, field) == expected[field], (name, row["id"], field)
            assert found.gold_logprob == pytest.approx(expected["gold_logprob"], **CLOSE)
            assert found.turns is not None
            assert [turn.model for turn in found.turns] == ["sender", "receiver"] * (rounds - 1)
            assert found.turns[-2].text == found.relay
            assert all(1 <= turn.new_tokens <= 5 for turn in found.turns)
            # The receiver's first answer is what it says alone, in fewer tokens.
            alone = run.rows["question_only", row["id"]].token_ids
            first = found.turns[1]
            assert alone is not None
            tokenizer = run.workload.pair.receiver.tokenizer
            assert first.text == text_of(tokenizer, list(alone[: first.new_tokens]))
            spoken.add(found.relay)
    assert len(spoken) > 2


def test_a_debate_of_templates_of_ones_own() -> None:
    pair = neox_pair()
    prompts = {"debate_receiver": "{question} {other} A:", "debate_sender": "{own} {other}:"}
    run = _run(pair, ROWS[:3], conditions=["debate"], prompts=prompts)
    for row in ROWS[:3]:
        sent = text_of(pair.tokenizer, _answer(pair.sender, pair.tokenizer, TASK.format(**row), 5))
        text = f"{row['question']} {sent} A:"
        expected = _answer(pair.receiver, pair.tokenizer, text, 7)
        assert run.rows["debate", row["id"]].token_ids == tuple(expected)


def test_the_receiver_knows_the_context_from_the_sender_only() -> None:
    other = [row | {"context": "the city of Oslo is in Asia"} for row in ROWS]
    first, second = (_run(neox_pair(), rows, conditions=["debate"]) for rows in (ROWS, other))
    changed = 0
    for row in ROWS:
        one, two = first.rows["debate", row["id"]], second.rows["debate", row["id"]]
        assert one.turns is not None
        assert two.turns is not None
        assert one.turns[1] == two.turns[1]
        changed += one.turns[0] != two.turns[0]
        if one.turns[0] == two.turns[0]:
            assert one.token_ids == two.token_ids
    assert changed


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_a_debate_that_may_be_cut_is_refused_before_it_runs(path: str) -> None:
    decoding = {"max_new_tokens": 2, "relay_max_new_tokens": 40, "max_prompt_tokens": 100}
    with torch.no_grad(), pytest.raises(PairError) as refused:
        _run(neox_pair(), decoding=decoding, execution={"path": path})
    message = str(refused.value)
    assert message.startswith(f"row {ROWS[0]['id']}: the sender's prompt may have")
    assert "80 of them written before, and cannot be cut at 100; raise" in message


def test_a_debate_beyond_the_window_is_refused() -> None:
    pair = neox_pair()
    window = pair.receiver.config.max_position_embeddings
    decoding = {
        "max_new_tokens": 8,
        "relay_max_new_tokens": window // 2,
        "max_prompt_tokens": 4 * window,
    }
    with pytest.raises(PairError, match=r"reach beyond the context window of tiny-"):
        _run(pair, decoding=decoding, conditions=["debate"])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"source": "zero", "prompt": "debate"}, "the debate prompt goes with source none"),
        ({"source": "none", "prompt": "task", "rounds": 3}, "rounds goes with prompt: debate"),
        ({"source": "none", "prompt": "debate", "rounds": 1}, "give a number of at least 2"),
    ],
)
def test_conditions_that_make_no_sense(condition: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        _run(neox_pair(), conditions=[{"name": "odd", **condition}])


def test_a_template_with_an_unknown_field() -> None:
    with pytest.raises(ExperimentError, match=r"debate_sender.*unknown placeholder \['relay'\]"):
        _run(neox_pair(), prompts={"debate_sender": "{relay}"})
