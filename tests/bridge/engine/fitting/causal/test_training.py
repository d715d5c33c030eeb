"""Training through the receiver: it learns, it is repeatable, and it touches nothing else."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from statebridge.engine.fitting import kept_prefixes
from statebridge.engine.fitting.causal_training import train_causally
from statebridge.engine.fitting.frozen_rows import FrozenRows
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from tests.bridge.engine.fitting.causal.causal_experiment import (
    QUICK,
    causal_of,
    frozen,
    started,
    with_settings,
    write_rows,
)
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair
from tests.bridge.translators.live_tensors import PeakBytes
from tests.reference.oracle import OraclePair
from tests.tiny_models import (
    NAMES,
    tiny_gemma,
    tiny_gpt2,
    tiny_llama,
    tiny_qwen,
    tiny_tokenizer,
)


def weights_hash(pair: Pair) -> str:
    digest = hashlib.sha256()
    for model in (pair.sender, pair.receiver):
        for name, tensor in sorted(model.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# --------------------------------------------------------------------------- what it does


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [("affine", {}), ("gated", {}), ("low_rank", {"rank": 3}), ("mlp_1hidden", {"hidden_dim": 9})],
)
@pytest.mark.parametrize("normalize_input", [True, False])
def test_every_kind_learns(
    rows: FrozenRows, pair: Pair, kind: str, options: dict[str, int], normalize_input: bool
) -> None:
    start = started(pair, kind, normalize_input=normalize_input, **options)
    trained, record = train_causally(with_settings(rows, epochs=6, patience=6), start, seed=1)
    losses = [epoch.training_loss for epoch in record.epochs[1:]]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < 0.9 * losses[0]
    assert (trained.kind, trained.options) == (kind, start.options)
    assert trained.normalize_input is normalize_input
    assert trained.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "through", ["private_last", "private_question", "private_placeholder", "replace", "additive"]
)
def test_every_way_of_writing_trains(path: Path, pair: Pair, through: str) -> None:
    # The published weight of `additive` is 0.01: the gradient is small, Adam's step is not.
    with frozen(pair, causal_of(path, through, epochs=5, patience=5)) as held:
        _, record = train_causally(held, started(pair), seed=1)
    losses = [epoch.training_loss for epoch in record.epochs[1:]]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    assert record.condition["name"] == through


FAMILIES: dict[str, tuple[Callable[..., PreTrainedModel], Callable[..., PreTrainedModel]]] = {
    "gpt2": (tiny_gpt2, tiny_gpt2),
    "qwen to llama": (partial(tiny_qwen, version=3), tiny_llama),
    "gemma": (tiny_gemma, partial(tiny_gemma, version=3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_families_and_dtypes(path: Path, family: str, dtype: torch.dtype) -> None:
    make_sender, make_receiver = FAMILIES[family]
    sender, receiver = make_sender(seed=1, layers=2), make_receiver(seed=2, layers=3)
    oracle = OraclePair(sender.to(dtype), receiver.to(dtype), 1, 1, tiny_tokenizer())
    pair = engine_pair(oracle)
    with frozen(pair, causal_of(path, epochs=5, patience=5)) as held:
        trained, record = train_causally(held, started(pair), seed=1)
    losses = [epoch.training_loss for epoch in record.epochs[1:]]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    assert trained.dtype == torch.float32


@pytest.mark.slow
def test_a_word_that_only_the_sender_reads_reaches_the_receiver(tmp_path: Path) -> None:
    """One question, two contexts, two answers: without the channel the loss cannot pass ln 2."""
    pair = engine_pair(neox_pair())
    shown = [
        DatasetRow(f"{place} {name}", f"{name} is in {place}", "Who?", place)
        for name in (f"{a} {b}" for a in NAMES[:5] for b in NAMES[:5])
        for place in ("Oslo", "Lima")
    ]
    again = [replace(row, row_id=f"again {row.row_id}") for row in shown]
    path = write_rows(tmp_path / "rows.jsonl", [*shown, *again])
    causal = causal_of(path, epochs=12, patience=12, skyline_weight=0.0, learning_rate=0.03)
    with frozen(pair, causal) as held:
        trained, record = train_causally(held, started(pair), seed=1)
    assert record.repeated_rows_left_out == len(shown)
    best = record.epochs[record.best_epoch]
    assert record.epochs[0].validation_gold > 1
    assert best.validation_gold < 0.35  # half of ln 2
    assert best.validation_loss == best.validation_gold
    assert trained.card is None


def test_no_weight_of_either_model_changes(rows: FrozenRows, pair: Pair) -> None:
    before = weights_hash(pair)
    learning = [
        parameter
        for model in (pair.sender, pair.receiver)
        for parameter in model.module.parameters()
    ]
    for parameter in learning:
        parameter.requires_grad_(True)
    try:
        train_causally(rows, started(pair), seed=1)
        assert weights_hash(pair) == before
        assert all(parameter.grad is None for parameter in learning)
        assert all(parameter.requires_grad for parameter in learning)
    finally:
        for parameter in learning:
            parameter.requires_grad_(False)


def test_the_given_translator_is_left_as_it_was(rows: FrozenRows, pair: Pair) -> None:
    start = started(pair)
    before = start.weights()
    trained, _ = train_causally(rows, start, seed=1)
    assert all(torch.equal(start.weights()[name], tensor) for name, tensor in before.items())
    assert not torch.equal(trained.weights()["weight"], before["weight"])


@pytest.mark.slow
def test_same_again_to_the_bit_and_other_seed_not(path: Path, pair: Pair) -> None:
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        with frozen(pair, causal_of(path)) as held:
            results.append(train_causally(held, started(pair), seed=seed))
    assert torch.equal(torch.get_rng_state(), state)
    (first, record), (second, again), (other, _) = results
    assert record.model_copy(update={"seconds": 0.0}) == again.model_copy(update={"seconds": 0.0})
    for name, tensor in first.weights().items():
        assert torch.equal(second.weights()[name], tensor)
        assert not torch.equal(other.weights()[name], tensor)


def test_no_gradients_where_the_caller_turned_them_off(rows: FrozenRows, pair: Pair) -> None:
    expected, _ = train_causally(rows, started(pair), seed=1)
    with torch.no_grad():
        trained, _ = train_causally(rows, started(pair), seed=1)
        assert not torch.is_grad_enabled()
    assert torch.equal(trained.weights()["weight"], expected.weights()["weight"])


def test_kept_prefixes_train_the_same_map(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = engine_pair(neox_pair(torch.float64))
    results = []
    for room in (kept_prefixes.KEPT_BYTES, 0):
        monkeypatch.setattr(kept_prefixes, "KEPT_BYTES", room)
        with frozen(pair, causal_of(path)) as held:
            trained, record = train_causally(held, started(pair), seed=1)
        losses = [epoch.validation_loss for epoch in record.epochs]
        results.append((losses, trained.weights()))
    (losses, weights), (whole, expected) = results
    # Trained in float64, so that the order of sums is far below the bar of 1e-6; the map is
    # returned in float32.
    assert losses == pytest.approx(whole, abs=1e-9)
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=1e-6)


# --------------------------------------------------------------------------- the record


def test_record(rows: FrozenRows, pair: Pair) -> None:
    seen: list[tuple[int, int]] = []
    _, record = train_causally(
        rows, started(pair), seed=3, progress=lambda step, steps: seen.append((step, steps))
    )
    assert (record.training_rows, record.validation_rows) == (15, 5)
    assert record.steps == 3 * 4  # ⌈15 / 4⌉ steps an epoch
    assert [epoch.epoch for epoch in record.epochs] == [0, 1, 2, 3]
    assert record.epochs[0].training_loss is None
    assert record.epochs[0].learning_rate is None
    assert record.epochs[1].learning_rate == pytest.approx(0.01 * (12 - 3) / 11)  # of step 3
    for epoch in record.epochs:
        total = epoch.validation_gold + epoch.validation_divergence
        assert epoch.validation_loss == pytest.approx(total, rel=1e-5)  # float32 sums
    assert (record.seed, record.settings, record.device) == (3, QUICK, "cpu")
    assert record.dataset == "training.jsonl"
    assert len(record.rows_sha256) == len(record.dataset_sha256) == 64
    assert seen == [(step, 12) for step in range(1, 13)] + [(12, 12)]


@pytest.mark.slow
def test_best_epoch_is_kept_and_training_stops_early(rows: FrozenRows, pair: Pair) -> None:
    # Steps this long leave every minimum at once: the start stays the best.
    wild = with_settings(rows, epochs=50, patience=2, learning_rate=3.0, warmup_steps=0)
    start = started(pair)
    trained, record = train_causally(wild, start, seed=1)
    losses = [epoch.validation_loss for epoch in record.epochs]
    assert record.best_epoch == losses.index(min(losses))
    assert len(record.epochs) == record.best_epoch + 2 + 1
    if record.best_epoch == 0:
        scaled = start.weights()["weight"] * record.start_scale
        torch.testing.assert_close(trained.weights()["weight"], scaled, rtol=1e-6, atol=0)


def test_the_start_is_as_long_as_what_it_replaces(path: Path, pair: Pair) -> None:
    start = started(pair)
    for through, scaled in (("private_last", True), ("private_last_matched", False)):
        with frozen(pair, causal_of(path, through, epochs=1)) as held:
            _, record = train_causally(held, start, seed=1)
            batch = held.batch(range(len(held)))
            own = float(batch.own[:, -1].norm(dim=-1).median())
            moved = float(start(batch.sent).norm(dim=-1).median())
        # Medians over 15 of the 20 rows against medians over all of them.
        expected = own / moved if scaled else 1.0
        assert record.start_scale == pytest.approx(expected, rel=0.2 if scaled else 0)


def test_the_length_of_the_fitted_map_does_not_matter(rows: FrozenRows, pair: Pair) -> None:
    short, long = started(pair), started(pair)
    long.set_weights({n: 1000 * t for n, t in long.weights().items()}, where="test")
    first, record = train_causally(rows, short, seed=1)
    second, again = train_causally(rows, long, seed=1)
    assert record.start_scale == pytest.approx(1000 * again.start_scale, rel=1e-5)
    # Float32, scaled up and down; a dozen steps of Adam.
    torch.testing.assert_close(
        first.weights()["weight"], second.weights()["weight"], rtol=1e-3, atol=1e-3
    )


# --------------------------------------------------------------------------- memory


@pytest.mark.slow
def test_memory_is_that_of_a_micro_batch(pair: Pair, tmp_path: Path) -> None:
    """Bytes of tensors alive at once, while the rows grow fivefold."""
    held_bytes, peaks = [], []
    start = started(pair)
    contexts = ("Bob works in Tokyo near the city.", "Zara lives in London near the city.")
    for count in (8, 40):
        shown = [
            DatasetRow(f"r{i}", f"{contexts[i % 2]} {i:03d}", "Which city?", "Peru")
            for i in range(count)
        ]
        path = write_rows(tmp_path / f"{count}.jsonl", shown)
        with PeakBytes() as alive, frozen(pair, causal_of(path, epochs=1)) as held:
            gc.collect()  # what a trace that was stopped leaves in cycles
            held_bytes.append(sum(alive._alive.values()))
            gc.disable()  # training leaves nothing to collect
            try:
                with PeakBytes() as peak:
                    train_causally(held, start, seed=1)
            finally:
                gc.enable()
        peaks.append(peak.bytes)
    # Not a byte of a row that was captured.
    assert held_bytes[0] == held_bytes[1]
    # A batch of other rows is a few tokens wider. Held states would be 3,000 bytes for each row:
    # half as much again.
    assert peaks[0] > 0
    assert peaks[1] < 1.1 * peaks[0]
