"""The layer profile: at each layer of both models, probes and patches of the last state.

A patch replaces the state of the prompt's last token, or those of the context's tokens, by
another row's at one layer, and measures what becomes of the row's answer and of the other row's
(activation patching; Vig et al. 2020, arXiv 2004.12265, for mediation by layer). An ablation at
the sending layer alone does not say whether another layer holds more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from statebridge.channels.workload import Workload
from statebridge.engine.executors.memory import halving
from statebridge.engine.planning.groups import choose_max_lanes
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import SenderCheckPlan, plan_sender_checks
from statebridge.engine.sender_checks.probe import Floats, probe
from statebridge.engine.similarity.layer_similarity import block_indices
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow, Side
from statebridge.results.layer_profile import LayerProfile, ModelProfile, ProbeScore, ProfiledLayer

TOGETHER = 16
"""Prompts in one pass; the last states of all layers are taken from it."""

Layers = Sequence[int | float | str] | None

Progress = Callable[[str, int, int], None]
"""Called with `profile`, layers done, and layers in all."""


def layer_profile(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    sender_layers: Layers = None,
    receiver_layers: Layers = None,
    progress: Progress = lambda *_: None,
) -> LayerProfile:
    """Profile both models on the rows of an experiment, each on the prompt with the context.

    Args:
        experiment: As declared; its conditions do not matter.
        rows: The whole dataset; the first `limit` rows are read.
        sender_layers, receiver_layers: As in an experiment file; every block if not given.

    Raises:
        PairError: A layer does not exist, or a prompt or answer does not fit a model.
        ExperimentError: A single row runs.
        NumericError: A state or a log-probability is not finite.
    """
    sender = _read(experiment, "sender", pair.sender, experiment.prompts.to_sender, rows)
    receiver = _read(experiment, "receiver", pair.receiver, experiment.prompts.task, rows)
    sides = (
        (sender, block_indices(pair.sender, sender_layers)),
        (receiver, block_indices(pair.receiver, receiver_layers)),
    )
    total, done = sum(len(blocks) for _, blocks in sides), 0
    profiles = []
    for read, blocks in sides:
        layers = []
        for layer, states in zip(blocks, _last_states(read, blocks), strict=True):
            progress("profile", done, total)
            layers.append(_layer(read, layer, states, receiver if read is sender else None))
            done += 1
        name, in_use = read.model.name, read.model.layer
        profiles.append(
            ModelProfile(side=read.side, model=name, layer_in_use=in_use, layers=tuple(layers))
        )
    progress("profile", total, total)
    return LayerProfile(models=tuple(profiles))


@dataclass(frozen=True, slots=True)
class _Read:
    """A model that has read the prompts.

    Attributes:
        answers: Answer of each row.
        vectors: (rows, width) embeddings of the answers; None where they are not here.
    """

    side: Side
    model: TracedModel
    plan: SenderCheckPlan
    answers: Sequence[str]
    vectors: Floats | None
    seed: int


def _read(
    experiment: Experiment,
    side: Side,
    model: TracedModel,
    template: str,
    rows: Sequence[DatasetRow],
) -> _Read:
    work = _reading(experiment, model, template, rows)
    plan = plan_sender_checks(work)
    kept = tuple(found for found in plan.sets if found.name in ("last", "context"))
    # Not those of a remote model, nor offloaded ones.
    here = model.module.get_input_embeddings().weight.device.type != "meta"
    vectors = _embeddings(model, plan.answers) if here and experiment.remote is None else None
    answers = [row.answer.strip() for row in rows[: work.plan.limit]]
    plan = replace(plan, sets=kept, replacements=("patch",))
    return _Read(side, model, plan, answers, vectors, experiment.seeds[0])


def _layer(read: _Read, layer: int, states: Floats, receiver: _Read | None) -> ProfiledLayer:
    """Return one layer's patches and probes; those into the receiver where it is given."""
    work = read.plan.workload
    at_layer = replace(work, pair=_with_itself(replace(read.model, layer=layer)))

    def unseen(of: _Read | None) -> ProbeScore | None:
        if of is None or of.vectors is None:
            return None
        return probe(states, read.answers, of.vectors, read.seed, held_out="answers")

    return ProfiledLayer(
        layer=layer,
        checks=run_sender_checks(replace(read.plan, workload=at_layer), choose_max_lanes(work)),
        seen=probe(states, read.answers, read.vectors, read.seed, held_out="rows"),
        unseen=unseen(read),
        across=unseen(receiver),
    )


def _with_itself(model: TracedModel) -> Pair:
    return Pair(model, model)


def _reading(
    experiment: Experiment, model: TracedModel, template: str, rows: Sequence[DatasetRow]
) -> Workload:
    """Return the workload of a model that reads the prompts, and whose last state is read."""
    side = {"model": model.name, "layer": model.layer}
    prompts = experiment.prompts.model_dump() | {"task": template, "sender": None}
    changes = {
        "sender": side,
        "receiver": side,
        "translators": None,
        "conditions": ["activation_replace"],
        "prompts": prompts,
        "positive_control": None,
        "likelihoods": None,
        "sender_checks": False,
        "layer_search": None,
    }
    declared = Experiment.model_validate(experiment.model_dump() | changes)
    return prepare(declared, _with_itself(model), rows, {})


def _last_states(read: _Read, layers: Sequence[int]) -> list[Floats]:
    """Return the states of each prompt's last token, (rows, width) for each layer."""
    model, plan = read.model, read.plan.workload.plan
    prompts = plan.prompts.sender[: plan.limit]
    found: dict[int, list[Floats]] = {}

    def capture(rows: Sequence[int]) -> list[None]:
        batch = model.pack([prompts[row] for row in rows])
        states = model.capture_layers(batch, layers)
        last = torch.stack([each[:, -1] for each in states]).double().cpu().numpy()
        found.update((row, list(last[:, place])) for place, row in enumerate(rows))
        return []

    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), TOGETHER):
        halving(capture, order[start : start + TOGETHER], "row")
    return [
        np.stack([found[row][place] for row in range(len(prompts))]) for place in range(len(layers))
    ]


def _embeddings(model: TracedModel, answers: Sequence[tuple[int, ...]]) -> Floats:
    """Return the mean input embedding of each answer's tokens, (rows, width)."""
    weight = model.module.get_input_embeddings().weight
    means = [
        weight[torch.tensor(ids, device=weight.device)].double().mean(dim=0) for ids in answers
    ]
    found: Floats = torch.stack(means).detach().cpu().numpy()
    return found
