"""Lists of layers on the command line."""

from __future__ import annotations

import yaml

from statebridge.errors import ExperimentError


def read_layers(text: str) -> list[int | float | str]:
    """Return the layers of a list such as `0.25,0.5,8`.

    Raises:
        ExperimentError: The text is not such a list.
    """
    wrong = ExperimentError(f"layers {text!r}: give a list such as 0.25,0.5,8")
    try:
        layers = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError, RecursionError):
        raise wrong from None
    if not isinstance(layers, list) or not layers:
        raise wrong
    if not all(isinstance(layer, int | float | str) for layer in layers):
        raise wrong
    if any(isinstance(layer, bool) for layer in layers):
        raise wrong
    return layers
