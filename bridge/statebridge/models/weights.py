"""The hash of a model's weights: read once in full, then known by the files they came from."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from huggingface_hub import try_to_load_from_cache

from statebridge.models.placement import in_memory

SMALLEST = 256 * 2**20
"""Bytes of files from which on a hash is kept; to hash less takes a moment."""

FORMAT = 1
"""To be raised whenever the same files would give another hash."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A module as it was when it had been read from files."""

    files: tuple[tuple[str, int, int, int], ...]
    """Path, bytes, and times of content and inode of each, in nanoseconds."""
    state: tuple[tuple[str, str, int], ...]
    """Name, dtype and version of each tensor: torch counts its changes in place."""


_READ: WeakKeyDictionary[torch.nn.Module, _Read] = WeakKeyDictionary()


def note_files(module: torch.nn.Module, source: str, revision: str | None) -> None:
    """Note that a module has just been read from a folder, or from the hub's cache."""
    folder = Path(source)
    if not folder.is_dir():
        found = try_to_load_from_cache(source, "config.json", revision=revision)
        if not isinstance(found, str):
            return
        folder = Path(found).parent
    files = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json"):
            real = path.resolve()
            stat = real.stat()
            files.append((str(real), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    if sum(size for _, size, _, _ in files) >= SMALLEST:
        _READ[module] = _Read(tuple(files), _state(module))


def weights_sha256(module: torch.nn.Module) -> str | None:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all weights.

    None where the weights are not here (a remote model's structure). A large model that was read
    from files, and has not been changed since, is hashed once: the hash is kept in the user's cache
    under the paths, sizes and times of its files.
    """
    kept = _kept(module)
    if kept is not None and kept.is_file():
        with suppress(OSError):
            found = kept.read_text("ascii").strip()
            if len(found) == 64:
                return found
    digest = _hash(module)
    if kept is not None and digest is not None:
        # Without the file the hash is only worked out again: a disk may be full or read-only.
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=kept.parent, delete=False) as stream:
                stream.write(digest)
            os.replace(stream.name, kept)
    return digest


def _hash(module: torch.nn.Module) -> str | None:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        with in_memory(module, name, tensor) as values:
            if values is None:
                return None
            digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
            flat: Any = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()


def _kept(module: torch.nn.Module) -> Path | None:
    """Return the file of a module's hash; None for one that was not read, or was changed."""
    read = _READ.get(module)
    if read is None or read.state != _state(module):
        return None
    versions = [FORMAT, torch.__version__, transformers.__version__, type(module).__name__]
    key = hashlib.sha256(json.dumps([versions, read.files, read.state]).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "statebridge" / "weights" / key


def _state(module: torch.nn.Module) -> tuple[tuple[str, str, int], ...]:
    return tuple(
        (name, str(tensor.dtype), tensor._version)
        for name, tensor in sorted(module.state_dict().items())
    )
