"""PEFT adapters: a difference to a model's weights, added to them when the model is loaded."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

from huggingface_hub import snapshot_download

from statebridge.errors import EnvironmentFault, PairError
from statebridge.experiment.declared import is_model_folder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter_folder(adapter: str, *, local_files_only: bool = False) -> Path:
    """Return the folder of an adapter: that of the path, or of the hub's files in the cache.

    Weights are read from safetensors alone: other formats can hold code.

    Raises:
        PairError: There is no such adapter, or it lacks one of its two files.
    """
    if is_model_folder(adapter):
        folder = Path(adapter).expanduser()
    else:
        try:
            found = snapshot_download(
                adapter, allow_patterns=[CONFIG, WEIGHTS], local_files_only=local_files_only
            )
        except Exception as error:  # of the hub, of the network, of the cache
            reason = shorten(str(error), 160, placeholder=" ...")
            raise PairError(f"adapter {adapter}: cannot be had from the hub: {reason}") from None
        folder = Path(found)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PairError(
                f"adapter {adapter}: no {name}; give an adapter that PEFT saved as safetensors"
            )
    return folder


def merge_adapter(module: Any, adapter: str, model: str) -> list[str]:
    """Add an adapter's difference to a model's weights, in place.

    Args:
        module: The model, with its weights.
        adapter: Hub id or folder.
        model: Name of the model, for messages.

    Returns:
        A caution, where the adapter names another base than the model.

    Raises:
        PairError: No such adapter, one of another base, or one that is no difference of weights.
        EnvironmentFault: PEFT is not installed.
    """
    if find_spec("peft") is None:
        raise EnvironmentFault(
            f"adapter {adapter}: needs PEFT; install it with pip install 'statebridge[peft]'"
        )
    import peft  # noqa: PLC0415 - takes a second, and few experiments need it

    folder = adapter_folder(adapter)
    before = {name: tensor.shape for name, tensor in module.state_dict().items()}
    try:
        with warnings.catch_warnings():
            # Weights that the adapter's file lacks would be as they were drawn: no difference.
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted: Any = peft.PeftModel.from_pretrained(module, str(folder))
            if not hasattr(adapted, "merge_and_unload"):
                raise PairError(
                    f"adapter {adapter}: is of kind {_kind(folder)}, which adds tokens and changes "
                    "no weight; give one of weights, such as LoRA"
                )
            merged = adapted.merge_and_unload(safe_merge=True)
    except PairError:
        raise
    except Exception as error:  # whatever PEFT or torch say of shapes and names
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise PairError(
            f"adapter {adapter}: does not fit model {model}: {reason}; give an adapter that was "
            "trained on this model"
        ) from None
    after = {name: tensor.shape for name, tensor in merged.state_dict().items()}
    if merged is not module or after != before:
        raise PairError(
            f"adapter {adapter}: changes the shape of model {model}; merge it with PEFT and give "
            "the folder of the merged model"
        )
    base = str(json.loads((folder / CONFIG).read_text("utf-8")).get("base_model_name_or_path"))
    if Path(base).name != Path(model).name:
        return [f"adapter {adapter} was trained on {base}, and is applied to {model}."]
    return []


def _kind(folder: Path) -> str:
    return str(json.loads((folder / CONFIG).read_text("utf-8")).get("peft_type"))
