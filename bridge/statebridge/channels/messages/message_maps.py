"""Maps of messages before they are fitted, by their kind."""

from __future__ import annotations

from statebridge.channels.fused import empty_fuser
from statebridge.channels.messages.key_value_maps import empty_map
from statebridge.channels.soft_tokens import empty_resampler
from statebridge.experiment.experiment import Fit
from statebridge.experiment.translator_settings import (
    FUSER_KIND,
    RESAMPLER_KIND,
    FuserSettings,
    KeyValueSettings,
    ResamplerSettings,
)
from statebridge.models.pair import Pair
from statebridge.translators import Translator


def empty_message_map(pair: Pair, kind: str | None, fit: Fit | None) -> Translator:
    """Return a map of a pair's shapes, its linear weights zero: of states where `kind` is None.

    Args:
        fit: Its settings; None for the loosest of the kind, to check an experiment with.

    Raises:
        PairError: The pair cannot have such a map.
    """
    if kind == FUSER_KIND:
        return empty_fuser(pair, FuserSettings() if fit is None else fit.fuser)
    if kind == RESAMPLER_KIND:
        return empty_resampler(pair, ResamplerSettings() if fit is None else fit.resampler)
    if kind is not None:
        loose = KeyValueSettings(heads="all", sources=1)
        return empty_map(pair, loose if fit is None else fit.key_values)
    return Translator("affine", pair.sender.width, pair.receiver.width)
