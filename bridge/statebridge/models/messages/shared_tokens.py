"""Tokens that two vocabularies have in common, by the text that they are."""

from __future__ import annotations

from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from statebridge.errors import PairError
from statebridge.models.traced_model import TracedModel

SentencePiece = "\u2581"
"""The sign that SentencePiece tokenizers write for a space."""


def shared_tokens(sender: TracedModel, receiver: TracedModel) -> tuple[list[int], list[int]]:
    """Return ids of the tokens that both have, the sender's and the receiver's, in one order.

    Where several of a vocabulary's tokens are the same text, the first one counts.

    Raises:
        PairError: They have none in common.
    """
    of_sender, of_receiver = (tokens_by_text(model) for model in (sender, receiver))
    found = sorted(
        (token, of_receiver[text]) for text, token in of_sender.items() if text in of_receiver
    )
    if not found:
        raise PairError(
            f"{sender.name} and {receiver.name}: their vocabularies have no token in common, so no "
            "mixture of the sender's tokens is one of the receiver's"
        )
    return [pair[0] for pair in found], [pair[1] for pair in found]


def tokens_by_text(model: TracedModel) -> dict[bytes, int]:
    """Return the ids of a model's tokens by their text; special ones by their name."""
    tokenizer, vocabulary = model.tokenizer, int(model.module.config.get_text_config().vocab_size)
    special = set(tokenizer.all_special_ids)
    from_bytes = {sign: byte for byte, sign in bytes_to_unicode().items()}
    byte_level = _is_byte_level(tokenizer)
    found: dict[bytes, int] = {}
    for name, token in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if token >= vocabulary:
            continue
        if token not in special and byte_level and all(sign in from_bytes for sign in name):
            text = bytes(from_bytes[sign] for sign in name)
        elif token not in special and name.startswith("<0x") and len(name) == 6:
            text = bytes([int(name[3:5], 16)])
        else:
            text = name.replace(SentencePiece, " ").encode()
        found.setdefault(text, token)
    return found


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "\u0120" in "".join(tokenizer.get_vocab())  # the sign for a space
    return "ByteLevel" in repr(backend.decoder)
