from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import RidgeSettings
from statebridge.translators.closed_form.ridge import fit_ridge
from statebridge.translators.positions import BLOCK_SIZE, PositionBatch
from tests.bridge.translators.live_tensors import PeakBytes
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import linear_pair, normal

PLAIN = RidgeSettings(regularisation=0)


def unit(states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(states, dim=-1).double()


def least_squares(
    x: torch.Tensor, y: torch.Tensor, penalty: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """W and b from one direct solve: the penalty enters as rows of its own."""
    count, width = x.shape
    design = torch.cat([x, torch.ones(count, 1, dtype=x.dtype)], dim=1)
    weights_only = torch.cat(
        [torch.eye(width, dtype=x.dtype), torch.zeros(width, 1, dtype=x.dtype)], 1
    )
    design = torch.cat([design, (penalty * count) ** 0.5 * weights_only])
    target = torch.cat([y, torch.zeros(width, y.shape[1], dtype=y.dtype)])
    solution = torch.linalg.lstsq(design, target).solution
    return solution[:-1].T, solution[-1]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("regularisation", [0.0, 1e-4, 0.3])
def test_equals_a_direct_solve(normalize: bool, regularisation: float) -> None:
    sender, receiver = linear_pair(200)
    fit = fit_ridge(
        [(sender, receiver)], RidgeSettings(regularisation=regularisation), normalize=normalize
    )
    x, y = (unit(sender), unit(receiver)) if normalize else (sender.double(), receiver.double())
    penalty = regularisation * float(x.var(dim=0, correction=0).mean())
    weight, bias = least_squares(x, y, penalty)
    weights = fit.translator.weights()
    # The solution is rounded to float32 (6e-8 of values up to about 2); x was normalised in it.
    torch.testing.assert_close(weights["weight"].double(), weight, atol=2e-6, rtol=0)
    torch.testing.assert_close(weights["bias"].double(), bias, atol=2e-6, rtol=0)
    assert fit.record.penalty == pytest.approx(penalty, rel=1e-6)
    assert fit.record.training_positions == 200
    assert fit.translator.normalize_input is normalize
    assert fit.record.normalize_target is normalize


def test_blocks_of_different_means_equal_a_direct_solve() -> None:
    sender, receiver = linear_pair(2 * BLOCK_SIZE + 500)
    drift = torch.linspace(-3, 3, len(sender)).unsqueeze(1)
    sender, receiver = sender + drift, receiver - drift.square()
    weights = fit_ridge([(sender, receiver)], PLAIN, normalize=False).translator.weights()
    weight, bias = least_squares(sender.double(), receiver.double())
    # Float32 rounding of weights up to about 5.
    torch.testing.assert_close(weights["weight"].double(), weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights["bias"].double(), bias, atol=1e-6, rtol=0)


def test_the_fitted_translator_predicts() -> None:
    sender, receiver = linear_pair(300, noise=0)
    fit = fit_ridge([(sender, receiver)], PLAIN, normalize=False)
    # Exactly affine data: what is left is float32 rounding of values up to about 15.
    torch.testing.assert_close(fit.translator(sender), receiver, atol=2e-5, rtol=0)
    assert not any(parameter.requires_grad for parameter in fit.translator.parameters())


def test_record_of_rank_and_condition() -> None:
    sender, receiver = linear_pair(500)
    record = fit_ridge([(sender, receiver)], PLAIN).record
    values = torch.linalg.eigvalsh(torch.cov(unit(sender).T, correction=0))
    assert record.rank == 6
    # The library normalises in float32, the test does too but in another order of sums.
    assert record.condition_number == pytest.approx(float(values[-1] / values[0]), rel=1e-5)


@pytest.mark.parametrize("size", [1, 7, 500, BLOCK_SIZE - 1, BLOCK_SIZE, 3 * BLOCK_SIZE])
def test_same_bits_however_the_stream_is_cut(size: int) -> None:
    pair = linear_pair(2 * BLOCK_SIZE + 100)
    whole = fit_ridge([pair])
    cut = fit_ridge(zip(pair[0].split(size), pair[1].split(size), strict=True))
    for name, tensor in whole.translator.weights().items():
        assert torch.equal(cut.translator.weights()[name], tensor)
    assert torch.equal(cut.means.raw, whole.means.raw)
    assert cut.record == whole.record


def test_large_common_mean_costs_no_accuracy() -> None:
    sender, receiver = linear_pair(400)
    near = fit_ridge([(sender, receiver)], PLAIN, normalize=False).translator.weights()["weight"]
    shifted = (sender + 4096, receiver)  # exact in float32 to 2^-12 · 2
    far = fit_ridge([shifted], PLAIN, normalize=False).translator.weights()["weight"]
    # Adding 4096 rounds the states themselves to 2^-12 ≈ 2.4e-4 steps, relative to a spread of 1.
    torch.testing.assert_close(far, near, atol=1e-3, rtol=0)


def test_means_are_those_of_the_receiver() -> None:
    sender, receiver = linear_pair(50)
    means = fit_ridge([(sender, receiver)]).means
    torch.testing.assert_close(means.raw, receiver.double().mean(dim=0))
    torch.testing.assert_close(means.normalised, unit(receiver).mean(dim=0), atol=1e-7, rtol=0)


def test_memory_does_not_grow_with_the_corpus() -> None:
    """Peak bytes of tensors alive at once, while the stream grows tenfold."""

    def stream(batches: int) -> Iterator[PositionBatch]:
        for index in range(batches):
            yield linear_pair(BLOCK_SIZE // 2 + 3, seed=index)

    peaks = []
    for batches in (8, 80):
        with PeakBytes() as peak:
            fit_ridge(stream(batches))
        peaks.append(peak.bytes)
    assert peaks[0] > 0
    assert peaks[1] == peaks[0]


def test_batches_are_let_go() -> None:
    living: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def stream() -> Iterator[PositionBatch]:
        nonlocal most
        for index in range(40):
            sender, receiver = linear_pair(BLOCK_SIZE, seed=index)
            living.append(weakref.ref(sender))
            most = max(most, sum(reference() is not None for reference in living))
            yield sender, receiver
            del sender, receiver

    fit_ridge(stream())
    assert most <= 2


def test_too_few_positions() -> None:
    pair = linear_pair(6)
    for settings in (PLAIN, RidgeSettings()):
        with refused(TranslatorError, "6 positions", "at least 7"):
            fit_ridge([pair], settings)
    enough = linear_pair(7)
    assert fit_ridge([enough], PLAIN).record.rank == 6


def test_too_few_positions_on_purpose() -> None:
    sender, receiver = linear_pair(4)
    fit = fit_ridge([(sender, receiver)], RidgeSettings(allow_underdetermined=True))
    assert fit.record.rank == 3
    with refused(TranslatorError, "3 of 6 directions", "at least 7", "regularisation"):
        fit_ridge([(sender, receiver)], RidgeSettings(allow_underdetermined=True, regularisation=0))


def test_repeated_positions_are_no_new_ones() -> None:
    sender, receiver = linear_pair(5)
    many = (sender.repeat(40, 1), receiver.repeat(40, 1))
    with refused(TranslatorError, "200 corpus positions", "4 of 6 directions", "at least 7"):
        fit_ridge([many], PLAIN)


def test_one_and_the_same_state() -> None:
    same = normal(1, 6).repeat(100, 1)
    for settings in (PLAIN, RidgeSettings()):
        with refused(TranslatorError, "one and the same state", "at least 7"):
            fit_ridge([(same, normal(100, 5))], settings, normalize=False)


def test_ill_conditioned() -> None:
    sender, receiver = linear_pair(100)
    sender[:, 5] = sender[:, 4] + 1e-4 * sender[:, 5]
    assert fit_ridge([(sender, receiver)], PLAIN).record.condition_number > 1e6
    strict = RidgeSettings(regularisation=0, max_condition_number=1e6)
    with refused(TranslatorError, "condition number", "at most 1e+06", "regularisation"):
        fit_ridge([(sender, receiver)], strict)


def test_bad_streams() -> None:
    with refused(TranslatorError, "no positions"):
        fit_ridge([])
    sender, receiver = linear_pair(20)
    with refused(TranslatorError, "position 20", "(20, 5)"):
        fit_ridge([(sender, receiver), (sender[:, :5], receiver)])
    sender[3, 0] = torch.nan
    with refused(NumericError, "sender", "position 3"):
        fit_ridge([(sender, receiver)])
