"""The loss that a translator is trained for: what a run measures, and its true gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from statebridge.engine.executors.in_process import open_path
from statebridge.engine.fitting import kept_prefixes
from statebridge.engine.fitting.causal_loss import row_losses
from statebridge.engine.planning.groups import grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.experiment.conditions import Condition
from statebridge.experiment.experiment import DEFAULT_SET
from statebridge.models.pair import Pair
from statebridge.translators import Translator
from tests.bridge.engine.fitting.causal.causal_experiment import (
    causal_of,
    experiment_of,
    frozen,
    rows_of,
    started,
    write_rows,
)
from tests.bridge.engine.tiny_experiment import engine_pair, llama_pair, mixed_pair, neox_pair
from tests.reference.oracle import OraclePair

LAST = {"positions": "last", "source_positions": "last"}
CONDITIONS: tuple[str | Condition, ...] = (
    "private_last",
    "private_last_matched",
    "private_question",
    "private_placeholder",
    "replace",
    "additive",
    "best_alpha",
    Condition(name="added", source="translated", operator="add", prompt="question_only", **LAST),
    Condition(name="averaged", source="translated", operator="mean"),
    Condition(
        name="two", source="translated", positions=(-2, 0), source_positions=(1, -1), weight=0.5
    ),
)


def measured(
    pair: Pair, translator: Translator, condition: str | Condition, rows: Path, count: int
) -> list[tuple[float, float]]:
    """Return two numbers of each row: nats per gold token, KL from the receiver that sees all."""
    experiment = experiment_of(pair, rows, conditions=[condition], decode=False)
    work = prepare(experiment, pair, rows_of(count), {(DEFAULT_SET, 0): translator})
    work = replace(work, plan=grouped(work.plan, 64))
    path = open_path(work)
    found: dict[int, tuple[float, float]] = {}
    for group in work.plan.groups:
        for _, row, lane in path.run(group):
            assert lane.gold_logprob is not None
            assert lane.gold_token_count is not None
            assert lane.kl_from_no_inject is not None
            found[row] = (-lane.gold_logprob / lane.gold_token_count, lane.kl_from_no_inject)
    return [found[row] for row in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_pair", "condition"),
    [
        *((neox_pair, condition) for condition in CONDITIONS),
        *((make, condition) for make in (llama_pair, mixed_pair) for condition in CONDITIONS[1:4]),
    ],
)
def test_is_what_a_run_measures(
    make_pair: Callable[[torch.dtype], OraclePair], condition: str | Condition, tmp_path: Path
) -> None:
    pair = engine_pair(make_pair(torch.float64))
    translator = started(pair, dtype=torch.float64)
    count = 14
    path = write_rows(tmp_path / "rows.jsonl", rows_of(count))
    with frozen(pair, causal_of(path, condition)) as rows, torch.no_grad():
        losses = row_losses(pair.receiver, rows.condition, rows.batch(range(count)), translator)
    expected = torch.tensor(measured(pair, translator, condition, path, count))
    # Float64 through a few blocks; the run pads its batches otherwise.
    torch.testing.assert_close(losses.gold.float(), expected[:, 0], atol=1e-6, rtol=1e-6)
    if rows.condition.prompt == "task":  # a run measures the others from their own prompt
        torch.testing.assert_close(losses.divergence.float(), expected[:, 1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("make_pair", [neox_pair, llama_pair])
@pytest.mark.parametrize("condition", ["private_last", "private_placeholder", CONDITIONS[-1]])
def test_kept_prefixes_change_neither_loss_nor_gradient(
    make_pair: Callable[[torch.dtype], OraclePair],
    condition: str | Condition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = engine_pair(make_pair(torch.float64))
    path = write_rows(tmp_path / "rows.jsonl", rows_of(14))
    found, columns = [], []
    for room in (kept_prefixes.KEPT_BYTES, 0):
        monkeypatch.setattr(kept_prefixes, "KEPT_BYTES", room)
        translator = started(pair, dtype=torch.float64).requires_grad_(True)
        # Out of order, as in training: a row's prefix is where its own prompt begins.
        with frozen(pair, causal_of(path, condition)) as rows:
            batch = rows.batch([9, 2, 13, 0, 5])
        losses = row_losses(pair.receiver, rows.condition, batch, translator)
        (losses.gold.sum() + 0.7 * losses.divergence.sum()).backward()
        gradients = [parameter.grad for parameter in translator.parameters()]
        found.append([losses.gold, losses.divergence, *gradients])
        columns.append(0 if batch.before is None else max(batch.before.lengths))
    if condition != CONDITIONS[-1]:  # which writes at the first token, before which is nothing
        assert columns[0] > 0
    assert columns[1] == 0
    # Float64: the same sums over fewer rows of a matrix.
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("through", ["private_last", "private_placeholder", "replace"])
def test_skyline_reads_everything(through: str, tmp_path: Path) -> None:
    pair = engine_pair(neox_pair(torch.float64))
    path = write_rows(tmp_path / "rows.jsonl", rows_of(14))
    chosen = [3, 0, 13]
    with frozen(pair, causal_of(path, through)) as rows:
        skyline = rows.batch(chosen).skyline
    for place, row in enumerate(chosen):
        shown = rows_of(14)[row]
        text = f"Context: {shown.context}\nQ: {shown.question}\nA:"
        ids = torch.tensor([pair.receiver.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            alone = pair.receiver.module(ids).logits[0, -1].log_softmax(dim=-1)
        # Float64; the library ran the row in a padded batch.
        torch.testing.assert_close(skyline[place], alone, atol=1e-10, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "kind", "options"),
    [
        *((condition, "affine", {}) for condition in CONDITIONS),
        ("private_last", "low_rank", {"rank": 3}),
        ("private_last", "mlp_1hidden", {"hidden_dim": 5}),
        ("private_question", "gated", {}),
        ("additive", "gated", {}),
    ],
    ids=str,
)
def test_gradient_against_finite_differences(
    kind: str, options: dict[str, int], condition: str | Condition, tmp_path: Path
) -> None:
    pair = engine_pair(neox_pair(torch.float64))
    for model in (pair.sender, pair.receiver):
        model.module.requires_grad_(False)
    translator = started(pair, kind, torch.float64, **options).requires_grad_(True)
    path = write_rows(tmp_path / "rows.jsonl", rows_of(6))
    generator = torch.Generator().manual_seed(3)
    with frozen(pair, causal_of(path, condition)) as rows:
        batch = rows.batch(range(6))

        def loss() -> torch.Tensor:
            losses = row_losses(pair.receiver, rows.condition, batch, translator)
            return losses.gold.mean() + 0.7 * losses.divergence.mean()

        loss().backward()
        for parameter in translator.parameters():
            assert parameter.grad is not None
            gradient = parameter.grad
            along = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            step = 1e-5 / float(along.norm())
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.add_(along, alpha=sign * step)
                    ends.append(float(loss()))
                    parameter.sub_(along, alpha=sign * step)
            slope = (ends[0] - ends[1]) / (2 * step)
            # Central differences err by step² · third derivative and by 1e-16 / step: 1e-10.
            assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_no_gradient_enters_a_model(tmp_path: Path) -> None:
    pair = engine_pair(neox_pair())
    for model in (pair.sender, pair.receiver):
        model.module.requires_grad_(False)
    translator = started(pair).requires_grad_(True)
    path = write_rows(tmp_path / "rows.jsonl", rows_of(4))
    with frozen(pair, causal_of(path)) as rows:
        losses = row_losses(pair.receiver, rows.condition, rows.batch(range(4)), translator)
    losses.gold.sum().backward()
    for model in (pair.sender, pair.receiver):
        assert all(parameter.grad is None for parameter in model.module.parameters())
    assert all(bool(parameter.grad.any()) for parameter in translator.parameters())
