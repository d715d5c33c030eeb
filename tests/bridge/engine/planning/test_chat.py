"""Chat templates: the prompts that a model reads, and the answers after them."""

from __future__ import annotations

from typing import Any

import pytest

from statebridge.errors import ExperimentError, PairError
from statebridge.models.chat import TEMPLATE_DATE, as_turns, encoded, template_tail
from statebridge.models.pair import Pair
from statebridge.runs.plan import shared_end
from tests.bridge.engine.private_points import CLOSE, PAIRS, translators_of
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    dataset_rows,
    engine_pair,
    neox_pair,
    run_engine,
)
from tests.tiny_models import mixed_rows, tiny_llama_tokenizer, tiny_tokenizer

ROWS = dataset_rows(mixed_rows(6, seed=8))
SENDERS = "User: {{ messages[0]['content'] }}\nBot:"
# The template gives the beginning itself, which the tokenizer would add to text as it is.
RECEIVERS = "{{ bos_token }}Q: {{ messages[0]['content'] | trim }}\nReply:"
CONDITIONS = ["question_only", "skyline", "private_relay", "activation_replace"]
FIELDS: dict[str, Any] = {
    "conditions": CONDITIONS,
    "decoding": {"max_new_tokens": 6, "relay_max_new_tokens": 5},
}
PROMPTS = {
    "task": "{context} {question}",
    "sender": "{context}",
    "question_only": "{question}",
    "relay_sender": "{context} Tell:",
    "relay_receiver": "{relay} {question}",
}


def _pair(*, senders: str | None = SENDERS, receivers: str | None = RECEIVERS) -> Pair:
    """A GPT-NeoX sender and a Llama receiver, each with a tokenizer and a template of its own."""
    pair = engine_pair(PAIRS["two-tokenizers"][0]())
    pair.sender.tokenizer.chat_template = senders
    pair.receiver.tokenizer.chat_template = receivers
    return pair


def _run(pair: Pair, prompts: dict[str, str], path: str = "shared", **fields: Any) -> EngineRun:
    declared = FIELDS | {"prompts": prompts, "execution": {"path": path}} | fields
    return run_engine(pair, ROWS, {}, **declared)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_a_template_is_the_text_that_it_makes(path: str) -> None:
    found = _run(_pair(), PROMPTS | {"chat": "required"}, path)
    written_out = {
        "task": f"Q: {PROMPTS['task']}\nReply:",
        "sender": f"User: {PROMPTS['sender']}\nBot:",
        "question_only": f"Q: {PROMPTS['question_only']}\nReply:",
        "relay_sender": f"User: {PROMPTS['relay_sender']}\nBot:",
        "relay_receiver": f"Q: {PROMPTS['relay_receiver']}\nReply:",
    }
    by_hand = _run(_pair(), written_out, path)
    assert found.rows.keys() == by_hand.rows.keys()
    for key, row in found.rows.items():
        other = by_hand.rows[key]
        for name in (
            "token_ids",
            "prompt_len_receiver",
            "prompt_len_sender",
            "relay",
            "relay_prompt_len",
        ):
            assert getattr(row, name) == getattr(other, name), (*key, name)
        # Answers of another length go through the plain path's passes beside the prompt.
        assert row.kl_from_no_inject == pytest.approx(other.kl_from_no_inject, **CLOSE)
        # A turn begins without the space that text goes on with.
        assert row.gold_logprob != other.gold_logprob
    plain = _run(_pair(), PROMPTS, path)
    assert any(plain.rows[key].token_ids != row.token_ids for key, row in found.rows.items())


def test_the_answer_begins_the_turn_without_a_space() -> None:
    work = _run(_pair(), PROMPTS | {"chat": "auto"}, decode=False).workload
    tokenizer = work.pair.receiver.tokenizer
    for row, answer in zip(ROWS, work.plan.answers["question_only"], strict=True):
        assert list(answer) == tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(answer) == row.answer
    ids = work.plan.prompts.private["question_only"][0]
    assert list(ids).count(tokenizer.bos_token_id) == 1


@pytest.mark.slow
def test_a_base_model_is_unaffected() -> None:
    base = _run(_pair(senders=None, receivers=None), PROMPTS | {"chat": "auto"})
    assert base.rows == _run(_pair(), PROMPTS).rows
    one = _run(_pair(senders=None), PROMPTS | {"chat": "auto"}).workload.plan.prompts
    assert one.sender == base.workload.plan.prompts.sender
    assert one.receiver != base.workload.plan.prompts.receiver


