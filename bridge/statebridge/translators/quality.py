"""How well a translator fits held-out states, with the mean-vector baseline beside it.

A vector that is the same for every position already scores a high cosine where states
share a large common component, so no figure is given without what that vector scores.
The definitions are with `card.SpaceQuality` and `card.QualityReport`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from statebridge.errors import TranslatorError
from statebridge.results.translator_card import QualityReport, SpaceQuality
from statebridge.translators.modules.maps import l2_normalise
from statebridge.translators.positions import PositionBatch, checked_batches, fixed_blocks
from statebridge.translators.translator import Translator


@dataclass(frozen=True, slots=True)
class TargetMeans:
    """Means over the training positions of the receiver's states: the baseline's vectors.

    Both (width_out,), float64, on the CPU.
    """

    normalised: torch.Tensor
    """Mean of the L2-normalised states (itself shorter than 1)."""
    raw: torch.Tensor


class TargetMeanSums:
    """Sums from which `TargetMeans` are taken; fed batch by batch."""

    def __init__(self) -> None:
        self._count = 0
        self._normalised = torch.zeros((), dtype=torch.float64)
        self._raw = torch.zeros((), dtype=torch.float64)

    def add(self, receiver: torch.Tensor) -> None:
        """Take in receiver states (n, width_out)."""
        self._count += len(receiver)
        self._normalised = self._normalised + l2_normalise(receiver).double().sum(dim=0).cpu()
        self._raw = self._raw + receiver.double().sum(dim=0).cpu()

    def merge(self, other: TargetMeanSums) -> None:
        """Take in the sums over other positions."""
        self._count += other._count
        self._normalised = self._normalised + other._normalised
        self._raw = self._raw + other._raw

    def means(self) -> TargetMeans:
        """Return the means over everything added so far, which must be something."""
        return TargetMeans(self._normalised / self._count, self._raw / self._count)


def target_means(batches: Iterable[PositionBatch]) -> TargetMeans:
    """Return the means of the receiver states of a stream of training positions.

    Raises as `positions.checked_batches` does.
    """
    sums = TargetMeanSums()
    for _, receiver in fixed_blocks(checked_batches(batches)):
        sums.add(receiver)
    return sums.means()


class _Errors:
    """Squared errors per dimension and cosines of one predictor in one space."""

    def __init__(self) -> None:
        self.squared = torch.zeros((), dtype=torch.float64)
        self.cosine = 0.0

    def add(self, predicted: torch.Tensor, target: torch.Tensor) -> None:
        self.squared = self.squared + (target - predicted).square().sum(dim=0)
        cosines = (l2_normalise(predicted) * l2_normalise(target)).sum(dim=1)
        self.cosine += float(cosines.sum())


class _Space:
    """Running sums of one space: a translator, the baseline, the targets' own variation."""

    def __init__(self, baseline: torch.Tensor) -> None:
        self.baseline = baseline
        self.fitted = _Errors()
        self.constant = _Errors()
        self.count = 0
        self.mean = torch.zeros_like(baseline)
        self.variation = torch.zeros_like(baseline)

    def add(self, predicted: torch.Tensor, target: torch.Tensor) -> None:
        predicted, target = predicted.double().cpu(), target.double().cpu()
        self.fitted.add(predicted, target)
        self.constant.add(self.baseline.expand_as(target), target)
        # Sums of squares about a running mean (Chan, Golub and LeVeque 1983), since a
        # dimension of large mean loses its digits in Σy² − nȳ².
        mean = target.mean(dim=0)
        shift, total = mean - self.mean, self.count + len(target)
        self.variation += (target - mean).square().sum(dim=0)
        self.variation += shift.square() * (self.count * len(target) / total)
        self.mean += shift * (len(target) / total)
        self.count = total

    def quality(self) -> SpaceQuality:
        return SpaceQuality(
            r2=self._r2(self.fitted),
            r2_dimension_mean=self._r2_dimension_mean(self.fitted),
            cosine=self.fitted.cosine / self.count,
            baseline_r2=self._r2(self.constant),
            baseline_r2_dimension_mean=self._r2_dimension_mean(self.constant),
            baseline_cosine=self.constant.cosine / self.count,
        )

    def _r2(self, errors: _Errors) -> float:
        total = float(self.variation.sum())
        if total == 0:
            raise TranslatorError(
                f"the {self.count} positions to score have one and the same receiver state, so "
                "R² is undefined; score at least two different ones"
            )
        return 1 - float(errors.squared.sum()) / total

    def _r2_dimension_mean(self, errors: _Errors) -> float:
        varies = self.variation > 0
        ratio = 1 - errors.squared / torch.where(varies, self.variation, 1.0)
        met = (errors.squared == 0).double()
        return float(torch.where(varies, ratio, met).mean())


def measure_quality(
    translator: Translator,
    batches: Iterable[PositionBatch],
    baseline: TargetMeans,
    *,
    sender_layer: str | None = None,
    receiver_layer: str | None = None,
) -> QualityReport:
    """Score a translator on held-out positions, in one pass and bounded memory.

    `batches` give un-normalised sender and receiver states; `baseline` comes from the
    training positions. The layers are noted as given, for reports over many layers.

    Raises as `positions.checked_batches` does, and `TranslatorError` where all targets
    are the same.
    """
    if baseline.raw.shape != (translator.width_out,):
        raise TranslatorError(
            f"the baseline has width {tuple(baseline.raw.shape)}, the translator gives width "
            f"{translator.width_out}"
        )
    normalised, raw, raw_input = (
        _Space(baseline.normalised),
        _Space(baseline.raw),
        _Space(baseline.raw),
    )
    checked = checked_batches(batches, translator.width_in, translator.width_out)
    with torch.no_grad():
        for sender, receiver in fixed_blocks(checked):
            sender = sender.to(translator.device)  # noqa: PLW2901
            predicted = translator(sender)
            normalised.add(predicted, l2_normalise(receiver))
            raw.add(predicted, receiver)
            raw_input.add(translator.apply_map(sender), receiver)
    return QualityReport(
        positions=raw.count,
        normalised=normalised.quality(),
        raw=raw.quality(),
        raw_input=raw_input.quality(),
        sender_layer=sender_layer,
        receiver_layer=receiver_layer,
    )
