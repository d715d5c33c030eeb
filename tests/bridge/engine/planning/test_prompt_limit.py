"""A prompt that is too long keeps its question, or is refused; a cut is declared and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from statebridge.channels.inputs.prompt_limit import LimitedPrompts, limited_prompts
from statebridge.data import read_jsonl
from statebridge.engine.cautions import run_cautions
from statebridge.errors import PairError
from statebridge.experiment.experiment import Decoding, Prompts
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair, run_engine
from tests.shared_data import SHARED, needs_shared
from tests.tiny_models import tiny_tokenizer

QUESTION = "Which city is Mei in?"
ROWS = [
    DatasetRow("short", "Mei is in Oslo.", QUESTION, "Oslo"),
    DatasetRow("long", "Mei went to the garden. " * 30, QUESTION, "Oslo"),
]
CHAT = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"


def _model(tokenizer: Any, vocabulary: int = 50432) -> TracedModel:
    config = GPTNeoXConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=vocabulary,
    )
    with torch.device("meta"):
        module = GPTNeoXForCausalLM(config)
    return TracedModel.without_weights(module, tokenizer, 0, "tiny")


def _limited(rows: Sequence[DatasetRow], template: str | None = None, **decoding: Any) -> Any:
    chat = decoding.pop("chat", "none")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    prompts = Prompts(chat=chat)
    return limited_prompts(
        _model(tokenizer), template or prompts.task, rows, prompts, Decoding(**decoding)
    )


def test_a_long_prompt_is_refused_and_all_of_them_are_counted() -> None:
    with pytest.raises(PairError) as caught:
        _limited(
            [*ROWS, *(DatasetRow(f"r{i}", "a " * 90, QUESTION, "b") for i in range(3))],
            max_prompt_tokens=80,
        )
    message = str(caught.value)
    assert message.startswith("row long: ")
    assert "max_prompt_tokens (80), as in 4 of 5 rows, and a cut would take the question" in message
    assert "decoding.truncate: context" in message


@pytest.mark.parametrize("chat", ["none", "required"])
@pytest.mark.parametrize("limit", [40, 60, 100])
def test_a_shorter_context_leaves_the_question(limit: int, chat: str) -> None:
    found = _limited(ROWS, max_prompt_tokens=limit, truncate="context", chat=chat)
    assert found.cut == {1}
    assert found.rows[0] is ROWS[0]
    kept = found.rows[1].context
    assert kept
    assert ROWS[1].context.startswith(kept)
    text = tiny_tokenizer().decode(found.ids[1])
    assert f"{kept}\nQ: {QUESTION}\nA:" in text
    # The longest that fits: another word is too much.
    assert limit - 8 <= len(found.ids[1]) <= limit


def test_a_context_without_spaces_is_cut_between_characters() -> None:
    row = DatasetRow("r", "東京" * 80, QUESTION, "b")
    found = _limited([row], max_prompt_tokens=80, truncate="context")
    assert 0 < len(found.rows[0].context) < 160
    assert len(found.ids[0]) <= 80


def test_a_question_that_fits_in_no_way_is_refused() -> None:
    row = DatasetRow("r", "a", "Which city " * 40 + "?", "b")
    with pytest.raises(PairError, match=r"^row r: its prompt without the context has more than"):
        _limited([row], max_prompt_tokens=60, truncate="context")
    # A prompt that has no context cannot be shortened.
    with pytest.raises(PairError, match=r"^row r: \d+ prompt tokens .* would take the question"):
        _limited([row], "Q: {question}\nA:", max_prompt_tokens=60, truncate="context")


def test_a_cut_on_the_right_is_declared() -> None:
    found: LimitedPrompts = _limited(ROWS, max_prompt_tokens=30, truncate="right")
    assert found.cut == {1}
    assert len(found.ids[1]) == 30
    assert QUESTION not in tiny_tokenizer().decode(found.ids[1])


@pytest.mark.parametrize(
    ("truncate", "words"),
    [
        ("context", "1 of 2 contexts are cut at their end, so that the prompt keeps the question"),
        ("right", "1 of 2 prompts are cut on the right, and with them the question"),
    ],
)
def test_a_run_says_how_many_prompts_were_cut(truncate: str, words: str) -> None:
    decoding = {"max_new_tokens": 1, "max_prompt_tokens": 60, "truncate": truncate}
    fields: dict[str, Any] = {"conditions": ["no_inject"], "dataset": {"generate": {"rows": 2}}}
    done = run_engine(engine_pair(neox_pair()), ROWS, {}, decoding=decoding, **fields)
    (caution,) = run_cautions(done.workload)
    assert caution.startswith(words)
    assert caution.endswith(": long.")


def test_a_relay_keeps_the_end_of_its_prompt() -> None:
    decoding = {"max_new_tokens": 1, "relay_max_new_tokens": 9, "max_prompt_tokens": 60}
    fields: dict[str, Any] = {"conditions": ["nl_relay"]}
    pair = engine_pair(neox_pair())
    done = run_engine(pair, ROWS, {}, decoding=decoding | {"truncate": "context"}, **fields)
    lane = done.rows["nl_relay", "long"]
    assert lane.relay_prompt_len is not None
    assert 50 <= lane.relay_prompt_len <= 60
    with pytest.raises(PairError, match=r"decoding\.truncate: context"):
        run_engine(pair, ROWS, {}, decoding=decoding | {"truncate": None}, **fields)
    # The receiver's prompt with the longest relay has to fit, because a cut takes the question.
    long_relay = decoding | {"truncate": "context", "relay_max_new_tokens": 50}
    with pytest.raises(PairError, match=r"the receiver's prompt may have \d+ tokens, 50 of"):
        run_engine(pair, ROWS, {}, decoding=long_relay, **fields)


@cache
def _pythia() -> TracedModel:
    return _model(PreTrainedTokenizerFast.from_pretrained(SHARED / "tokenizer"))


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    ("file", "rows", "long"), [("musique_gold", 300, 194), ("hotpotqa_gold", 397, 130)]
)
def test_every_row_of_real_sets_keeps_its_question(file: str, rows: int, long: int) -> None:
    read = read_jsonl(SHARED / "qa" / f"{file}.jsonl")
    model, prompts = _pythia(), Prompts()
    with pytest.raises(PairError, match=rf"as in {long} of {rows} rows"):
        limited_prompts(model, prompts.task, read, prompts, Decoding())
    found = limited_prompts(model, prompts.task, read, prompts, Decoding(truncate="context"))
    assert (len(found.ids), len(found.cut)) == (rows, long)
    for row, ids in zip(read, found.ids, strict=True):
        assert len(ids) <= 256
        assert model.tokenizer.decode(ids).endswith(f"\nQ: {row.question}\nA:")


@needs_shared
def test_no_row_of_the_published_set_is_cut() -> None:
    rows = read_jsonl(SHARED / "multihop" / "clean_eval.jsonl")
    assert limited_prompts(_pythia(), Prompts().task, rows, Prompts(), Decoding()).cut == set()


def test_the_setting_says_nothing_where_it_is_not_given() -> None:
    # So that a run directory of an earlier version is the same run.
    assert json.loads(Decoding().model_dump_json())["truncate"] is None