@pytest.mark.parametrize("missing", ["senders", "receivers"])
def test_a_template_that_a_model_lacks(missing: str) -> None:
    with pytest.raises(PairError, match=r"^tiny-\w+: its tokenizer has no chat template, .*none"):
        _run(_pair(**{missing: None}), PROMPTS | {"chat": "required"})  # type: ignore[arg-type]


def test_a_template_that_fails() -> None:
    failing = "{{ raise_exception('a system turn\nis needed') }}"
    with pytest.raises(PairError, match=r"tiny-receiver: .* fails .*: a system turn is needed; "):
        _run(_pair(receivers=failing), PROMPTS | {"chat": "auto"})


def test_a_turn_is_never_cut() -> None:
    limit = {"max_new_tokens": 2, "relay_max_new_tokens": 2, "max_prompt_tokens": 12}
    words = r"^row \S+: \d+ prompt tokens of tiny-\w+ in its chat template are more .*\(12\)"
    with pytest.raises(PairError, match=words):
        _run(_pair(), PROMPTS | {"chat": "required"}, decoding=limit)
    assert (
        max(map(len, _run(_pair(), PROMPTS, decoding=limit).workload.plan.prompts.receiver)) == 12
    )


def test_placeholders_are_refused() -> None:
    with pytest.raises(ExperimentError, match=r"prompts.chat: placeholder_only reads"):
        _run(_pair(), {"chat": "auto"}, conditions=["placeholder_only"])


def test_a_template_is_told_the_same_day_every_day() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}{{ date_string }}: {{ messages[0]['content'] }}"
    )
    assert as_turns(tokenizer, ["Hi"], "m") == [f"{TEMPLATE_DATE}: Hi"]


# ---------------------------------------------------------------- the question, in a template


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_the_question_is_found_at_the_end_of_both_turns(path: str) -> None:
    oracle = neox_pair()
    pair = engine_pair(oracle)
    pair.sender.tokenizer.chat_template = SENDERS
    pair.receiver.tokenizer.chat_template = SENDERS
    prompts = {"task": "{context} Q: {question}", "question_only": "Q: {question}"}
    conditions = ["question_only", "private_question", "private_question_shuffled"]

    def run(chat: dict[str, str]) -> EngineRun:
        return run_engine(
            pair,
            ROWS,
            translators_of(oracle, (42,)),
            conditions=conditions,
            prompts=chat,
            decoding={"max_new_tokens": 5},
            execution={"path": path},
        )

    found = run(prompts | {"chat": "required"})
    by_hand = run({name: f"User: {text}\nBot:" for name, text in prompts.items()})
    for key, row in found.rows.items():
        assert row.token_ids == by_hand.rows[key].token_ids
        assert row.injected_norm_mean == by_hand.rows[key].injected_norm_mean
    table = found.workload.plan.prompts
    tail = template_tail(pair.receiver.tokenizer, "required", "m")
    for row in range(len(ROWS)):
        span = table.span("question_only", "question", row)
        shared = shared_end(table.sender[row], table.private["question_only"][row])
        assert span == (-shared, 0)
        assert shared > tail > 0


def test_the_template_alone_is_no_question() -> None:
    oracle = neox_pair()
    pair = engine_pair(oracle)
    pair.sender.tokenizer.chat_template = SENDERS
    pair.receiver.tokenizer.chat_template = SENDERS
    prompts = {"sender": "{context} the", "question_only": "{question}", "chat": "required"}
    with pytest.raises(PairError, match="finds no question to write at"):
        run_engine(
            pair,
            ROWS,
            translators_of(oracle, (42,)),
            conditions=["private_question"],
            prompts=prompts,
        )


def test_the_tail_of_a_template() -> None:
    tokenizer = tiny_llama_tokenizer()
    assert template_tail(tokenizer, "auto", "m") == 0
    tokenizer.chat_template = RECEIVERS
    tail = template_tail(tokenizer, "auto", "m")
    (ids,), _ = encoded(tokenizer, ["the city"], "auto", "m")
    assert tokenizer.decode(ids[-tail:]) == "\nReply:"
