"""Models as their configuration declares them; no weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache

from statebridge.errors import PairError
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.adapter import adapter_folder
from statebridge.models.loading import check_marked_folder

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True)
class Structure:
    """A model without weights, from its configuration."""

    module: torch.nn.Module
    tokenizer: Any
    weights: int
    """Number of its weights."""


def structure_of(side: ModelAtLayer, *, needed: bool) -> Structure:
    """Return a model's structure.

    Args:
        side: One side of a pair.
        needed: Whether its weights must be on this machine.

    Raises:
        PairError: The configuration, the tokenizer or the weights are not here.
    """
    local = is_model_folder(side.model)
    check_marked_folder(side.model)
    source = str(Path(side.model).expanduser()) if local else side.model
    where: dict[str, Any] = {
        "revision": side.revision,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    try:
        config = transformers.AutoConfig.from_pretrained(source, **where)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
        with torch.device("meta"):
            module = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except OSError:
        raise PairError(_absent(side, "configuration or tokenizer", local=local)) from None
    except Exception as error:  # a dozen kinds, from a dozen parsers of damaged files
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise PairError(f"{side.model}: is no causal language model: {reason}") from None
    if local:
        weights = any((Path(source) / name).exists() for name in WEIGHT_FILES)
    else:
        weights = any(
            isinstance(try_to_load_from_cache(source, name, revision=side.revision), str)
            for name in WEIGHT_FILES
        )
    if needed and not weights:
        raise PairError(_absent(side, "weights", local=local))
    if side.adapter is not None:
        adapter_folder(side.adapter, local_files_only=True)
    return Structure(module, tokenizer, sum(part.numel() for part in module.parameters()))


def _absent(side: ModelAtLayer, what: str, *, local: bool) -> str:
    if local:
        return f"{side.model}: no {what} in that folder; give one written by save_pretrained"
    revision = f" --revision {side.revision}" if side.revision else ""
    return (
        f"{side.model}: no {what} in the local cache; fetch it where there is a network: "
        f"hf download {side.model}{revision}"
    )
