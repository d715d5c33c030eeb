"""Fitting the maps of an experiment: here, or on the actors of a cluster.

One actor trains a map, by set and seed. It captures the states of the corpus for itself: no slower
than one process, which captures them once and then trains one seed after another, and no states are
sent. The sums of a closed form come from all actors, from each those of a part of the corpus. They
are added in the order of the parts, as in one process; one actor then solves for each seed's map,
trains it on and measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from statebridge.engine.cluster.actor import Actors
from statebridge.engine.fitting.corpus import CorpusTexts
from statebridge.engine.fitting.corpus_fit import (
    Progress,
    Sums,
    check_fits,
    fit_translators,
    merge_sums,
    part_sums,
)
from statebridge.engine.layer_captures import searched_pair
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.experiment.translator_settings import CLOSED_FORM
from statebridge.models.pair import Pair, check_copy, pair_facts
from statebridge.records import DatasetRow
from statebridge.runs.plan import TranslatorKey
from statebridge.translators import Translator


@dataclass(frozen=True, slots=True)
class FittedSet:
    """Maps of one set that are to be fitted."""

    name: str
    fit: Fit
    corpus: CorpusTexts
    seeds: tuple[int, ...]
    keys: Mapping[int, str] = field(default_factory=dict)
    """Keys of a store, by seed; empty without one."""

    @property
    def is_summed(self) -> bool:
        """Whether its maps are solved for from sums over the corpus."""
        return self.fit.kind in CLOSED_FORM


def fit_sets(
    sets: Sequence[FittedSet],
    pair: Pair,
    experiment: Experiment,
    evaluated: Sequence[DatasetRow],
    progress: Progress,
    actors: Actors | None = None,
    *,
    stitched: bool = False,
) -> Iterator[tuple[TranslatorKey, Translator]]:
    """Yield every map with its card, in any order.

    A layer search captures the states of all its layers at once in this process, which also solves
    for the closed forms of each pair of layers.

    Args:
        sets: What to fit.
        pair: This process's.
        experiment: Whose sets they are.
        evaluated: Rows of its dataset.
        progress: Called as work goes on.
        actors: Those of a cluster, if there are any.
        stitched: As for `fit_translators`.

    Raises:
        StatebridgeError: As `fit_translators`.
    """
    one = partial(fit_translators, experiment=experiment, evaluated=evaluated, stitched=stitched)
    elsewhere: list[FittedSet] = []
    if actors is None and len(sets) > 1 and not pair.sender.keeps_captures:
        # Sets mostly have one corpus; each reads it, and its held-out passages for each seed.
        pair = searched_pair(pair, [pair.sender.layer], [pair.receiver.layer])
    for each in sets:
        searched = pair.sender.keeps_captures and each.fit.causal is None
        if actors is None or (each.is_summed and searched):
            found = one(pair, each.fit, each.corpus, each.seeds, progress)
            yield from (((each.name, seed), translator) for seed, translator in found.items())
        else:
            check_fits(pair, each.fit, each.corpus, each.seeds, experiment, evaluated)
            elsewhere.append(each)
    if actors is not None and elsewhere:
        task = FitTask(
            actors.sent(experiment, pair),
            {each.name: each for each in elsewhere},
            evaluated,
            stitched,
            pair_facts(pair),
        )
        yield from _on_actors(task, actors, pair.receiver.device, progress)


def _on_actors(
    task: FitTask, actors: Actors, device: torch.device, progress: Progress
) -> Iterator[tuple[TranslatorKey, Translator]]:
    sets = task.sets.values()
    sums = {
        each.name: _added(each, task, actors, device, progress) for each in sets if each.is_summed
    }
    keys = [(each.name, seed) for each in sets for seed in each.seeds]
    items = (_Map(key, sums[key[0]].pop(key[1]) if key[0] in sums else None) for key in keys)
    progress("train", 0, len(keys))
    with closing(actors.work(task, items)) as work:
        for done, (key, translator) in enumerate(work, start=1):
            yield key, translator
            progress("train", done, len(keys))


def _added(
    each: FittedSet, task: FitTask, actors: Actors, device: torch.device, progress: Progress
) -> dict[int, Sums]:
    """Return the sums of a set, on the CPU, by seed; added on a device, as in one process."""
    parts = each.corpus.parts
    sums: dict[int, Sums] = {}
    early: dict[int, dict[int, Sums]] = {}
    added = 0
    with closing(actors.work(task, [_Part(each.name, i) for i in range(len(parts))])) as work:
        for place, found in work:
            early[place] = found
            while added in early:
                following = early.pop(added)
                if added:
                    merge_sums(sums, following)
                else:
                    sums = _on(device, following)
                added += 1
            progress("capture", parts[added - 1].stop if added else 0, parts[-1].stop)
    return _on("cpu", sums)


def _on(device: torch.device | str, sums: dict[int, Sums]) -> dict[int, Sums]:
    for own in sums.values():
        own.to(device)
    return sums


@dataclass(frozen=True, slots=True)
class _Part:
    """Sums over a part of a set's corpus, by the part's place."""

    name: str
    place: int


@dataclass(frozen=True, slots=True)
class _Map:
    """The map of a set and a seed; of a closed form with its sums."""

    key: TranslatorKey
    sums: Sums | None


@dataclass(frozen=True, slots=True)
class FitTask:
    """Fitting maps of one experiment, as it is sent to an actor.

    Attributes:
        experiment: As an actor reads it.
        sets: By name.
        evaluated: Rows of the experiment's dataset.
        stitched: As for `fit_translators`.
        facts: Facts of the driver's pair, of which the actor's must be a copy.
    """

    experiment: Experiment
    sets: Mapping[str, FittedSet]
    evaluated: Sequence[DatasetRow]
    stitched: bool
    facts: Mapping[str, str]

    def open(self, pair: Pair) -> Callable[[_Part | _Map], tuple[Any, Any]]:
        """Return what gathers sums and fits maps on an actor's pair.

        Raises:
            PairError: The pair is not the driver's.
        """
        check_copy(pair, self.facts)

        def done(item: _Part | _Map) -> tuple[Any, Any]:
            if isinstance(item, _Part):
                each = self.sets[item.name]
                part = each.corpus.parts[item.place]
                found = part_sums(pair, each.fit, each.corpus, part, each.seeds)
                return item.place, _on("cpu", found)
            name, seed = item.key
            if item.sums is not None:
                item.sums.to(pair.receiver.device)
            fitted = fit_translators(
                pair,
                self.sets[name].fit,
                self.sets[name].corpus,
                [seed],
                stitched=self.stitched,
                experiment=self.experiment,
                evaluated=self.evaluated,
                sums=None if item.sums is None else {seed: item.sums},
            )
            return item.key, fitted[seed]

        return done

    def label(self, item: Any) -> str:
        """Return an item's name for messages."""
        if isinstance(item, _Part):
            part = self.sets[item.name].corpus.parts[item.place]
            return f"translators: set {item.name}, passages {part.start} to {part.stop - 1}"
        return f"translators: set {item.key[0]}, seed {item.key[1]}"
