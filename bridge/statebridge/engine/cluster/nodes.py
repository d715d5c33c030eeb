"""Facts of a node: versions that must equal the driver's, and the models that it must have.

Nothing here imports torch: a node is asked before any model is loaded on it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import statebridge
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import ModelAtLayer

PACKAGES = ("statebridge", "torch", "transformers", "nnsight", "tokenizers", "numpy")
"""Packages whose version decides what a group computes."""


def own_versions() -> dict[str, str]:
    """Return the versions of Python, of the packages, and of this very source, here."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name).split("+")[0]  # torch's build for a device follows the +
        except PackageNotFoundError:
            found[name] = "none"
    return found | {"source of statebridge": _source()}


def _source() -> str:
    """Return a digest of the library's source: two checkouts may have one version."""
    root, running = Path(statebridge.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        running.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return running.hexdigest()[:12]


def node_fault(versions: Mapping[str, str], models: tuple[ModelAtLayer, ...]) -> str | None:
    """Return why this node cannot carry out what the driver sends; None if it can.

    Args:
        versions: The driver's.
        models: Both sides of the pair, folders as absolute paths.
    """
    own = own_versions()
    for name, wanted in versions.items():
        if own.get(name) != wanted:
            return (
                f"has {name} {own.get(name)}, and the driver has {wanted}; install the same on both"
            )
    return next((fault for model in models if (fault := _model_fault(model))), None)


def _model_fault(side: ModelAtLayer) -> str | None:
    if is_model_folder(side.model):
        if (Path(side.model) / "config.json").is_file():
            return None
        return (
            f"has no model at {side.model} (no config.json); put it there on each node, or on a "
            "volume that all nodes mount"
        )
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import

    if isinstance(try_to_load_from_cache(side.model, "config.json", revision=side.revision), str):
        return None
    return (
        f"has no model {side.model} in its cache, and HF_HUB_OFFLINE is set there; fetch it: "
        f"hf download {side.model}"
    )


def node_name(node: Mapping[str, Any]) -> str:
    """Return the name of a node of `ray.nodes()` in messages: address and beginning of its id."""
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
