"""A probe of the two paths on a model of an unknown family: a few tokens, before anything runs.

The shared path assumes that blocks can be skipped, put out tensors, and keep keys and values alone.
Families in the table are known to fit. Of any other model two short rows are run: by `generate` of
Hugging Face, one at a time, and on both paths. What gives other tokens, or fails, is not taken. Few
tokens need not show that padding changes a row's states; that is found when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from textwrap import shorten
from typing import Literal

import torch

from statebridge.engine.executors.in_process import open_path
from statebridge.engine.planning.groups import grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.errors import PairError, StatebridgeError
from statebridge.experiment.experiment import Experiment
from statebridge.models.families import FAMILIES
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow

NEW_TOKENS = 3
ROWS = (
    DatasetRow("short", "A b.", "C?", "d"),
    DatasetRow("long", "The sun is far away, and the moon is near.", "Which one is near?", "moon"),
)
CONDITIONS = ("no_inject", "b_to_b_self_inject", "nl_relay")

Path = Literal["shared", "plain"]


def on_a_path_that_fits(experiment: Experiment, pair: Pair) -> tuple[Experiment, tuple[str, ...]]:
    """Return the experiment on a path that both models can take, and a caution if it is another.

    Raises:
        PairError: Neither path gives the tokens of Hugging Face, or the declared one does not.
    """
    if experiment.runs_remotely:
        return experiment, ()
    cautions = []
    for model in _unknown(pair):
        wrong = _wrong_on(experiment, model, "plain")
        if wrong is not None:
            raise PairError(
                f"{model.name}: a model of type {_kind(model)} runs on neither path ({wrong}); "
                f"known families: {', '.join(sorted(FAMILIES))}"
            )
        if experiment.path == "plain":
            continue
        wrong = _wrong_on(experiment, model, "shared")
        if wrong is None:
            continue
        why = f"{model.name}: a model of type {_kind(model)} does not run on the shared path"
        if experiment.execution.path == "shared" or experiment.sampled:
            needed = "decoding.sample" if experiment.sampled else "execution.path shared"
            raise PairError(f"{why} ({wrong}), which {needed} needs; use execution.path plain")
        execution = experiment.execution.model_copy(update={"path": "plain"})
        experiment = experiment.model_copy(update={"execution": execution})
        cautions.append(f"{why} ({wrong}). The plain path is taken, which is slower.")
    return experiment, tuple(cautions)


def _unknown(pair: Pair) -> Iterator[TracedModel]:
    models = [pair.sender]
    if pair.receiver.module is not pair.sender.module:
        models.append(pair.receiver)
    return (model for model in models if _kind(model) not in FAMILIES)


def _kind(model: TracedModel) -> str:
    return str(model.module.config.model_type)


def _wrong_on(experiment: Experiment, model: TracedModel, path: Path) -> str | None:
    """Return what is wrong on a path; None if it gives the right tokens."""
    if path == "shared" and model.unpadded:
        return "its states depend on the padding in front of a row"
    try:
        found = _tokens(experiment, model, path)
        expected = {row.row_id: _generated(experiment, model, row) for row in ROWS}
    except StatebridgeError as error:
        return str(error)
    except Exception as error:  # whatever the code of some architecture raises
        reason = " ".join(str(error).split())
        return shorten(f"{type(error).__name__}: {reason}", 160, placeholder=" ...")
    for (cell, row_id), tokens in found.items():
        if cell != "nl_relay" and tokens != expected[row_id]:
            return f"{cell} gives other tokens than one row alone"
    return None


def _tokens(
    experiment: Experiment, model: TracedModel, path: Path
) -> dict[tuple[str, str], tuple[int, ...] | None]:
    probe = _probe_of(experiment, model, path)
    work = prepare(probe, Pair(model, model), ROWS, {})
    work = replace(work, plan=grouped(work.plan, len(ROWS) * len(CONDITIONS)))
    runner = open_path(work)
    return {
        (cell.name, lane.row_id): lane.token_ids
        for group in work.plan.groups
        for cell, _, lane in runner.run(group)
    }


def _probe_of(experiment: Experiment, model: TracedModel, path: Path) -> Experiment:
    side = {"model": model.name, "layer": model.layer}
    return Experiment.model_validate(
        {
            "name": "probe",
            "sender": side,
            "receiver": side,
            "dataset": {"generate": {"rows": len(ROWS)}},
            "conditions": list(CONDITIONS),
            "dtype": experiment.dtype,
            "decoding": {
                "max_new_tokens": NEW_TOKENS,
                "relay_max_new_tokens": NEW_TOKENS,
                "repetition_penalty": 1.0,
                "no_repeat_ngram_size": 0,
                "truncate": "right",
            },
            "execution": {"path": path},
        }
    )


def _generated(experiment: Experiment, model: TracedModel, row: DatasetRow) -> tuple[int, ...]:
    """Return the tokens that Hugging Face gives after one row's prompt."""
    prepared = prepare(_probe_of(experiment, model, "plain"), Pair(model, model), [row], {})
    (ids,) = prepared.plan.prompts.receiver
    batch = model.pack([ids])
    with torch.no_grad():
        found = model.module.generate(
            batch.ids,
            attention_mask=batch.mask.long(),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=list(model.end_ids) or None,
            pad_token_id=model.pad_id,
        )
    return tuple(found[0, len(ids) :].tolist())
