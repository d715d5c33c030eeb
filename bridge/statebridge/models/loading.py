"""Loading a model from the hub or a folder, here or as the remote back end's stand-in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import nnsight
import torch
import transformers

from statebridge.errors import EnvironmentFault, PairError
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.adapter import merge_adapter
from statebridge.models.hosts import HERE, Host
from statebridge.models.onednn_layers import take_onednn
from statebridge.models.placement import (
    check_finite_weights,
    check_map,
    first_place,
    map_arguments,
    order_places,
    places_of,
)
from statebridge.models.quantized import (
    check_hardware,
    check_scales,
    check_weights_are_possible,
    few_bits_cautions,
    weights_arguments,
)
from statebridge.models.threads import take_usable_processors
from statebridge.models.traced_model import TracedModel
from statebridge.models.weights import note_files


def resolve_device(device: str, field: str = "device") -> torch.device:
    """Return the torch device meant by `auto`, `cpu`, `cuda` or `cuda:N`.

    `field` names in messages where the device was asked for.

    Raises:
        EnvironmentFault: CUDA was asked for and is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise EnvironmentFault(
                f"{field} {device}: torch finds no CUDA here; use --device cpu, or install a CUDA "
                "build of torch on a machine with an NVIDIA GPU"
            )
        index = torch.device(device).index or 0
        if index >= torch.cuda.device_count():
            raise EnvironmentFault(
                f"{field} {device}: this machine has {torch.cuda.device_count()} CUDA device(s), "
                "counted from cuda:0"
            )
    return torch.device(device)


def check_marked_folder(model: str) -> None:
    """Refuse the name of a folder here that reads as the id of a model on the hub.

    Raises:
        PairError: Such a name.
    """
    if not is_model_folder(model) and Path(model).is_dir():
        raise PairError(
            f"model {model}: is a folder here, and reads as the id of a model on the hub; write "
            f"./{model} for the folder, or start elsewhere for the hub's"
        )


def loaded_name(side: ModelAtLayer) -> str:
    """Return the name of a declared model once it is loaded: its hub id, or its folder's name.

    The same weights are the same model wherever their folder is. An adapter's name follows, since
    with it the model is another one.
    """
    parts = (side.model,) if side.adapter is None else (side.model, side.adapter)
    return " + ".join(Path(p).expanduser().name if is_model_folder(p) else p for p in parts)


def declared_blocks(side: ModelAtLayer) -> int | None:
    """Return the number of blocks that a model's configuration declares, before it is loaded.

    None where it cannot be read: `load_model` states what is wrong.
    """
    folder = is_model_folder(side.model)
    source = str(Path(side.model).expanduser()) if folder else side.model
    try:
        config = transformers.AutoConfig.from_pretrained(
            source, revision=side.revision, trust_remote_code=False
        )
        return int(config.get_text_config().num_hidden_layers)
    except Exception:
        return None


def load_model(
    side: ModelAtLayer,
    *,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | dict[str, str] | None = None,
    host: Host = HERE,
) -> TracedModel:
    """Load one side of a pair and check it.

    With a `device_map` the model is laid over several devices by accelerate, and `device` is not
    used.

    Weights are memory-mapped from safetensors. With a remote host no weights are loaded: the
    structure alone is built, and every trace is a remote job.

    Raises:
        PairError: No such model or revision, no tokenizer, layer out of range, shapes that
            contradict the configuration, or an adapter that does not fit.
        EnvironmentFault: CUDA asked for and absent, the hub out of reach, or PEFT missing.
        RemoteError: The remote host refuses, cannot be reached, or holds another dtype.
        NumericError: A weight is not finite.
    """
    where = resolve_device(device if device_map is None else "cpu")
    if device_map is not None:
        check_map(device_map)
    take_usable_processors()
    name, source = loaded_name(side), _source_of(side, host)
    config = _from_hub(transformers.AutoConfig.from_pretrained, "model", source, side.revision)
    if not host.remote:
        check_weights_are_possible(side.weights, config, side.model)
        check_hardware(side.weights, where, side.model)
    tokenizer = _from_hub(
        transformers.AutoTokenizer.from_pretrained, "tokenizer", source, side.revision
    )
    # Where its files are missing, transformers makes one that holds the special tokens alone.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise PairError(f"model {side.model}: has no tokenizer; save one beside the weights")
    cautions: list[str] = []
    if host.remote and side.adapter is not None:
        raise PairError(
            f"adapter {side.adapter}: the remote back end holds models as they are; run this side "
            "here"
        )
    if host.remote:
        model = _from_hub(
            nnsight.TransformersModel,
            "model",
            source,
            side.revision,
            task="text-generation",
            tokenizer=tokenizer,
        )
        model._module.to(getattr(torch, dtype))  # what the host is expected to compute in
    else:
        module, found = _from_hub(
            transformers.AutoModelForCausalLM.from_pretrained,
            "model",
            source,
            side.revision,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **weights_arguments(side.weights, config, dtype, where),
            **({} if device_map is None else map_arguments(device_map)),
        )
        check_scales(found["missing_keys"], side.model)
        cautions = _check_all_loaded(found, side.model)
        cautions += drop_generation_settings(module)
        if side.adapter is not None:
            cautions += merge_adapter(module, side.adapter, side.model)
        module.eval().requires_grad_(False)
        if device_map is None and side.weights is None:
            module.to(where)
        order_places(module)
        check_finite_weights(module, name)
        check_causal(module, side.model)
        cautions += few_bits_cautions(module, config, name)
        if side.weights is None and not places_of(module):
            take_onednn(module)
        if (
            side.adapter is None and side.weights is None
        ):  # else the weights are not those of the files
            note_files(module, source, side.revision)
        # Without a device the pipeline underneath moves the model to the machine's first GPU; one
        # that has several is not moved.
        model = nnsight.TransformersModel(
            module,
            task="text-generation",
            tokenizer=tokenizer,
            device=None if hasattr(module, "hf_device_map") else first_place(module),
        )
    traced = TracedModel.wrap(
        model,
        tokenizer,
        side.layer,
        name=name,
        host=host,
        revision=side.revision,
        cautions=tuple(cautions),
    )
    return replace(traced, source=side)


