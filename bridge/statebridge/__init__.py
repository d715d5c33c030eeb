"""Statebridge: can one language model pass another something other than text?

    import statebridge

    run = statebridge.run("experiment.yaml", "runs/first")
    print(run.score("replace"), run.verdict())

The public names are those of `__init__.pyi`, loaded on first use. Names of the engine need torch
(`pip install 'statebridge[engine]'`), all others do not.
"""

from __future__ import annotations

import os
from typing import Any

import lazy_loader

# Read when torch loads its OpenMP library. Threads that spin while they wait take the processors
# from those that work (docs/benchmarks.md, "Beside other work").
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_loaded, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - slow to load

        return version("statebridge")
    return _loaded(name)
