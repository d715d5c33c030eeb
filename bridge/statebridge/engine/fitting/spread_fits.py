"""Fits as work for the actors of a cluster: one map each, by set and seed.

Each actor captures the states of the corpus for itself. That is no slower than one process, which
captures them once and then trains one seed after another, and no states are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from statebridge.engine.fitting.corpus import CorpusTexts
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.runs.plan import TranslatorKey
from statebridge.translators import Translator


class Actors(Protocol):
    """Actors that carry out tasks; `cluster.pool.Pool` is one."""

    def work(self, task: Any, items: Any) -> Generator[Any, None, None]:
        """Yield the result of each item, in any order."""

    def sent(self, experiment: Experiment, pair: Pair) -> Experiment:
        """Return an experiment as an actor reads it."""


@dataclass(frozen=True, slots=True)
class FitTask:
    """Fitting one map at a time.

    Attributes:
        experiment: As an actor reads it.
        fits: By name of their set, each with its corpus.
        evaluated: Rows of the experiment's dataset.
    """

    experiment: Experiment
    fits: Mapping[str, tuple[Fit, CorpusTexts]]
    evaluated: Sequence[DatasetRow]

    def open(self, pair: Pair) -> Callable[[TranslatorKey], tuple[TranslatorKey, Translator]]:
        """Return what fits the map of a set and a seed on an actor's pair."""

        def fitted(key: TranslatorKey) -> tuple[TranslatorKey, Translator]:
            (fit, corpus), seed = self.fits[key[0]], key[1]
            found = fit_translators(
                pair,
                fit,
                corpus,
                [seed],
                experiment=self.experiment,
                evaluated=self.evaluated,
            )
            return key, found[seed]

        return fitted

    def label(self, item: Any) -> str:
        """Return a map's name for messages."""
        return f"translators: set {item[0]}, seed {item[1]}"