def _source_of(side: ModelAtLayer, host: Host) -> str:
    """Return the hub id or the folder of a model's files."""
    check_marked_folder(side.model)
    if not is_model_folder(side.model):
        return side.model
    if host.remote:
        raise PairError(
            f"model {side.model}: a folder here is unknown to the remote back end; give a hub id"
        )
    folder = Path(side.model).expanduser()
    if not (folder / "config.json").is_file():
        raise PairError(
            f"model {side.model}: no config.json in that folder; give a folder written by "
            "save_pretrained, or a hub id"
        )
    if (folder / "adapter_config.json").is_file():
        raise PairError(
            f"model {side.model}: holds an adapter (adapter_config.json); give its base as "
            "model, and this folder as adapter"
        )
    return str(folder)


def check_causal(module: Any, name: str) -> None:
    """Refuse a model whose state at a token depends on the tokens after it, or that cannot run.

    Raises:
        PairError: Such a model.
    """
    ids = (
        torch.tensor([[1, 2], [1, 3]], device=first_place(module))
        % module.config.get_text_config().vocab_size
    )
    try:
        with torch.no_grad():
            logits = module(input_ids=ids, use_cache=False).logits[:, 0].float()
    except Exception as error:  # whatever the code of some architecture raises
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise PairError(
            f"model {name}: a pass over two tokens fails ({reason}); give a causal language model "
            "that takes token ids alone"
        ) from None
    scale = float(logits.abs().max())
    # Rounding may differ between rows of a batch; what a later token adds is far larger.
    tolerance = torch.finfo(module.dtype).eps ** 0.5 * scale
    if float((logits[0] - logits[1]).abs().max()) > tolerance:
        raise PairError(
            f"model {name}: its output at a token depends on the tokens after it, so it is no "
            "causal language model; give one, or set is_decoder: true in config.json if it was "
            "trained as one"
        )


_DECLARED_SETTINGS = frozenset(
    {
        "bos_token_id",
        "decoder_start_token_id",
        "do_sample",
        "eos_token_id",
        "max_length",
        "max_new_tokens",
        "no_repeat_ngram_size",
        "num_beams",
        "pad_token_id",
        "repetition_penalty",
        "temperature",
        "top_k",
        "top_p",
        "transformers_version",
        "use_cache",
    }
)
"""Settings of generation_config.json that an experiment declares, or that change no text."""


def drop_generation_settings(module: Any) -> list[str]:
    """Leave a model its end, pad and begin tokens, and return what else its checkpoint had set.

    An experiment declares how text is decoded; what a checkpoint brings would reach one path and
    not the other.
    """
    brought = module.generation_config
    kept = transformers.GenerationConfig()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(kept, name, getattr(brought, name))
    module.generation_config = kept
    dropped = {
        name: value
        for name, value in brought.to_diff_dict().items()
        if value and name not in _DECLARED_SETTINGS and not name.startswith("_")
    }
    return [
        f"generation_config.json sets {name}: {shorten(json.dumps(value, default=str), 60)}, which "
        "is not used: an experiment declares its decoding."
        for name, value in sorted(dropped.items())
    ]


def _check_all_loaded(found: Mapping[str, Any], model: str) -> list[str]:
    """Refuse a checkpoint that leaves weights as they were drawn: random.

    Returns:
        A caution, where the checkpoint holds weights that the model does not take.

    Raises:
        PairError: Names the first weight that is missing or has another shape.
    """
    for name, stored, declared in sorted(found["mismatched_keys"]):
        raise PairError(
            f"model {model}: weight {name} has shape {tuple(stored)} in the checkpoint and "
            f"{tuple(declared)} by config.json; the two belong to different models"
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise PairError(
            f"model {model}: the checkpoint has no weight {missing[0]}"
            f"{f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''}, which would be "
            "random; give the whole checkpoint of a causal language model"
        )
    surplus = sorted(found["unexpected_keys"])
    if not surplus:
        return []
    more = f" (and {len(surplus) - 1} more)" if len(surplus) > 1 else ""
    return [
        f"the checkpoint's weight {surplus[0]}{more} is not used: config.json declares a model "
        "without it."
    ]


def _from_hub(load: Any, what: str, source: str, revision: str | None, **more: Any) -> Any:
    try:
        # Never asks, never runs a repository's own code.
        return load(source, revision=revision, trust_remote_code=False, **more)
    except MemoryError:
        raise EnvironmentFault(
            f"{what} of {source}: out of memory; use a smaller model or a narrower dtype"
        ) from None
    except Exception as error:  # a dozen kinds, from a dozen parsers of damaged files
        reason = shorten(str(error), 300, placeholder=" ...") or type(error).__name__
        at = f" at revision {revision}" if revision else ""
        offline = (
            "; HF_HUB_OFFLINE is set, so it must be in the local cache already"
            if os.environ.get("HF_HUB_OFFLINE") == "1" and not Path(source).is_dir()
            else ""
        )
        raise PairError(f"{what} of {source}{at} cannot be loaded: {reason}{offline}") from None
