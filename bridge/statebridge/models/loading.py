"""Loading a model from the hub or a folder, here or as the remote back end's stand-in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nnsight
import torch
import transformers

from statebridge.errors import EnvironmentFault, PairError
from statebridge.models.traced_model import TracedModel, TraceOptions, check_finite_weights
from statebridge.spec.experiment import ModelAtLayer


def resolve_device(device: str) -> torch.device:
    """Return the torch device meant by `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        EnvironmentFault: CUDA was asked for and is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise EnvironmentFault(
                f"device {device}: torch finds no CUDA here; use --device cpu, or install a CUDA "
                "build of torch on a machine with an NVIDIA GPU"
            )
        index = torch.device(device).index or 0
        if index >= torch.cuda.device_count():
            raise EnvironmentFault(
                f"device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), "
                "counted from cuda:0"
            )
    return torch.device(device)


def trace_options(remote: str | None) -> TraceOptions:
    """Return what each trace is called with for an experiment's `remote` field."""
    chosen: Mapping[str, Any]
    if remote is None:
        chosen = {}
    elif remote == "ndif":
        chosen = {"remote": True}
    else:
        chosen = {"remote": remote}
    return lambda: chosen


def load_model(
    side: ModelAtLayer, *, dtype: str = "float32", device: str = "auto", remote: str | None = None
) -> TracedModel:
    """Load one side of a pair and check it.

    Weights are memory-mapped from safetensors. With `remote` set to `ndif` or a URL no
    weights are loaded: the structure alone is built, and every trace is a remote job.

    Raises:
        PairError: No such model or revision, no tokenizer, layer out of range, or shapes
            that contradict the configuration.
        EnvironmentFault: CUDA asked for and absent, or the hub out of reach.
        NumericError: A weight is not finite.
    """
    where = resolve_device(device)
    name, source = side.model, side.model
    if side.model.startswith((".", "/", "~")):
        folder = Path(side.model).expanduser()
        if not (folder / "config.json").is_file():
            raise PairError(
                f"model {side.model}: no config.json in that folder; give a folder written by "
                "save_pretrained, or a hub id"
            )
        source = str(folder)
        # The same weights are the same model wherever they lie.
        name = folder.name
    tokenizer = _from_hub(
        transformers.AutoTokenizer.from_pretrained, "tokenizer", source, side.revision
    )
    options = trace_options(remote)
    if remote is not None and remote != "local":
        model = nnsight.TransformersModel(
            source, task="text-generation", tokenizer=tokenizer, revision=side.revision
        )
    else:
        module = _from_hub(
            transformers.AutoModelForCausalLM.from_pretrained,
            "model",
            source,
            side.revision,
            dtype=getattr(torch, dtype),
        )
        module.eval().requires_grad_(False).to(where)
        check_finite_weights(module, name)
        model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return TracedModel.wrap(
        model, tokenizer, side.layer, name=name, options=options, revision=side.revision
    )


def weights_sha256(module: torch.nn.Module) -> str | None:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all weights.

    None where the weights are not here (a remote model's structure).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.device.type == "meta":
            return None
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()


def _from_hub(load: Any, what: str, source: str, revision: str | None, **more: Any) -> Any:
    try:
        return load(source, revision=revision, **more)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision}" if revision else ""
        offline = (
            "; HF_HUB_OFFLINE is set, so it must be in the local cache already"
            if os.environ.get("HF_HUB_OFFLINE") == "1"
            else ""
        )
        raise PairError(f"{what} of {source}{at} cannot be loaded: {first}{offline}") from None
