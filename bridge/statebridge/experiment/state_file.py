"""A state from a file: a steering vector, a mean state, or any other vector of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from statebridge.errors import EnvironmentFault, InputError
from statebridge.experiment.declared import Sha256

SUFFIXES = (".npy", ".safetensors")


class StateFile(BaseModel):
    """A vector in a file of NumPy or of safetensors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1)]
    """Path of a `.npy` or `.safetensors` file."""
    tensor: str | None = None
    """Name of the tensor in a safetensors file that has several."""
    sha256: Sha256 | None = None
    """Hash of the file; a run fills it in, and refuses to go on with another file."""

    def hashed(self) -> StateFile:
        """Return the same with the hash that the file has.

        Raises:
            InputError: The file is missing, or is another one than declared.
        """
        digest = hashlib.sha256(self._content()).hexdigest()
        if self.sha256 not in (None, digest):
            raise InputError(
                f"state_file {self.path}: has SHA-256 {digest}, not the declared {self.sha256}; "
                "use the file that was declared, or declare this one"
            )
        return self.model_copy(update={"sha256": digest})

    def vector(self) -> npt.NDArray[np.float64]:
        """Return the vector, (width,).

        Raises:
            InputError: The file is missing, damaged or another one than declared, or holds no
                vector of finite numbers.
            EnvironmentFault: safetensors is not installed.
        """
        self.hashed()
        found = np.asarray(self._array())
        if found.ndim != 1 or not found.size or found.dtype.kind not in "fiu":
            raise InputError(
                f"state_file {self.path}: holds an array of {found.dtype} and shape "
                f"{found.shape}; give a vector of numbers, (width,)"
            )
        if not np.isfinite(found).all():
            raise InputError(f"state_file {self.path}: holds NaN or infinity; give finite numbers")
        return found.astype(np.float64)

    def _content(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise InputError(
                f"state_file {self.path}: cannot be read: {error.strerror}; give the path of a "
                f"{' or '.join(SUFFIXES)} file"
            ) from None

    def _array(self) -> Any:
        path = Path(self.path)
        if path.suffix not in SUFFIXES:
            raise InputError(f"state_file {path}: give a {' or '.join(SUFFIXES)} file")
        if path.suffix == ".npy":
            try:
                return np.load(path, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise InputError(
                    f"state_file {path}: is no array of numbers ({error}); write it with numpy.save"
                ) from None
        try:
            import safetensors.numpy  # noqa: PLC0415 - an extra brings it
        except ImportError:
            raise EnvironmentFault(
                f"state_file {path}: needs safetensors; pip install 'statebridge[engine]'"
            ) from None
        try:
            tensors = safetensors.numpy.load(self._content())
        except Exception as error:  # of a damaged file, or of a dtype that NumPy lacks
            raise InputError(
                f"state_file {path}: cannot be read as safetensors ({error}); write float32"
            ) from None
        name = self.tensor or (next(iter(tensors)) if len(tensors) == 1 else None)
        if name not in tensors:
            raise InputError(
                f"state_file {path}: has the tensors {', '.join(sorted(tensors)) or 'none'}; name "
                "one of them as tensor"
            )
        return tensors[name]
