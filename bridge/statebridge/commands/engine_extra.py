"""Whether the engine's packages are installed."""

from __future__ import annotations

from importlib.util import find_spec

from statebridge.errors import EnvironmentFault

PACKAGES = ("torch", "transformers", "nnsight", "safetensors", "psutil")


def missing_packages() -> list[str]:
    """Return the engine's packages that are not installed; nothing is imported."""
    return [package for package in PACKAGES if not _installed(package)]


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def need_engine() -> None:
    """Raise EnvironmentFault where the engine cannot be imported."""
    missing = missing_packages()
    if missing:
        raise EnvironmentFault(
            f"{missing[0]} is not installed; running models needs the engine: "
            "pip install 'statebridge[engine]'"
        )
    import transformers

    # Its warnings and loading bars are about its own internals; ours say what a user needs.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
