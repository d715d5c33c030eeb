"""Every condition of the oracle, against its definition and a sum by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.reference.decoding import encode, first_difference, generate, text_of
from tests.reference.formulas import affine_translate, relay_prompt, task_prompt
from tests.reference.hooks import blocks, reading
from tests.reference.oracle import CONDITIONS, STRICT, OraclePair, run_cell
from tests.reference.tiny_pairs import PLAIN, ROWS, cell, pair
from tests.tiny_models import tiny_llama_tokenizer, tiny_neox, tiny_tokenizer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "direction", "dtype"),
    [("neox", "fwd", torch.float32), ("llama", "rev", torch.float64)],
)
def test_every_condition_runs(kind: str, dtype: torch.dtype, direction: str) -> None:
    of = pair(kind, dtype) if direction == "fwd" else pair(kind, dtype).reversed()
    width = of.receiver.config.hidden_size
    dataset = ROWS[2:9]
    short = {"max_new_tokens": 4, "relay_max_new_tokens": 4}
    cells = {condition: cell(of, condition, dataset, **short) for condition in CONDITIONS}
    ids = [row["id"] for row in dataset]
    for condition, rows in cells.items():
        if condition == STRICT:
            assert 0 < len(rows) < len(dataset)
        else:
            assert [row.row_id for row in rows] == ids
        for row in rows:
            assert row.token_ids is not None
            assert 1 <= len(row.token_ids) <= 4
            assert row.prediction == text_of(of.tokenizer, list(row.token_ids))
            assert row.gold_rank is not None
            assert row.gold_rank >= 1
            assert row.gold_logprob is not None
            assert row.gold_logprob < 0
            assert row.kl_from_no_inject is not None
            assert (row.written is None) == (condition in ("no_inject", "nl_relay"))
            if row.written is not None:
                assert row.written.shape == (1, row.prompt_len_receiver, width)
                assert row.written.dtype == dtype
    assert all(row.kl_from_no_inject == 0 for row in cells["no_inject"])
    for condition in ("replace", "scale_corrected", "zero_replacement", "same_norm_random"):
        # Random weights: a state of other content moves the next-token distribution a lot.
        assert min(row.kl_from_no_inject or 0 for row in cells[condition]) > 0.01
    changed = [
        first_difference(a.token_ids or (), b.token_ids or ())
        for a, b in zip(cells["replace"], cells["no_inject"], strict=True)
    ]
    assert sum(index is not None for index in changed) > len(dataset) / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["neox", "llama"])
def test_self_injection_is_the_baseline(kind: str) -> None:
    of = pair(kind)
    plain = cell(of, "no_inject", ROWS[:7], max_new_tokens=16)
    again = cell(of, "b_to_b_self_inject", ROWS[:7], max_new_tokens=16)
    assert [row.token_ids for row in again] == [row.token_ids for row in plain]
    # The prefill of `generate` makes the very bits that the earlier pass captured.
    ids = encode(of.tokenizer, task_prompt(ROWS[0]))
    with reading(blocks(of.receiver)[of.receiver_layer]) as outputs:
        generate(of.receiver, ids, max_new_tokens=2, **PLAIN)
    assert again[0].written is not None
    assert torch.equal(outputs[0], again[0].written)
    # The lower half also reads the answer here; its states may differ in the last bits.
    assert max(abs(row.kl_from_no_inject or 0) for row in again) < 1e-9
    for row in again:
        assert row.translated_norm_mean == row.receiver_norm_mean == row.injected_norm_mean


def test_zero_replacement_writes_zeros() -> None:
    asked = [{**row, "answer": "Japan"} for row in ROWS]
    rows = cell(pair("llama"), "zero_replacement", asked, decode=False)
    for row in rows:
        assert row.written is not None
        assert not row.written.any()
        assert row.translated_norm_mean == row.injected_norm_mean == 0
        assert row.receiver_norm_mean is not None
        assert row.receiver_norm_mean > 0
    # Nothing of the prompt is left: attention averages equal values, whatever its length.
    assert [row.gold_logprob for row in rows] == [pytest.approx(rows[0].gold_logprob)] * len(rows)


@pytest.mark.slow
def test_norms_and_weights_of_the_written_states() -> None:
    of = pair("neox", torch.float64)
    cells = {c: cell(of, c, decode=False) for c in CONDITIONS if c not in ("nl_relay", STRICT)}
    own = {row.row_id: row.written for row in cells["b_to_b_self_inject"]}
    t = {row.row_id: row.written for row in cells["replace"]}
    for additive in cells["additive"]:
        h, translated = own[additive.row_id], t[additive.row_id]
        assert h is not None
        assert translated is not None
        assert additive.written is not None
        added = additive.written - h
        # Written states are near 10 in size, so their differences hold to about 1e-14.
        assert torch.allclose(added, 0.01 * translated[:, -1:].expand_as(h), atol=1e-13)
        last = float(translated[0, -1].norm())
        assert additive.translated_norm_mean == pytest.approx(last)
        assert additive.injected_norm_mean == pytest.approx(0.01 * last)
    for condition in ("scale_corrected", "same_norm_random", "shuffled_translation"):
        for row in cells[condition]:
            h = own[row.row_id]
            assert h is not None
            assert row.written is not None
            assert torch.allclose(row.written.norm(dim=-1), h.norm(dim=-1))
            assert row.injected_norm_mean == pytest.approx(row.receiver_norm_mean)
    full = {row.row_id: row.written for row in cells["scale_corrected"]}
    for row in cells["best_alpha"]:
        h, scaled = own[row.row_id], full[row.row_id]
        assert h is not None
        assert scaled is not None
        assert row.written is not None
        assert torch.allclose(row.written, 0.3 * scaled + 0.7 * h)
    for row in cells["shuffled_translation"]:
        source = t[row.donor_row_id or ""]
        assert source is not None
        assert row.written is not None
        assert torch.allclose(
            torch.cosine_similarity(row.written, source, dim=-1), torch.ones(1).double()
        )


@pytest.mark.slow
def test_relay_is_what_the_sender_says() -> None:
    of = pair("llama").reversed()
    for row, result in zip(
        ROWS[:6], cell(of, "nl_relay", ROWS[:6], max_new_tokens=24), strict=True
    ):
        written = generate(
            of.sender, encode(of.tokenizer, relay_prompt(row)), max_new_tokens=16, **PLAIN
        )
        assert result.relay == text_of(of.tokenizer, written)
        ids = encode(of.tokenizer, f"{result.relay}\nQ: {row['question']}\nA:", 256)
        assert result.prompt_len_receiver == len(ids)
        assert result.token_ids == tuple(generate(of.receiver, ids, max_new_tokens=24, **PLAIN))
        assert result.relay_prompt_len == len(
            encode(of.tokenizer, f"{row['context']}\n\nKey facts:")
        )


def test_a_subset_repeats_the_draws_of_the_whole() -> None:
    of = pair("neox")
    for condition in ("same_norm_random", "shuffled_translation", STRICT):
        whole = {row.row_id: row for row in cell(of, condition, decode=False, gold=False)}
        part = cell(of, condition, ROWS[5:9], all_rows=ROWS, decode=False, gold=False)
        assert part
        for row in part:
            other = whole[row.row_id]
            assert row.donor_row_id == other.donor_row_id
            assert row.written is not None
            assert other.written is not None
            assert torch.equal(row.written, other.written)


def test_draws_can_be_given() -> None:
    of = pair("neox")
    noise = {
        row["id"]: torch.ones(1, len(encode(of.tokenizer, task_prompt(row))), 48) for row in ROWS
    }
    for row in cell(of, "same_norm_random", noise=noise, decode=False, gold=False):
        assert row.written is not None
        assert torch.equal(row.written[..., 0], row.written[..., 47])
    given = {ROWS[3]["id"]: ROWS[4]["id"]}
    (only,) = cell(of, "shuffled_translation", donors=given, decode=False, gold=False)
    assert (only.row_id, only.donor_row_id) == (ROWS[3]["id"], ROWS[4]["id"])


def test_other_tokens_are_noticed() -> None:
    of = pair("neox")
    other = OraclePair(of.sender, of.receiver, 2, 2, of.tokenizer, tiny_llama_tokenizer())
    rows = cell(other, "additive", ROWS[:2], decode=False, gold=False)
    assert [(row.token_ids_match, row.seq_len_match) for row in rows] == [(False, False)] * 2
    with pytest.raises(ValueError, match="row_0000"):
        cell(other, "replace", ROWS[:2], decode=False, gold=False)


def test_long_prompts_are_cut_on_the_right() -> None:
    of = pair("llama")
    long = [{"id": "long", "context": "Tokyo " * 400, "question": "Who?", "answer": "Japan"}]
    (row,) = cell(of, "replace", long, max_new_tokens=3)
    assert row.prompt_len_sender == row.prompt_len_receiver == 256
    assert row.gold_token_count == 1
    (short,) = cell(of, "replace", ROWS[:1], max_prompt_tokens=1)
    assert short.prompt_len_receiver == 1


def test_additive_by_hand_on_a_one_block_model() -> None:
    """A block that adds nothing: h is the embedding, and all of it is schoolbook sums."""
    model = tiny_neox(3, layers=1, hidden=8, heads=1, vocab=421, end_share=0).double()
    for linear in (
        model.gpt_neox.layers[0].attention.dense,
        model.gpt_neox.layers[0].mlp.dense_4h_to_h,
    ):
        linear.weight.data.zero_()
        linear.bias.data.zero_()
    of = OraclePair(model, model, 0, 0, tiny_tokenizer())
    weight = torch.arange(64, dtype=torch.float64).reshape(8, 8) / 50 - 0.5
    bias = torch.linspace(-1, 1, 8, dtype=torch.float64)
    row = ROWS[1]
    (result,) = run_cell(
        of, [row], "additive", 42, affine_translate(weight, bias), scale=3.0, max_new_tokens=1
    )

    ids = encode(of.tokenizer, task_prompt(row))
    embedding = model.gpt_neox.embed_in.weight.tolist()
    h = embedding[ids[-1]]
    length = math.sqrt(sum(x * x for x in h))
    unit = [x / length for x in h]
    t = [
        sum(w * x for w, x in zip(line, unit, strict=True)) + b
        for line, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]
    edited = [x + 3.0 * y for x, y in zip(h, t, strict=True)]
    mean = sum(edited) / 8
    spread = math.sqrt(sum((x - mean) ** 2 for x in edited) / 8 + 1e-5)
    norm = model.gpt_neox.final_layer_norm
    normed = [
        (x - mean) / spread * w + b
        for x, w, b in zip(edited, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]
    logits = [
        sum(w * x for w, x in zip(line, normed, strict=True))
        for line in model.lm_head.weight.tolist()
    ]
    answer = encode(of.tokenizer, " " + row["answer"])
    total = math.log(sum(math.exp(x) for x in logits))
    assert result.written is not None
    assert result.written[0, -1].tolist() == pytest.approx(edited)
    assert result.gold_token_count == len(answer)
    assert result.gold_rank == sum(x >= logits[answer[0]] for x in logits)
    assert len(answer) == 1
    assert result.gold_logprob == pytest.approx(logits[answer[0]] - total)
    penalised = [
        (x / 1.3 if x > 0 else x * 1.3) if token in ids else x for token, x in enumerate(logits)
    ]
    assert result.token_ids == (penalised.index(max(penalised)),)
