"""Calls about what experiments are made of: datasets, corpora, translators, pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from statebridge.errors import DatasetError, TranslatorError
from statebridge_client._call import (
    Call,
    model_of,
    not_statebridge,
    read_bytes,
    read_json,
    read_nothing,
    resource,
)
from statebridge_client._records import CorpusInfo, DatasetInfo, PairInfo, TranslatorInfo

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

    from statebridge.data import FieldMap

M = TypeVar("M", bound="BaseModel")

UPLOAD_SECONDS = 300.0
"""For the server to check what has arrived."""


def upload_dataset(content: bytes, fields: FieldMap) -> Call[DatasetInfo]:
    """Upload rows as JSON Lines; `fields` says where the parts of a row stand."""
    return Call(
        "POST",
        "/v1/datasets",
        model_of(DatasetInfo),
        params={
            "id": fields.id,
            "context": fields.context,
            "question": fields.question,
            "answer": fields.answer,
        },
        headers={"Content-Type": "application/jsonl"},
        content=content,
        repeatable=True,  # addressed by what it holds: sent twice it is there once
        refused=DatasetError,
        read_seconds=UPLOAD_SECONDS,
    )


def list_datasets() -> Call[list[DatasetInfo]]:
    """List the datasets that this key has uploaded."""
    return Call("GET", "/v1/datasets", _listed("datasets", DatasetInfo), repeatable=True)


def get_dataset(sha256: str) -> Call[DatasetInfo]:
    """Describe a dataset."""
    return Call(
        "GET",
        resource("datasets", sha256),
        model_of(DatasetInfo),
        repeatable=True,
        refused=DatasetError,
    )


def delete_dataset(sha256: str) -> Call[None]:
    """Delete a dataset."""
    return Call(
        "DELETE",
        resource("datasets", sha256),
        read_nothing,
        repeatable=True,
        refused=DatasetError,
    )


def upload_corpus(content: bytes, name: str) -> Call[CorpusInfo]:
    """Upload a text to fit translators on; `name` is what their cards call it."""
    return Call(
        "POST",
        "/v1/corpora",
        model_of(CorpusInfo),
        params={"name": name},
        headers={"Content-Type": "text/plain; charset=utf-8"},
        content=content,
        repeatable=True,  # addressed by what it holds: sent twice it is there once
        refused=DatasetError,
        read_seconds=UPLOAD_SECONDS,
    )


def list_corpora() -> Call[list[CorpusInfo]]:
    """List the corpora that this key has uploaded."""
    return Call("GET", "/v1/corpora", _listed("corpora", CorpusInfo), repeatable=True)


def get_corpus(sha256: str) -> Call[CorpusInfo]:
    """Describe a corpus."""
    return Call(
        "GET",
        resource("corpora", sha256),
        model_of(CorpusInfo),
        repeatable=True,
        refused=DatasetError,
    )


def delete_corpus(sha256: str) -> Call[None]:
    """Delete a corpus."""
    return Call(
        "DELETE",
        resource("corpora", sha256),
        read_nothing,
        repeatable=True,
        refused=DatasetError,
    )


def upload_translator(content: bytes, name: str, *, shared: bool) -> Call[TranslatorInfo]:
    """Upload a translator; each upload makes one of its own, so it is sent once only."""
    return Call(
        "POST",
        "/v1/translators",
        model_of(TranslatorInfo),
        params={"name": name, "shared": shared},
        headers={"Content-Type": "application/octet-stream"},
        content=content,
        refused=TranslatorError,
        read_seconds=UPLOAD_SECONDS,
    )


def list_translators() -> Call[list[TranslatorInfo]]:
    """List the translators that this key may use."""
    return Call("GET", "/v1/translators", _listed("translators", TranslatorInfo), repeatable=True)


def get_translator(translator_id: str) -> Call[TranslatorInfo]:
    """Describe a translator."""
    return Call(
        "GET", resource("translators", translator_id), model_of(TranslatorInfo), repeatable=True
    )


def translator_card(translator_id: str) -> Call[dict[str, Any]]:
    """Ask for a translator's card."""
    return Call("GET", resource("translators", translator_id, "card"), _object, repeatable=True)


def download_translator(translator_id: str) -> Call[bytes]:
    """Ask for a translator's weights, as safetensors."""
    return Call("GET", resource("translators", translator_id, "file"), read_bytes, repeatable=True)


def delete_translator(translator_id: str) -> Call[None]:
    """Delete a translator; rows made with it stay."""
    return Call("DELETE", resource("translators", translator_id), read_nothing, repeatable=True)


def list_pairs() -> Call[list[PairInfo]]:
    """List the pairs that experiments may name."""
    return Call("GET", "/v1/pairs", _listed("pairs", PairInfo), repeatable=True)


def _listed(name: str, model: type[M]) -> Callable[[httpx.Response], list[M]]:
    def parse(response: httpx.Response) -> list[M]:
        try:
            return [model.model_validate(item) for item in read_json(response)[name]]
        except (KeyError, TypeError, ValueError):
            raise not_statebridge(response) from None

    return parse


def _object(response: httpx.Response) -> dict[str, Any]:
    found = read_json(response)
    if not isinstance(found, dict):
        raise not_statebridge(response)
    return found
