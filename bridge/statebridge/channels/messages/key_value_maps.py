"""Maps of keys and values between a pair: their shapes, and a sender's cache sent through one.

Source: arXiv 2608.03893. Keys are stripped of their rotation, mapped, and rotated to the receiver's
positions.
"""

from __future__ import annotations

import torch

from statebridge.errors import PairError, TranslatorError
from statebridge.experiment.translator_settings import KEY_VALUE_KIND, KeyValueSettings
from statebridge.models.messages.key_values import KeyValues, cache_heads
from statebridge.models.messages.rotary import bare_states, check_rotary, message_of
from statebridge.models.pair import Pair
from statebridge.translators import Translator

Shape = tuple[int, int, int, int]
"""Blocks, 2 (keys and values), groups of heads, and width of a group."""


def shapes_of(pair: Pair, settings: KeyValueSettings) -> tuple[Shape, Shape]:
    """Return the shapes of the sender's and the receiver's keys and values, as a map sees them.

    Raises:
        PairError: Heads are to be mapped one to one, and the models have other heads; or keys are
            not rotated.
    """
    sides = pair.sender, pair.receiver
    for model in sides:
        check_rotary(model.module)
    heads = [cache_heads(model.module.config.get_text_config()) for model in sides]
    if settings.heads == "same" and heads[0] != heads[1]:
        words = "{} key-value heads of width {}"
        raise PairError(
            f"kind kv_ridge: {pair.sender.name} has {words.format(*heads[0])} and "
            f"{pair.receiver.name} {words.format(*heads[1])}; set key_values.heads: all"
        )
    groups = heads[0][0] if settings.heads == "same" else 1
    sent, received = (
        (len(model.block_paths), 2, groups, count * width // groups)
        for model, (count, width) in zip(sides, heads, strict=True)
    )
    return sent, received


def empty_map(pair: Pair, settings: KeyValueSettings) -> Translator:
    """Return a map of the pair's shapes, all weights zero.

    Raises:
        PairError: As `shapes_of`.
    """
    sent, received = shapes_of(pair, settings)
    options = {
        "blocks_in": sent[0],
        "blocks_out": received[0],
        "sources": min(settings.sources, sent[0]),
        "groups": sent[2],
    }
    widths = (shape[0] * shape[1] * shape[2] * shape[3] for shape in (sent, received))
    return Translator(KEY_VALUE_KIND, *widths, options=options, normalize_input=False)


def check_map(pair: Pair, translator: Translator, condition: str) -> None:
    """Refuse a translator that is no map between the pair's keys and values.

    Raises:
        TranslatorError: States what it maps.
    """
    if translator.kind != KEY_VALUE_KIND:
        raise TranslatorError(
            f"condition {condition}: its translator is of kind {translator.kind}, which maps "
            f"states; keys and values need {KEY_VALUE_KIND}"
        )
    needed = empty_map(pair, KeyValueSettings(heads="all", sources=1))
    names = ("blocks_in", "blocks_out")
    found, right = (
        (t.width_in, t.width_out, *(t.options[name] for name in names))
        for t in (translator, needed)
    )
    if found != right:
        raise TranslatorError(
            f"condition {condition}: its translator maps keys and values of width {found[0]} in "
            f"{found[2]} blocks to {found[1]} in {found[3]}; {pair.sender.name} to "
            f"{pair.receiver.name} needs {right[0]} in {right[2]} to {right[1]} in {right[3]}"
        )


def mapped(pair: Pair, translator: Translator, message: KeyValues) -> KeyValues:
    """Return a sender's message as the receiver's, at the same positions from 0.

    Gradients reach the map where it has any.
    """
    states = bare_states(pair.sender.module, message)
    found = translator(states.to(translator.device, translator.dtype))
    return message_of(pair.receiver, found.to(pair.receiver.device).float(), message.lengths)


def mean_message(pair: Pair, translator: Translator, lengths: tuple[int, ...]) -> KeyValues:
    """Return messages of the receiver's mean keys and values, as they were at the fit."""
    mean = translator.weights()["mean"].flatten().to(pair.receiver.device, torch.float32)
    states = mean.expand(len(lengths), max(lengths), -1)
    return message_of(pair.receiver, states, lengths)
