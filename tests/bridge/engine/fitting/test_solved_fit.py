"""Maps solved for in closed form: one pass over the corpus for all seeds, each its passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from statebridge.engine.fitting import corpus as corpora
from statebridge.engine.fitting import corpus_fit as fitting
from statebridge.engine.fitting.corpus import (
    NO_CORPUS,
    SOLVED_FOLDS,
    CorpusTexts,
    paired_positions,
    read_corpus,
)
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.engine.fitting.spread_fits import FittedSet, fit_sets
from statebridge.engine.fitting.stitched import stitched_cross_entropy
from statebridge.experiment.experiment import Fit, Prompts
from statebridge.experiment.random_streams import row_key
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.translators import Translator, fit_procrustes, fit_ridge
from tests.bridge.engine.fitting.causal.causal_experiment import experiment_of
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return engine_pair(neox_pair())


def declared(kind: str, positions: str) -> Fit:
    corpus = {"generate": {"rows": 150, "hops": [2], "seed": 4}, "positions": positions}
    return Fit.model_validate({"kind": kind, "corpus": corpus})


def weights_of(fitted: Any) -> dict[str, torch.Tensor]:
    return dict(fitted.weights())


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
def test_each_seed_has_the_map_of_its_passages(pair: Pair, kind: str, positions: str) -> None:
    fit = declared(kind, positions)
    corpus = read_corpus(fit.corpus, Prompts())
    together = fit_translators(pair, fit, corpus, SEEDS)
    fitted_on = corpus.passages[: corpus.held_out_start]
    for seed in SEEDS[:2]:
        chosen = [text for i, text in enumerate(fitted_on) if row_key(seed, str(i)) % SOLVED_FOLDS]
        assert 0 < len(chosen) < len(fitted_on)
        batches = paired_positions(pair, chosen, fit.corpus)
        alone = (
            fit_ridge(batches, fit.ridge, normalize=fit.normalize)
            if kind == "ridge"
            else fit_procrustes(batches, fit.procrustes, normalize=fit.normalize)
        )
        assert together[seed].card is not None
        found, expected = weights_of(together[seed]), weights_of(alone.translator)
        # Batches of other passages are padded otherwise: states differ by float32 rounding, 6e-8,
        # which the solution makes up to thirteen times larger here.
        for name, weight in expected.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)
    first, second = (weights_of(together[seed])["weight"] for seed in SEEDS[:2])
    assert not torch.allclose(first, second, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_more_seeds_take_no_more_passes_and_change_no_bit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = declared("ridge", "all")
    corpus = read_corpus(fit.corpus, Prompts())
    captured: list[int] = []
    real = TracedModel.capture

    def counted(self: TracedModel, batch: Any, *more: Any) -> torch.Tensor:
        captured.append(len(batch.lengths))
        return real(self, batch, *more)

    monkeypatch.setattr(TracedModel, "capture", counted)
    reported: list[tuple[str, int, int]] = []
    sums = fitting.gathered_sums(pair, fit, corpus, SEEDS, lambda *now: reported.append(now))
    # By sender and receiver.
    assert sum(captured) == 2 * corpus.held_out_start
    assert reported[-1] == ("capture", corpus.held_out_start, corpus.held_out_start)
    (alone,) = fitting.gathered_sums(pair, fit, corpus, SEEDS[1:2], lambda *_: None).values()
    found, expected = (fitting._solved(fit, {1: each})[1] for each in (sums[SEEDS[1]], alone))
    for name, weight in weights_of(expected.translator).items():
        assert torch.equal(weights_of(found.translator)[name], weight)


def test_sets_and_layer_pairs_share_the_passes_over_a_corpus(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds, two seeds, quality and stitching; then four pairs of layers."""
    small = {"generate": {"rows": 40, "hops": [2], "seed": 4}}
    fits = {
        kind: Fit.model_validate({"kind": kind, "corpus": small})
        for kind in ("ridge", "procrustes")
    }
    corpus = read_corpus(fits["ridge"].corpus, Prompts())
    passes: list[int] = []
    real = TracedModel._outputs

    def counted(self: TracedModel, inputs: Any, paths: Any, cache: Any = None) -> Any:
        passes.append(len(paths))
        return real(self, inputs, paths, cache)

    monkeypatch.setattr(TracedModel, "_outputs", counted)
    declared = experiment_of(pair)

    def fitted(kinds: Sequence[str]) -> dict[Any, Translator]:
        passes.clear()
        sets = [FittedSet(kind, fits[kind], corpus, (1, 2)) for kind in kinds]
        none: Any = lambda *_: None  # noqa: E731
        return dict(fit_sets(sets, pair, declared, (), none, stitched=True))

    found = fitted(list(fits))
    # Of 36 passages fitted on in batches of 16, 4 measured on in one, and stitched in the same.
    assert passes == [1] * 2 * (3 + 1)
    for kind in fits:
        alone = fitted([kind])
        assert len(passes) > 8
        for key, translator in alone.items():
            assert translator.card is not None
            assert found[key].card is not None
            assert found[key].card.quality == translator.card.quality
            assert found[key].card.stitched == translator.card.stitched
            assert torch.equal(found[key].weights()["weight"], translator.weights()["weight"])
    passes.clear()
    reports = fitting.layer_quality(pair, fits["ridge"], corpus, [0, 1], [0, 1])
    assert passes == [2] * 2 * (3 + 1)
    assert len({report.raw.r2 for report in reports}) == 4


def test_stitching_runs_the_upper_blocks_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = ("Bob works in Tokyo near the city.", "Zara lives in London.")
    translator = Translator("affine", pair.sender.width, pair.receiver.width)
    mean = torch.linspace(-1, 1, pair.receiver.width)
    found = [stitched_cross_entropy(pair, translator, passages, 20, mean)]
    monkeypatch.setattr(TracedModel, "skips_blocks", False)
    found.append(stitched_cross_entropy(pair, translator, passages, 20, mean))
    assert found[0].receiver != found[0].zero
    # The same operations; only their tensors may be laid out otherwise.
    assert vars(found[0]) == pytest.approx(vars(found[1]), rel=1e-6)


def test_a_corpus_has_parts_by_its_length_alone() -> None:
    def parts(passages: int) -> list[tuple[int, int]]:
        texts = CorpusTexts(("",) * passages, NO_CORPUS.record)
        return [(part.start, part.stop) for part in texts.parts]

    assert parts(2) == [(0, 1)]
    assert parts(2000) == [(0, 1024), (1024, 1800)]
    assert len(parts(100_000)) == 16
    assert parts(100_000)[-1][1] == 90_000


@pytest.mark.slow
def test_the_sums_of_parts_are_those_of_the_whole(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = declared("ridge", "last")
    corpus = read_corpus(fit.corpus, Prompts())
    whole = fitting.gathered_sums(pair, fit, corpus, (1,), lambda *_: None)
    monkeypatch.setattr(corpora, "WINDOW", 16)
    monkeypatch.setattr(corpora, "PART_WINDOWS", 4)
    assert len(corpus.parts) == 3
    merged = fitting.gathered_sums(pair, fit, corpus, (1,), lambda *_: None)
    found, expected = (fitting._solved(fit, each)[1] for each in (merged, whole))
    for name, weight in weights_of(expected.translator).items():
        # As above: batches of other passages.
        torch.testing.assert_close(weights_of(found.translator)[name], weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.means.raw, expected.means.raw, rtol=0, atol=1e-6)
