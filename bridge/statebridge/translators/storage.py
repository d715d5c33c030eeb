"""Translators on disk: a safetensors file, and a JSON card beside it.

`name.safetensors` holds the weights and, in its metadata, what is needed to use it and to
know which models, layers and corpus it belongs to; it loads alone. `name.json` is the whole card
with training record, quality, versions and the hash of the weights' file. The weights'
file holds no date, so that the same fit gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from statebridge.data.files import atomic_writer
from statebridge.data.training_texts import TrainingTexts
from statebridge.errors import EnvironmentFault, TranslatorError
from statebridge.results.formats import CHECKPOINTS, Checkpoint, CheckpointFormat
from statebridge.results.translator_card import (
    CausalRecord,
    CorpusRecord,
    FitRecord,
    ImportedRecord,
    QualityReport,
    StateOrigin,
    TranslatorCard,
)
from statebridge.translators.translator import IDENTITY, Translator

SUFFIX = ".safetensors"

# One entry only: safetensors writes several in an order that changes from run to run.
METADATA_KEY = "statebridge"

ESSENTIALS = {"format", *IDENTITY, "sender", "receiver", "corpus"}
"""The fields of the card that the weights' file carries itself."""

RECORDED_PACKAGES = ("statebridge", "torch", "numpy", "safetensors", "transformers", "nnsight")
"""The packages that a fit may depend on."""


def make_card(
    translator: Translator,
    *,
    sender: StateOrigin | None = None,
    receiver: StateOrigin | None = None,
    corpus: CorpusRecord | None = None,
    training: FitRecord | None = None,
    causal: CausalRecord | None = None,
    trained_on: TrainingTexts | None = None,
    quality: tuple[QualityReport, ...] = (),
) -> TranslatorCard:
    """Return the card of a translator, with the versions in use and the present time.

    Raises:
        TranslatorError: A side's width is not the translator's.
    """
    for side, origin, width in (
        ("sender", sender, translator.width_in),
        ("receiver", receiver, translator.width_out),
    ):
        if origin is not None and origin.width != width:
            raise TranslatorError(
                f"the {side} {origin.model} has width {origin.width} at {origin.layer}, the "
                f"translator's side has width {width}"
            )
    return TranslatorCard(
        **translator.identity,
        sender=sender,
        receiver=receiver,
        corpus=corpus,
        training=training,
        causal=causal,
        trained_on=trained_on,
        quality=quality,
        versions=recorded_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def recorded_versions(packages: Sequence[str] = RECORDED_PACKAGES) -> dict[str, str]:
    """Return the versions in use of Python and of the packages, of those that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def card_path(path: Path) -> Path:
    """Return where the card of the weights' file `path` lies."""
    return path.with_suffix(".json")


def save_translator(
    translator: Translator, path: str | Path, card: TranslatorCard | None = None
) -> TranslatorCard:
    """Write `path` (which ends in .safetensors) and the card beside it; return the card.

    Without `card` the translator's own is used, or a bare one made. Each file is written
    whole or not at all, and a card is never beside weights that it does not describe.

    Raises:
        TranslatorError: Another ending, or the card of another translator.
        NumericError: Weights that are not finite.
        EnvironmentFault: The files cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise TranslatorError(f"{path}: a translator is stored as {SUFFIX}; end the name so")
    card = card or translator.card or make_card(translator)
    _check_card(card, translator, str(path))
    weights = translator.weights()
    translator.set_weights(weights, where=str(path))  # refuses non-finite weights
    essentials = json.dumps(card.model_dump(mode="json", include=ESSENTIALS), sort_keys=True)
    content = safetensors.torch.save(weights, {METADATA_KEY: essentials})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        card_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written: {error.strerror}; give a path in a writable folder"
        ) from error
    with atomic_writer(path) as file:
        file.write(content)
    with atomic_writer(card_path(path)) as file:
        file.write(card.model_dump_json(indent=2).encode() + b"\n")
    translator.card = card
    return card


def _check_card(card: TranslatorCard, translator: Translator, where: str) -> None:
    described = tuple(getattr(card, name) for name in IDENTITY)
    actual = tuple(translator.identity.values())
    if described != actual:
        raise TranslatorError(
            f"{where}: the card describes kind, widths, options, normalize_input {described}, "
            f"the translator has {actual}"
        )


def load_translator(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Translator:
    """Load a translator: our safetensors file, or another program's checkpoint.

    The content decides which of the two it is. The translator is in evaluation mode with
    gradients off, its `card` filled from the file beside it or, without one, from the file.

    Raises:
        TranslatorError: The file is missing, truncated, neither of the two, no translator, or
            not the one that its card describes.
        NumericError: Weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a directory, not a file" if path.is_dir() else "there is no such file"
        raise TranslatorError(f"{path}: {what}; a translator is a {SUFFIX} or a .pt file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TranslatorError(f"{path}: cannot be read: {error.strerror}") from error
    checkpoint = checkpoint_format(path, content)
    if checkpoint is None:
        translator = _read_safetensors(path, content)
    else:
        translator = _imported(checkpoint.read(path, content), path, content)
    return translator.to(device=device, dtype=dtype).eval().requires_grad_(False)


def checkpoint_format(path: Path, content: bytes) -> CheckpointFormat | None:
    """Return the format of another program's checkpoint by its first bytes; None of our own."""
    formats = CHECKPOINTS.values()
    return next((one for one in formats if one.recognises(path, content)), None)


def _imported(checkpoint: Checkpoint, path: Path, content: bytes) -> Translator:
    translator = Translator(**{name: getattr(checkpoint, name) for name in IDENTITY})
    translator.set_weights(checkpoint.weights, where=checkpoint.where)
    translator.card = TranslatorCard(
        **translator.identity,
        training=ImportedRecord(
            file_name=path.name,
            sha256=hashlib.sha256(content).hexdigest(),
            fields=dict(checkpoint.fields),
        ),
    )
    return translator


def _read_safetensors(path: Path, content: bytes) -> Translator:
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(METADATA_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise TranslatorError(
            f"{path}: neither a whole safetensors file nor a torch checkpoint ({error}); "
            "copy or fit it again"
        ) from error
    if described is None:
        raise TranslatorError(
            f"{path}: a safetensors file, but not a translator: its metadata has no "
            f"{METADATA_KEY!r} entry"
        )
    essentials = _parse_card(described, f"{path}, metadata")
    translator = Translator(**{name: getattr(essentials, name) for name in IDENTITY})
    translator.set_weights(weights, where=str(path))
    translator.card = _read_card(path, content, translator) or essentials
    return translator


def _read_card(path: Path, content: bytes, translator: Translator) -> TranslatorCard | None:
    beside = card_path(path)
    try:
        text = beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise TranslatorError(f"{beside}: the translator's card cannot be read: {error}") from error
    card = _parse_card(text, str(beside))
    _check_card(card, translator, str(beside))
    digest = hashlib.sha256(content).hexdigest()
    if card.weights_sha256 != digest:
        raise TranslatorError(
            f"{beside}: the card is of weights with SHA-256 {card.weights_sha256}, but "
            f"{path.name} has {digest}; put the right card there or take it away"
        )
    return card


def _parse_card(text: str, where: str) -> TranslatorCard:
    try:
        return TranslatorCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise TranslatorError(f"{where}: not a translator card: {field}: {first['msg']}") from error
