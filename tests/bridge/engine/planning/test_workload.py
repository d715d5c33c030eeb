"""Checks before a forward pass, and gold answers after prompts that were cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from statebridge.errors import ExperimentError, PairError, StatebridgeError, TranslatorError
from statebridge.records import DatasetRow
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import OraclePair, run_cell
from tests.tiny_models import (
    VOCAB,
    mixed_rows,
    tiny_gpt2,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_tokenizer,
)

SHORT = {"max_new_tokens": 3, "relay_max_new_tokens": 3}
PATHS = ("shared", "plain")


def _neox(seed: int, hidden: int = 16, **settings: Any) -> Any:
    return tiny_neox(seed, layers=2, hidden=hidden, heads=2, end_share=0, **settings)


def _gpt2(window: int) -> Any:
    # Learned positions: one beyond the window is an error of torch, not a worse answer.
    return tiny_gpt2(2, layers=2, hidden=16, heads=2, end_share=0, max_position_embeddings=window)


def _pair(**changes: Any) -> OraclePair:
    fields: dict[str, Any] = {
        "sender": _neox(1),
        "receiver": _neox(2, hidden=24),
        "sender_layer": 0,
        "receiver_layer": 0,
        "tokenizer": tiny_tokenizer(),
    }
    return OraclePair(**(fields | changes))


@contextmanager
def _refused(error: type[StatebridgeError], *words: str) -> Iterator[None]:
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def _run(pair: OraclePair, rows: Any, conditions: list[Any], **fields: Any) -> Any:
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    translators = {42: random_translator(*widths, seed=42)}
    fields.setdefault("decoding", SHORT)
    return run_engine(engine_pair(pair), rows, translators, conditions=conditions, **fields).rows


def _row(row_id: str, context: str, answer: str = "Peru") -> DatasetRow:
    return DatasetRow(row_id, context, "Who?", answer)


# ---------------------------------------------------------------- gold answers


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cut", [1, 5, 256])
def test_the_gold_answer_of_a_cut_prompt_is_the_answer(path: str, cut: int) -> None:
    """Not the rest of the prompt and then the answer."""
    pair, rows = _pair(), mixed_rows(5)
    decoding = {**SHORT, "max_prompt_tokens": cut}
    for condition in ("no_inject", "nl_relay"):
        found = _run(
            pair, dataset_rows(rows), [condition], decoding=decoding, execution={"path": path}
        )
        for row in run_cell(pair, rows, condition, **decoding):
            got = found[condition, row.row_id]
            assert got.gold_token_count == row.gold_token_count
            assert got.gold_rank == row.gold_rank
            assert got.gold_logprob == pytest.approx(row.gold_logprob, rel=1e-5)


def test_a_beginning_token_is_not_put_into_the_answer() -> None:
    pair = _pair(tokenizer=tiny_llama_tokenizer())
    rows = mixed_rows(5)
    found = _run(pair, dataset_rows(rows), ["no_inject"])
    for row in run_cell(pair, rows, "no_inject", **SHORT):
        assert found["no_inject", row.row_id].gold_token_count == row.gold_token_count
        assert found["no_inject", row.row_id].token_ids == row.token_ids


def test_answers_beyond_the_context_window_are_refused() -> None:
    pair = _pair(receiver=_gpt2(40))
    long_answer = " ".join(["Peru"] * 40)
    rows = [_row("fine", "a"), _row("long", "a", long_answer)]
    for path in PATHS:
        with _refused(PairError, "row long", "40 of the answer", "tiny-receiver (40)"):
            _run(pair, rows, ["no_inject"], execution={"path": path})


@pytest.mark.parametrize("path", PATHS)
def test_a_long_answer_after_a_long_prompt_has_positions(path: str) -> None:
    # Together they share a batch: the pads after the short answer lie beyond the window.
    pair = _pair(receiver=_gpt2(40))
    rows = [_row("prompt", "city " * 22), _row("answer", "a", " ".join(["Peru"] * 20))]
    together = _run(pair, rows, ["no_inject"], execution={"path": path})
    for row in rows:
        alone = _run(pair, [row], ["no_inject"], execution={"path": path})
        key = ("no_inject", row.row_id)
        assert together[key].token_ids == alone[key].token_ids
        assert together[key].gold_logprob == pytest.approx(alone[key].gold_logprob, rel=1e-5)


def test_ids_outside_the_vocabulary_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([" Atlantis"])
    pair = _pair(tokenizer=tokenizer)
    words = (f"token id {VOCAB}", f"({VOCAB})", "belongs to another model")
    with _refused(PairError, "row r", *words):
        _run(pair, [_row("r", "in Atlantis")], ["no_inject"])
    with _refused(PairError, "answer 'Atlantis'", *words):
        _run(pair, [_row("r", "a", "Atlantis")], ["no_inject"])


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("path", PATHS)
def test_prompts_beyond_the_context_window_are_refused(path: str) -> None:
    small = {"max_position_embeddings": 20}
    rows = [_row("short", "a"), _row("long", "city " * 30)]
    execution = {"path": path}
    with _refused(PairError, "row long", "3 new ones", "tiny-receiver (20)", "max_prompt_tokens"):
        _run(_pair(receiver=_neox(2, 24, **small)), rows, ["no_inject"], execution=execution)
    with _refused(PairError, "row long", "tiny-sender (20)"):
        _run(_pair(sender=_neox(1, **small)), rows, ["replace"], execution=execution)
    with _refused(PairError, "row long", "3 new ones", "tiny-sender (20)"):
        _run(_pair(sender=_neox(1, **small)), rows, ["nl_relay"], execution=execution)
    # Cut prompts fit, and a window that is exactly full is no mistake.
    decoding = {**SHORT, "max_prompt_tokens": 17}
    _run(
        _pair(receiver=_neox(2, 24, **small), sender=_neox(1, **small)),
        rows,
        ["no_inject", "replace"],
        decoding=decoding,
        execution=execution,
    )


# ---------------------------------------------------------------- two tokenizers


def _other_tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([" flew to"])
    return tokenizer


def _two_tokenizers() -> OraclePair:
    return _pair(sender=_neox(1, vocab=VOCAB + 1), sender_tokenizer=_other_tokenizer())


def test_different_tokens_are_refused_where_positions_must_meet() -> None:
    rows = [_row("same", "Bob in Lima"), _row("other", "Bob flew to Lima")]
    for condition in ("replace", "scale_corrected", "shuffled_translation"):
        words = ("row other", "tiny-sender", "tiny-receiver", "source_positions: last")
        with _refused(PairError, *words, f"condition {condition} "):
            _run(_two_tokenizers(), rows, [condition])
    # Nothing meets: the last position is read, or the sender is not.
    found = _run(_two_tokenizers(), rows, ["no_inject", "nl_relay", "additive", "same_norm_random"])
    row = found["additive/seed42", "other"]
    assert row.token_ids_match is False
    assert row.seq_len_match is False
    assert row.prompt_len_sender < row.prompt_len_receiver
    assert found["additive/seed42", "same"].token_ids_match is True


def test_the_last_position_crosses_tokenizers_as_in_the_oracle() -> None:
    pair = _two_tokenizers()
    rows = [
        {"id": "a", "context": "Bob flew to Lima", "question": "Who?", "answer": "Bob"},
        {"id": "b", "context": "Bob in Lima and Oslo", "question": "Who?", "answer": "Bob"},
    ]
    translator = random_translator(16, 24, seed=42)
    expected = run_cell(pair, rows, "additive", 42, translator, **SHORT)
    for path in PATHS:
        found = _run(pair, dataset_rows(rows), ["additive"], execution={"path": path})
        for row in expected:
            assert found["additive/seed42", row.row_id].token_ids == row.token_ids
            assert found["additive/seed42", row.row_id].gold_rank == row.gold_rank


def test_a_donor_beyond_the_limit_is_checked_too() -> None:
    pair = _two_tokenizers()
    receiver = pair.tokenizer
    rows = [_row("mine", "Bob was in Lima"), _row("donor", "Bob flew to Lima")]
    lengths = {len(receiver(f"Context: {row.context}\nQ: Who?\nA:")["input_ids"]) for row in rows}
    while len(lengths) > 1:  # one length for the receiver, so that one gives to the other
        shorter = min(rows, key=lambda row: len(receiver(row.context)["input_ids"]))
        place = rows.index(shorter)
        rows[place] = _row(shorter.row_id, shorter.context + " a")
        lengths = {
            len(receiver(f"Context: {row.context}\nQ: Who?\nA:")["input_ids"]) for row in rows
        }
    for rng in ("published", "per-row", "derangement"):
        with _refused(PairError, "row donor", "shuffled_translation"):
            _run(pair, rows, ["shuffled_translation"], limit=1, rng=rng)


def test_positions_read_are_checked_in_the_senders_prompt() -> None:
    pair = _two_tokenizers()
    rows = [_row("r", "Bob flew to Lima")]
    length = len(pair.tokenizer("Context: Bob flew to Lima\nQ: Who?\nA:")["input_ids"])
    condition = {"name": "c", "source": "translated", "source_positions": [length - 1]}
    with _refused(ExperimentError, "condition c", "row r", f"position {length - 1} does not exist"):
        _run(pair, rows, [condition])


def test_positions_that_a_short_prompt_lacks_are_refused_by_row() -> None:
    condition = {"name": "c", "source": "zero", "positions": [0, 12]}
    rows = [_row("long", "city " * 20), _row("short", "a")]
    with _refused(ExperimentError, "condition c", "row short", "position 12"):
        _run(_pair(), rows, [condition])
    assert _run(_pair(), rows, [condition], limit=1).keys() == {("c", "long")}
    decoding = {**SHORT, "max_prompt_tokens": 1}
    both = {"name": "c", "source": "zero", "positions": [0, -1]}
    with _refused(ExperimentError, "one token of row long twice"):
        _run(_pair(), rows, [both], decoding=decoding)


# ---------------------------------------------------------------- widths


def test_a_translator_of_another_width_is_refused() -> None:
    for widths in ((16, 16), (24, 24), (24, 16)):
        with _refused(TranslatorError, "seed 42", f"{widths[0]} to {widths[1]}", "16 to 24"):
            run_engine(
                engine_pair(_pair()),
                [_row("r", "a")],
                {42: random_translator(*widths, seed=1)},
                conditions=["replace"],
            )


@pytest.mark.parametrize("path", PATHS)
def test_raw_states_need_equal_widths_or_an_alignment(path: str) -> None:
    raw: dict[str, Any] = {"name": "raw", "source": "sender"}
    rows = [_row("r", "Bob in Lima"), _row("s", "a")]
    for pair in (_pair(), _pair().reversed()):
        with _refused(PairError, "condition raw", "align: last_dimensions"):
            _run(pair, rows, [raw], execution={"path": path})
        _run(pair, rows, [{**raw, "align": "last_dimensions"}], execution={"path": path})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("hidden", [16, 24, 32])
def test_raw_states_go_into_the_last_dimensions(path: str, hidden: int) -> None:
    """arXiv 2501.14082: the last token's state, last min(width) dimensions."""
    pair = _pair(receiver=_neox(2, hidden=hidden), sender=_neox(1, hidden=24))
    condition = {
        "name": "raw",
        "source": "sender",
        "align": "last_dimensions",
        "positions": "last",
        "source_positions": "last",
    }
    above: list[torch.Tensor] = []
    handle = pair.receiver.gpt_neox.layers[1].register_forward_pre_hook(
        lambda _, inputs: above.append(inputs[0].clone())
    )
    try:
        _run(pair, [_row("r", "Bob in Lima")], [condition], execution={"path": path})
    finally:
        handle.remove()
    ids = torch.tensor([pair.tokenizer("Context: Bob in Lima\nQ: Who?\nA:")["input_ids"]])
    sent = pair.sender(ids, output_hidden_states=True).hidden_states[1][0, -1]
    own = pair.receiver(ids, output_hidden_states=True).hidden_states[1][0]
    common = min(24, hidden)
    last = torch.cat((own[-1, : hidden - common], sent[24 - common :]))
    expected = torch.cat((own[:-1], last[None]))
    length = ids.shape[1]
    assert any(
        torch.allclose(states[lane, :length], expected, atol=1e-6)
        for states in above
        if states.shape[1] >= length
        for lane in range(states.shape[0])
    )
