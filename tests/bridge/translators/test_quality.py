from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.results.translator_card import SpaceQuality
from statebridge.translators.closed_form.ridge import fit_ridge
from statebridge.translators.modules.maps import initialise
from statebridge.translators.positions import BLOCK_SIZE
from statebridge.translators.quality import TargetMeans, measure_quality, target_means
from statebridge.translators.translator import Translator
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import linear_pair, normal

Matrix = npt.NDArray[np.float64]

# Sums of float64 over a few hundred entries; the states themselves are given in float32 and
# the normalisation is done in it, which is what the 1e-6 allows for.
CLOSE = {"abs": 1e-6}


def r2(predicted: Matrix, target: Matrix) -> float:
    spread = ((target - target.mean(axis=0)) ** 2).sum()
    return float(1 - ((target - predicted) ** 2).sum() / spread)


def r2_dimension_mean(predicted: Matrix, target: Matrix) -> float:
    spread = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    return float((1 - ((target - predicted) ** 2).sum(axis=0) / spread).mean())


def cosine(predicted: Matrix, target: Matrix) -> float:
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(target, axis=1)
    return float(((predicted * target).sum(axis=1) / lengths).mean())


def array(states: torch.Tensor) -> Matrix:
    return states.detach().numpy().astype(np.float64)


def unit(states: Matrix) -> Matrix:
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def check(space: SpaceQuality, predicted: Matrix, constant: Matrix, target: Matrix) -> None:
    repeated = np.broadcast_to(constant, target.shape)
    assert space.r2 == pytest.approx(r2(predicted, target), **CLOSE)
    assert space.r2_dimension_mean == pytest.approx(r2_dimension_mean(predicted, target), **CLOSE)
    assert space.cosine == pytest.approx(cosine(predicted, target), **CLOSE)
    assert space.baseline_r2 == pytest.approx(r2(repeated, target), **CLOSE)
    assert space.baseline_r2_dimension_mean == pytest.approx(
        r2_dimension_mean(repeated, target), **CLOSE
    )
    assert space.baseline_cosine == pytest.approx(cosine(repeated, target), **CLOSE)


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_direct_computation(normalize: bool) -> None:
    train, held_out = linear_pair(80, seed=1), linear_pair(70, seed=2)
    translator = Translator("affine", 6, 5, normalize_input=normalize)
    initialise(translator, torch.Generator().manual_seed(0))
    means = target_means([train])
    report = measure_quality(translator, [held_out], means, sender_layer="h.3")
    sender, target = array(held_out[0]), array(held_out[1])
    weights = translator.weights()
    weight, bias = array(weights["weight"]), array(weights["bias"])
    predicted = (unit(sender) if normalize else sender) @ weight.T + bias
    raw_mean = array(train[1]).mean(axis=0)
    unit_mean = unit(array(train[1])).mean(axis=0)
    check(report.normalised, predicted, unit_mean, unit(target))
    check(report.raw, predicted, raw_mean, target)
    check(report.raw_input, sender @ weight.T + bias, raw_mean, target)
    assert report.positions == 70
    assert (report.sender_layer, report.receiver_layer) == ("h.3", None)


def test_mean_vector_scored_on_its_own_positions_has_r2_zero() -> None:
    pair = linear_pair(60)
    report = measure_quality(Translator("affine", 6, 5), [pair], target_means([pair]))
    # By the definition of R², up to rounding in float64.
    assert report.raw.baseline_r2 == pytest.approx(0, abs=1e-12)
    assert report.normalised.baseline_r2 == pytest.approx(0, abs=1e-12)
    assert report.raw.baseline_r2_dimension_mean == pytest.approx(0, abs=1e-12)


def test_common_component_gives_the_baseline_a_high_cosine() -> None:
    """The baseline shows that a cosine of 0.99 may mean that nothing was learnt."""
    sender, receiver = normal(100, 6), normal(100, 5, seed=1) + 20
    fit = fit_ridge([(sender, receiver)])
    report = measure_quality(fit.translator, [(normal(50, 6, seed=2), receiver[:50])], fit.means)
    assert report.normalised.cosine > 0.99
    assert report.normalised.baseline_cosine > 0.99
    assert report.normalised.r2 < 0.1


def test_cosine_ignores_the_space_but_the_baseline_does_not() -> None:
    # Receiver states of very different length: the raw mean leans to the long ones.
    sender, receiver = linear_pair(80)
    receiver = receiver * torch.logspace(-1, 1, 80).unsqueeze(1)
    fit = fit_ridge([(sender, receiver)])
    report = measure_quality(fit.translator, [(sender, receiver)], fit.means)
    assert report.raw.cosine == pytest.approx(report.normalised.cosine, **CLOSE)
    assert abs(report.raw.baseline_cosine - report.normalised.baseline_cosine) > 1e-3


@pytest.mark.parametrize("size", [1, 999, BLOCK_SIZE])
def test_same_figures_however_the_stream_is_cut(size: int) -> None:
    pair = linear_pair(BLOCK_SIZE + 500)
    translator = Translator("affine", 6, 5)
    initialise(translator, torch.Generator().manual_seed(0))
    means = target_means([pair])
    cut = zip(pair[0].split(size), pair[1].split(size), strict=True)
    assert measure_quality(translator, cut, means) == measure_quality(translator, [pair], means)


def test_variance_about_a_large_mean_keeps_its_digits() -> None:
    sender, receiver = linear_pair(3 * BLOCK_SIZE)
    far = receiver.double() + 1e7
    report = measure_quality(
        Translator("affine", 6, 5, normalize_input=False),
        [(sender, far)],
        TargetMeans(receiver.double().mean(dim=0), far.mean(dim=0)),
    )
    # Predicting the mean itself; Σy² − nȳ² would be off by about 1e-2 here.
    assert report.raw.baseline_r2 == pytest.approx(0, abs=1e-7)


def test_dimension_that_does_not_vary() -> None:
    sender, receiver = normal(30, 2), normal(30, 3)
    receiver[:, 1] = 0
    translator = Translator("affine", 2, 3, normalize_input=False)  # gives zeros
    means = TargetMeans(torch.zeros(3).double(), torch.tensor([0.0, 0.5, 0.0]).double())
    raw = measure_quality(translator, [(sender, receiver)], means).raw
    target = array(receiver)[:, [0, 2]]
    varying = r2_dimension_mean(np.zeros_like(target), target)
    assert raw.r2_dimension_mean == pytest.approx((2 * varying + 1) / 3, **CLOSE)
    assert raw.baseline_r2_dimension_mean == pytest.approx(2 * varying / 3, **CLOSE)
    assert raw.cosine == 0


def test_refuses_what_has_no_score() -> None:
    sender, receiver = linear_pair(10)
    translator, means = Translator("affine", 6, 5), target_means([(sender, receiver)])
    with refused(TranslatorError, "no positions"):
        measure_quality(translator, [], means)
    with refused(TranslatorError, "1 positions", "at least two"):
        measure_quality(translator, [(sender[:1], receiver[:1])], means)
    with refused(TranslatorError, "(10, 4)", "(positions, 6)"):
        measure_quality(translator, [(sender[:, :4], receiver)], means)
    with refused(TranslatorError, "baseline", "(4,)", "width 5"):
        measure_quality(translator, [(sender, receiver)], TargetMeans(torch.ones(4), torch.ones(4)))
    sender[0, 0] = math.nan
    with refused(NumericError, "sender", "position 0"):
        measure_quality(translator, [(sender, receiver)], means)
