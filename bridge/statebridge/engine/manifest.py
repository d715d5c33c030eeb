"""The manifest of a run: its identity, and how it was started."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from statebridge.channels.workload import Workload
from statebridge.data.answers import SCORING
from statebridge.data.training_texts import TrainingTexts
from statebridge.engine.reuse.lane_key import digest
from statebridge.errors import PairError
from statebridge.models.families import shape_from_config
from statebridge.models.pair import Pair
from statebridge.models.placement import places_of
from statebridge.models.quantized import RECORDED, is_quantized
from statebridge.models.traced_model import TracedModel
from statebridge.models.weights import weights_sha256
from statebridge.plugins import parts_added
from statebridge.results.training_overlap import FIELD, training_overlap
from statebridge.runs.directory import FORMAT
from statebridge.translators.storage import recorded_versions


def identity_of(workload: Workload, dataset_sha256: str) -> dict[str, Any]:
    """Return what makes a run the same one, but for its translators."""
    plan, pair = workload.plan, workload.pair
    experiment = plan.experiment.model_dump(mode="json", exclude={"execution"})
    conventions = sorted({row.attributes.get(SCORING) or "" for row in plan.rows})
    return {
        "experiment": experiment,
        # Parts that a plug-in or another distribution adds, by the hash of their code.
        "added_parts": parts_added([experiment, conventions]) or None,
        "path": plan.experiment.path,
        "dataset": {"sha256": dataset_sha256, "rows": len(plan.rows)},
        "prompts": _prompts(workload),
        "configurations": {
            "sender": _configuration(pair.sender),
            "receiver": _configuration(pair.receiver),
        },
        "pair": {"sender": _side(pair.sender), "receiver": _side(pair.receiver)},
        "versions": recorded_versions(_packages(pair)),
        "device": _device(pair.receiver.device),
        "sender_device": _other_device(pair),
        "threads": torch.get_num_threads(),
    }


def manifest_of(
    identity: Mapping[str, Any],
    workload: Workload,
    plan: Mapping[str, Any],
    reused: Mapping[str, Any],
    cautions: Sequence[str],
) -> dict[str, Any]:
    """Return the manifest of a run that is planned.

    Args:
        identity: As `identity_of` gives it, with the translators.
        workload: Its plan in groups.
        plan: Lanes of each group, and the most that run together.
        reused: Lanes that were set aside from earlier runs.
        cautions: What limits the results.
    """
    cells = []
    for cell in workload.plan.cells:
        rows = sum(workload.plan.included(cell, row) for row in range(workload.plan.limit))
        stated = {
            "name": cell.name,
            "seed": cell.seed,
            "rows": rows,
            "excluded_rows": workload.plan.limit - rows,
            "condition": cell.condition.model_dump(mode="json"),
        }
        if cell.condition.shuffled:
            stated["donors"] = workload.plan.donor_uses(cell)
        cells.append(stated)
    return {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **identity,
        "execution": workload.plan.experiment.execution.model_dump(mode="json"),
        "devices": {
            "sender": _places(workload.pair.sender),
            "receiver": _places(workload.pair.receiver),
        },
        "hosts": {
            name: side.host.facts(side.model.repo_id) if side.host.remote else None
            for name, side in (
                ("sender", workload.pair.sender),
                ("receiver", workload.pair.receiver),
            )
        },
        "git_revision": _git_revision(),
        "cells": cells,
        "plan": plan,
        "reused": reused,
        "cautions": list(cautions),
        **_overlap(workload),
    }


def _overlap(workload: Workload) -> dict[str, Any]:
    """Return which rows are new to the maps of the run; nothing of a run without maps."""
    trained: dict[str, list[TrainingTexts | None]] = {}
    for (name, _), translator in workload.translators.items():
        card = translator.card
        trained.setdefault(name, []).append(None if card is None else card.trained_on)
    rows = workload.plan.rows[: workload.plan.limit]
    return {FIELD: training_overlap(rows, trained)} if trained else {}


def _prompts(workload: Workload) -> dict[str, str]:
    """Return the SHA-256 of each kind of prompt that is known before a model runs.

    They follow from inputs that nothing else of the identity holds: a chat template may ask for
    the day.
    """
    prompts = workload.plan.prompts
    known: dict[str, Sequence[Any]] = {"receiver": prompts.receiver}
    known.update((str(name), ids) for name, ids in prompts.private.items())
    if prompts.sender is not prompts.receiver:
        known["sender"] = prompts.sender
    for readers, _ in prompts.dealt:
        known[f"{len(readers.sides)} senders {digest(readers)[:8]}"] = prompts.dealt[readers, None]
    return {name: digest(ids) for name, ids in known.items()}


def _configuration(model: TracedModel) -> str:
    """Return the SHA-256 of a model's settings: equal weights compute otherwise under others."""
    config = model.module.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    return digest([config, model.end_ids, model.pad_id])


def _side(model: TracedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "revision": model.revision,
        "layer": model.layer,
        "layer_path": model.layer_path,
        "blocks": len(model.block_paths),
        "width": model.width,
        "shape": _shape(model),
        "weights_sha256": weights_sha256(model.module),
    }


def _shape(model: TracedModel) -> dict[str, Any] | None:
    """Return the sizes that a pass's cost depends on; None of a family whose are not known."""
    with suppress(PairError):
        return asdict(shape_from_config(model.module.config.get_text_config().to_dict()))
    return None


_PACKAGES = ("statebridge", "torch", "transformers", "nnsight", "tokenizers", "numpy")


def _packages(pair: Pair) -> tuple[str, ...]:
    """Return what a result depends on; what makes weights of few bits where a side has them."""
    few = is_quantized(pair.sender.module) or is_quantized(pair.receiver.module)
    return (*_PACKAGES, *RECORDED) if few else _PACKAGES


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _places(model: TracedModel) -> str:
    return ", ".join(places_of(model.module)) or str(model.device)


def _other_device(pair: Pair) -> str | None:
    """Return what the sender is on; None where that is of the same kind as the receiver's."""
    own = _device(pair.sender.device)
    return None if own == _device(pair.receiver.device) else own


def _git_revision() -> str | None:
    """Return the revision of the checkout that the library runs from; None outside of one."""
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return found.stdout.strip() or None
    return None
