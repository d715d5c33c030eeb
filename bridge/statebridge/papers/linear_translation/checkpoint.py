"""Published translator checkpoints: the `.pt` dictionaries of arXiv 2606.03280.

A dictionary of `dim_source`, `dim_target`, `arch`, `hidden_dim`, `normalize` and
`state_dict`. It is read with torch's weights-only unpickler: a file that would need code to be
run is refused, and nothing in it is run.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import TranslatorError, nearest
from statebridge.experiment.translator_settings import KINDS
from statebridge.results.formats import CHECKPOINTS, Checkpoint

ARCHITECTURES: dict[str, str] = {
    "linear": "affine",
    "mlp_1hidden": "mlp_1hidden",
    "mlp_3hidden": "mlp_3hidden",
}
"""Kind of translator by the checkpoint's `arch`."""

FIELDS = ("dim_source", "dim_target", "arch", "normalize", "state_dict")
"""Fields that a checkpoint must have; the MLPs also need `hidden_dim`."""

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"


class PublishedCheckpoint:
    """The format of the published translators."""

    def recognises(self, path: Path, content: bytes) -> bool:
        """Whether a file is to be read as a torch checkpoint and not as safetensors.

        The content decides, and the name where the content is neither. A safetensors file
        begins with the length of its header, eight bytes, and then the header's brace.
        """
        if content.startswith(ZIP_MAGIC):
            return True
        if content[8:9] == b"{":
            return False
        return content.startswith(PICKLE_MAGIC) or path.suffix in SUFFIXES

    def read(self, path: Path, content: bytes) -> Checkpoint:
        """Return the translator of a checkpoint, `content` being the bytes of `path`.

        Raises:
            TranslatorError: The file is truncated, would run code, or lacks a field.
        """
        checkpoint = _load(path, content)
        missing = [name for name in FIELDS if name not in checkpoint]
        if missing:
            raise TranslatorError(
                f"{path}: not a published translator checkpoint: it lacks {missing}, "
                f"it has {sorted(map(str, checkpoint))}"
            )
        arch = checkpoint["arch"]
        if not isinstance(arch, str) or arch not in ARCHITECTURES:
            raise TranslatorError(
                f"{path}: unknown arch {arch!r}; {nearest(str(arch), ARCHITECTURES)}"
            )
        kind = ARCHITECTURES[arch]
        if not isinstance(checkpoint["normalize"], bool):
            raise TranslatorError(
                f"{path}: normalize must be true or false, got {checkpoint['normalize']!r}"
            )
        prefix = "net.proj." if kind == "affine" else "net.net."
        return Checkpoint(
            kind=kind,
            options={name: _width(checkpoint, name, path) for name in KINDS.get(kind).options},
            width_in=_width(checkpoint, "dim_source", path),
            width_out=_width(checkpoint, "dim_target", path),
            normalize_input=checkpoint["normalize"],
            weights=_weights(checkpoint["state_dict"], prefix, path),
            where=f"{path}, state_dict without {prefix!r}",
            fields={
                str(name): value
                for name, value in checkpoint.items()
                if isinstance(value, str | int | float | bool)
            },
        )


CHECKPOINTS.add("published")(PublishedCheckpoint())


def _load(path: Path, content: bytes) -> Mapping[Any, Any]:
    import torch  # noqa: PLC0415 - this half of the library imports without torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever torch has to say, an error follows or not
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TranslatorError(
            f"{path}: not a checkpoint of tensors, numbers and texts: reading it would run "
            "code that is stored in it, which is refused; save it again with those only"
        ) from error
    except Exception as error:  # torch raises a dozen kinds on files cut short or overwritten
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TranslatorError(
            f"{path}: not a whole torch checkpoint ({reason}); copy it again"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise TranslatorError(
            f"{path}: holds a {type(checkpoint).__name__}; a published translator checkpoint "
            f"is a dictionary of {list(FIELDS)}"
        )
    return checkpoint


def _width(checkpoint: Mapping[Any, Any], name: str, path: Path) -> int:
    value = checkpoint.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TranslatorError(f"{path}: {name} must be a whole number above 0, got {value!r}")
    return value


def _weights(state_dict: Any, prefix: str, path: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    if not isinstance(state_dict, Mapping):
        raise TranslatorError(
            f"{path}: state_dict is a {type(state_dict).__name__}, not a dictionary of tensors"
        )
    weights = {}
    for name, tensor in state_dict.items():
        if not isinstance(tensor, torch.Tensor):
            raise TranslatorError(
                f"{path}: state_dict entry {name!r} is a {type(tensor).__name__}, not a tensor"
            )
        if not str(name).startswith(prefix):
            raise TranslatorError(
                f"{path}: state_dict entry {name!r} is not one of this arch, whose entries "
                f"begin with {prefix}"
            )
        weights[str(name).removeprefix(prefix)] = tensor
    return weights
