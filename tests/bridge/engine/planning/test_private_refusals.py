"""A private setting that cannot be run: one line says what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from statebridge.errors import ExperimentError, PairError, StatebridgeError
from statebridge.records import DatasetRow
from tests.bridge.engine.tiny_experiment import (
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import OraclePair
from tests.tiny_models import (
    VOCAB,
    tiny_gpt2,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_tokenizer,
)

PATHS = ("shared", "plain")
ROWS = [
    DatasetRow("a", "Bob in Lima", "Who is in Lima?", "Bob"),
    DatasetRow("b", "Mei in Oslo and Omar in Rome", "Who is in Rome?", "Omar"),
]
ALL_POSITIONS = {"name": "mine", "source": "translated", "prompt": "question_only"}
ON_THE_QUESTION = {**ALL_POSITIONS, "positions": "question", "source_positions": "question"}
ZERO_QUESTION = {
    "name": "mine",
    "source": "zero",
    "prompt": "question_only",
    "positions": "question",
}


def _run(
    conditions: list[Any],
    rows: list[DatasetRow] = ROWS,
    pair: OraclePair | None = None,
    **fields: Any,
) -> Any:
    pair = pair or neox_pair()
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    translators = {42: random_translator(*widths, seed=42)}
    fields.setdefault("decode", False)
    return run_engine(engine_pair(pair), rows, translators, conditions=conditions, **fields).rows


@contextmanager
def refused(error: type[StatebridgeError], *words: str) -> Iterator[None]:
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert message.isprintable()
    for word in words:
        assert word in message, message


def _two_tokenizers(sender_tokenizer: Any) -> OraclePair:
    return replace(
        neox_pair(),
        sender=tiny_neox(1, layers=2, hidden=24, heads=3, vocab=VOCAB + 2, end_share=0),
        sender_layer=0,
        sender_tokenizer=sender_tokenizer,
    )


@pytest.mark.parametrize("path", PATHS)
def test_all_positions_do_not_meet_where_the_receiver_reads_less(path: str) -> None:
    for source in ("translated", "shuffled"):
        condition = {**ALL_POSITIONS, "source": source}
        words = ("row a", "condition mine", "does not see the context", "last or question")
        with refused(PairError, *words):
            _run([condition], execution={"path": path})


def test_two_tokenizers_share_no_question() -> None:
    words = ("row a", "tiny-sender and tiny-receiver", "same tokens", "one tokenizer", "last")
    for condition in (ON_THE_QUESTION, ZERO_QUESTION, "private_question_shuffled"):
        with refused(PairError, *words):
            _run([condition], pair=_two_tokenizers(tiny_llama_tokenizer()))


def test_equal_ids_that_stand_for_other_text_are_no_question() -> None:
    # A receiver's tokenizer with two of its words swapped: ids agree, what they say does not.
    swapped = tiny_tokenizer().backend_tokenizer.to_str()
    swapped = swapped.replace('":":', '"@@":').replace('";":', '":":').replace('"@@":', '";":')
    from tokenizers import Tokenizer

    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(swapped), eos_token="<|endoftext|>"
    )
    prompts = {"sender": "{context} Q: {question}\nA;"}
    assert other("A;")["input_ids"] == tiny_tokenizer()("A:")["input_ids"]
    with refused(PairError, "row a", "do not end in the same tokens"):
        _run([ZERO_QUESTION], pair=_two_tokenizers(other), prompts=prompts)


def test_a_question_that_nobody_sends_is_looked_for_all_the_same() -> None:
    # No condition reads the sender, so that its prompt has to be made for this alone.
    prompts = {"sender": "{question}\nA: {context}"}
    with refused(PairError, "row a", "do not end in the same tokens"):
        _run([ZERO_QUESTION], prompts=prompts)
    with_sender = _run([ZERO_QUESTION, "private_last"])
    alone = _run([ZERO_QUESTION])
    for key, row in alone.items():
        assert row == with_sender[key]


@pytest.mark.parametrize("limit", [4, 11])
def test_a_question_that_is_cut_off_is_refused(limit: int) -> None:
    decoding = {"max_prompt_tokens": limit}
    words = ("row a", f"cut at {limit} tokens", "decoding.max_prompt_tokens", "condition")
    for condition in (ON_THE_QUESTION, ZERO_QUESTION):
        with refused(PairError, *words):
            _run([condition], decoding=decoding)
    # The last position of what is left is another matter, as it is in the shared setting.
    assert len(_run(["private_last", "question_only"], decoding=decoding)) == 4


def test_a_prompt_of_exactly_the_limit_is_not_cut() -> None:
    longest = max(
        len(tiny_tokenizer()(f"Context: {r.context}\nQ: {r.question}\nA:")["input_ids"])
        for r in ROWS
    )
    _run([ON_THE_QUESTION], decoding={"max_prompt_tokens": longest})
    with refused(PairError, "row b", f"cut at {longest - 1} tokens"):
        _run([ON_THE_QUESTION], decoding={"max_prompt_tokens": longest - 1})


def test_a_donor_shorter_than_the_question_is_refused() -> None:
    rows = [
        DatasetRow("short", "a", "Who?", "Bob"),
        DatasetRow("long", "a", "Which city is Bob in and which city is Mei in and Omar?", "Rome"),
    ]
    words = ("row short", "shorter than the question of row long", "positions: last")
    with refused(PairError, *words, "condition private_question_shuffled"):
        _run(["private_question_shuffled"], rows)


@pytest.mark.parametrize("length", [0, 3])
def test_a_row_without_a_context_has_no_place_for_placeholders(length: int) -> None:
    rows = [*ROWS, DatasetRow("none", "", "Who?", "Bob")][length and 2 :]
    with refused(PairError, "row none", "context is empty", "prompt: question_only"):
        _run(["placeholder_only"], rows)


def test_a_context_that_is_cut_off_whole_is_not_called_empty() -> None:
    with refused(PairError, "row a", "after the first 2 tokens", "max_prompt_tokens"):
        _run(
            ["placeholder_only"],
            prompts={"task": "{question} Which city of the city? {context}"},
            decoding={"max_prompt_tokens": 2},
        )


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("Q: {question}\nA:", "prompts.task has no {context}"),
        ("{{context}} Q: {question}\nA:", "prompts.task has no {context}"),
        ("{context} {question} {context}", "{context} 2 times"),
    ],
)
def test_a_placeholder_prompt_needs_one_context(task: str, words: str) -> None:
    with refused(PairError, words):
        _run(["placeholder_only"], prompts={"task": task})


def test_literal_braces_before_the_context_are_counted() -> None:
    # {{x}} is three characters, {question} a whole question.
    task = "{{x}} {question} {context}\nQ: {question}\nA:"
    found = _run(["placeholder_only", "private_placeholder"], prompts={"task": task})
    assert len(found) == 4


@pytest.mark.parametrize(("text", "count"), [(" Lima Oslo", 2), ("東", 3)])
def test_a_placeholder_of_several_tokens_is_refused(text: str, count: int) -> None:
    with refused(PairError, "prompts.placeholder_token", f"is {count} tokens", "a single one"):
        _run(["placeholder_only"], prompts={"placeholder_token": text})


def test_a_tokenizer_without_offsets_is_refused() -> None:
    pair = neox_pair()

    class Slow:
        """A tokenizer as it is without its fast half."""

        is_fast = False

        def __getattr__(self, name: str) -> Any:
            return getattr(pair.tokenizer, name)

        def __call__(self, text: Any, **options: Any) -> Any:
            assert "return_offsets_mapping" not in options
            return pair.tokenizer(text, **options)

    engine = engine_pair(pair)
    slow = replace(engine, receiver=replace(engine.receiver, tokenizer=Slow()))
    with refused(PairError, "tiny-receiver", "placeholder prompt cannot", "question_only"):
        run_engine(slow, ROWS, {}, conditions=["placeholder_only"], decode=False)
    assert len(run_engine(slow, ROWS, {}, conditions=["question_only"], decode=False).rows) == 2


@pytest.mark.parametrize("prompts", [{"sender": "{context}\nQ: {question}\nA:"}, {}])
def test_placeholders_need_the_senders_very_tokens(prompts: dict[str, str]) -> None:
    other = tiny_tokenizer()
    # As many tokens as before, but others and at other places.
    other.add_tokens([" in Oslo", "ei "])
    rows = ROWS if prompts else [DatasetRow("a", "Mei in Oslo", "Who?", "Mei")]
    pair = None if prompts else _two_tokenizers(other)
    words = ("row a", "placeholder prompt", "position by position", "no prompts.sender")
    with refused(PairError, *words, "condition private_placeholder"):
        _run(["private_placeholder"], rows, pair, prompts=prompts)


def test_explicit_positions_count_in_the_question_only_prompt() -> None:
    length = len(tiny_tokenizer()("Q: Who is in Lima?\nA:")["input_ids"])
    condition = {**ZERO_QUESTION, "positions": [length]}
    with refused(ExperimentError, "row a", f"has {length} prompt tokens", f"position {length} "):
        _run([condition])


def test_a_context_may_be_longer_than_the_receivers_window() -> None:
    """The receiver never reads it where its prompt is the question."""
    window = 24
    pair = replace(
        neox_pair(),
        receiver=tiny_gpt2(
            2, layers=2, hidden=24, heads=2, end_share=0, max_position_embeddings=window
        ),
        receiver_layer=0,
    )
    rows = [DatasetRow("long", "city " * 60, "Who?", "Bob"), *ROWS]
    decoding = {"max_new_tokens": 2}
    assert len(_run(["question_only", "private_last"], rows, pair, decoding=decoding)) == 6
    for condition in ("skyline", "placeholder_only", "private_relay"):
        with refused(PairError, "row long", "tiny-receiver (24)"):
            _run(["question_only", condition], rows, pair, decoding=decoding)
