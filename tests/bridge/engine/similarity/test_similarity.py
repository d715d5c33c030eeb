"""The similarity of a pair's layers equals what unpadded passes with hooks give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from statebridge.engine.fitting.corpus import CorpusTexts
from statebridge.engine.similarity import layer_similarity as similarity
from statebridge.engine.similarity.layer_similarity import (
    block_indices,
    layer_similarity,
)
from statebridge.errors import EnvironmentFault, NumericError, PairError, TranslatorError
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.results.translator_card import CorpusRecord
from tests.bridge.engine.tiny_experiment import engine_pair, mixed_pair, neox_pair
from tests.reference.oracle import OraclePair
from tests.tiny_models import mixed_rows, tiny_llama_tokenizer

TEXTS = (*(f"{row['context']} {row['question']}" for row in mixed_rows(20, seed=3)), "a")
SAME = 1e-9
"""Float64 on both sides, sums in another order."""


def corpus(texts: tuple[str, ...] = TEXTS) -> CorpusTexts:
    return CorpusTexts(texts, CorpusRecord(name="made", sha256="0" * 64, passages=len(texts)))


def hooked(model: Any, ids: list[int]) -> list[torch.Tensor]:
    """The output of every block for one text, (positions, width)."""
    blocks = model.gpt_neox.layers if hasattr(model, "gpt_neox") else model.model.layers
    found: list[torch.Tensor] = []

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output)[0])

    handles = [block.register_forward_hook(hook) for block in blocks]
    try:
        with torch.no_grad():
            model(torch.tensor([ids]))
    finally:
        for handle in handles:
            handle.remove()
    return found


def positions_of(oracle: OraclePair, side: str, max_tokens: int) -> list[torch.Tensor]:
    """States of every block over all positions but the first of each text."""
    texts = [oracle.tokenizer(text)["input_ids"][:max_tokens] for text in TEXTS]
    by_text = [hooked(getattr(oracle, side), ids) for ids in texts]
    return [torch.cat([text[layer][1:] for text in by_text]) for layer in range(len(by_text[0]))]


def kernel_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    k, other = x @ x.T, y @ y.T
    return float((k * other).sum() / (k.norm() * other.norm()))


@pytest.mark.parametrize("make", [neox_pair, mixed_pair], ids=["neox", "neox-and-llama"])
def test_every_pair_of_layers_is_that_of_the_whole_matrices(make: Any) -> None:
    oracle = make(torch.float64)
    xs, ys = (positions_of(oracle, side, 30) for side in ("sender", "receiver"))
    found = layer_similarity(engine_pair(oracle), corpus(), 30)
    assert found.positions == len(xs[0])
    assert [(p.sender_layer, p.receiver_layer) for p in found.pairs] == [
        (i, j) for i in range(len(xs)) for j in range(len(ys))
    ]
    for pair in found.pairs:
        expected = kernel_cka(xs[pair.sender_layer], ys[pair.receiver_layer])
        assert pair.cka == pytest.approx(expected, rel=SAME)


def test_the_sampled_states_are_those_of_their_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = neox_pair(torch.float64)
    seen: list[list[torch.Tensor]] = []

    def spy(xs: list[torch.Tensor], ys: list[torch.Tensor], k: int) -> torch.Tensor:
        seen.extend((xs, ys))
        return torch.full((len(xs), len(ys)), 0.25)

    monkeypatch.setattr(similarity, "neighbour_overlap", spy)
    found = layer_similarity(engine_pair(oracle), corpus(), 30, sampled=60)
    assert [pair.neighbour_overlap for pair in found.pairs] == [0.25] * len(found.pairs)
    texts = [oracle.tokenizer(text)["input_ids"][:30] for text in TEXTS]
    chosen = similarity._sample([tuple(ids) for ids in texts], 60, 0)
    assert found.sampled == len(chosen) == 60
    for side, kept in zip(("sender", "receiver"), seen, strict=True):
        model = getattr(oracle, side)
        by_text = {passage: hooked(model, texts[passage]) for passage, _ in chosen}
        for layer, rows in enumerate(kept):
            for row, (passage, position) in zip(rows, chosen, strict=True):
                torch.testing.assert_close(
                    row, by_text[passage][layer][position], rtol=SAME, atol=SAME
                )


def test_no_two_sampled_positions_come_after_one_text() -> None:
    ids = [(1, 2, 3, 4), (1, 2, 3, 5), (7,), (1, 2, 3, 4)]
    chosen = similarity._sample(ids, 100, seed=0)
    assert len(chosen) == len({ids[p][: i + 1] for p, i in chosen}) == 4
    assert all(i > 0 for _, i in chosen)
    assert similarity._sample(ids, 2, seed=0) == chosen[:2]
    assert {tuple(similarity._sample(ids, 4, seed)) for seed in range(8)} != {tuple(chosen)}
    assert similarity._sample([(7,)], 3, seed=0) == []


def test_a_model_is_like_itself_at_its_own_layer() -> None:
    oracle = neox_pair()
    model = engine_pair(oracle).receiver
    found = layer_similarity(Pair(model, model.at_layer(0)), corpus(), 40, [1, 2, 2], [0.5, 1])
    assert [(p.sender_layer, p.receiver_layer) for p in found.pairs] == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
    for pair in found.pairs:
        same = pair.sender_layer == pair.receiver_layer
        assert (pair.cka == pytest.approx(1.0)) == same
        assert (pair.neighbour_overlap == 1.0) == same


def test_one_trace_gives_what_capture_gives() -> None:
    model = engine_pair(neox_pair()).receiver
    batch = TokenBatch.pack([(5, 6, 7, 8), (9, 10)], model.pad_id)
    for layer, states in zip((0, 2, 3), model.capture_layers(batch, (0, 2, 3)), strict=True):
        assert torch.equal(states, model.at_layer(layer).capture(batch))


def test_the_map_states_chance_and_a_lack_of_positions() -> None:
    found = layer_similarity(engine_pair(neox_pair()), corpus(), 40, [1], [2], neighbours=5)
    assert found.chance == 5 / (found.sampled - 1)
    # Ten positions for each of the receiver's 32 dimensions.
    assert found.few_positions == (found.positions < 320)
    more = found.model_copy(update={"positions": 320})
    assert not more.few_positions


def test_wrong_input_is_refused() -> None:
    oracle = neox_pair()
    pair = engine_pair(oracle)
    with pytest.raises(PairError, match=r"layer 9 of tiny-sender is out of range"):
        layer_similarity(pair, corpus(), 30, [9])
    with pytest.raises(PairError, match="the list of layers is empty"):
        block_indices(pair.sender, [])
    with pytest.raises(TranslatorError, match=r"corpus made: \d+ positions .* give more text"):
        layer_similarity(pair, corpus(("the city of", "the city in")), 30)
    with pytest.raises(TranslatorError, match="corpus made: 0 positions"):
        layer_similarity(pair, corpus(("the", "city")), 1)
    other = engine_pair(replace(oracle, sender_tokenizer=tiny_llama_tokenizer()))
    with pytest.raises(PairError, match=r"corpus passage 0: .* tokenise it differently"):
        layer_similarity(other, corpus(), 30)
    with torch.no_grad():
        oracle.sender.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[:] = torch.inf
    with pytest.raises(NumericError, match=r"tiny-sender gpt_neox\.layers\.1: non-finite"):
        layer_similarity(pair, corpus(), 30)


def test_sums_that_do_not_fit_are_refused_before_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "free_bytes", lambda _: 1000)
    with pytest.raises(EnvironmentFault, match=r"3 sender and 4 receiver layers needs 0\.0 GiB"):
        layer_similarity(engine_pair(neox_pair()), corpus(), 30)
