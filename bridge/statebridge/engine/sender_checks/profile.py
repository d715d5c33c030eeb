"""The layer profile: at each layer of both models, probes and patches of the last state.

A patch replaces the state of the prompt's last token, or those of the context's tokens, by
another row's at one layer, and measures what becomes of the row's answer and of the other row's
(activation patching; Vig et al. 2020, arXiv 2004.12265, for mediation by layer). An ablation at
the sending layer alone does not say whether another layer holds more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from statebridge.channels.workload import Workload
from statebridge.engine.executors.memory import halving
from statebridge.engine.planning.groups import choose_max_lanes
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.engine.sender_checks.probe import Floats, probe
from statebridge.engine.similarity.layer_similarity import block_indices
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow, Side
from statebridge.results.layer_profile import LayerProfile, ModelProfile, ProfiledLayer

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
    sides: tuple[tuple[Side, TracedModel, str, Layers], ...] = (
        ("sender", pair.sender, experiment.prompts.to_sender, sender_layers),
        ("receiver", pair.receiver, experiment.prompts.task, receiver_layers),
    )
    blocks = [block_indices(model, layers) for _, model, _, layers in sides]
    total, done = sum(map(len, blocks)), 0
    profiles = []
    for (side, model, template, _), chosen in zip(sides, blocks, strict=True):
        work = _reading(experiment, model, template, rows)
        plan = replace(plan_sender_checks(work), replacements=("patch",))
        kept = tuple(found for found in plan.sets if found.name in ("last", "context"))
        states = _last_states(work, model, chosen)
        answers = [row.answer.strip() for row in rows[: work.plan.limit]]
        vectors = _embeddings(model, plan.answers) if experiment.remote is None else None
        seed, max_lanes = experiment.seeds[0], choose_max_lanes(work)
        layers = []
        for place, layer in enumerate(chosen):
            progress("profile", done, total)
            at_layer = replace(work, pair=_with_itself(replace(model, layer=layer)))
            checks = replace(plan, workload=at_layer, sets=kept)
            layers.append(
                ProfiledLayer(
                    layer=layer,
                    checks=run_sender_checks(checks, max_lanes),
                    seen=probe(states[place], answers, vectors, seed, held_out="rows"),
                    unseen=(
                        None
                        if vectors is None
                        else probe(states[place], answers, vectors, seed, held_out="answers")
                    ),
                )
            )
            done += 1
        profiles.append(
            ModelProfile(
                side=side, model=model.name, layer_in_use=model.layer, layers=tuple(layers)
            )
        )
    progress("profile", total, total)
    return LayerProfile(models=tuple(profiles))


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


def _last_states(work: Workload, model: TracedModel, layers: Sequence[int]) -> list[Floats]:
    """Return the states of each prompt's last token, (rows, width) for each layer."""
    prompts = work.plan.prompts.sender[: work.plan.limit]
    found: dict[int, list[Floats]] = {}

    def read(rows: Sequence[int]) -> list[None]:
        batch = model.pack([prompts[row] for row in rows])
        states = model.capture_layers(batch, layers)
        last = torch.stack([each[:, -1] for each in states]).double().cpu().numpy()
        found.update((row, list(last[:, place])) for place, row in enumerate(rows))
        return []

    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), TOGETHER):
        halving(read, order[start : start + TOGETHER], "row")
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
