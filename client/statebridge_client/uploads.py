"""Local files as uploads: nothing is sent that the server has already."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from statebridge.data import FieldMap, verify_sha256
from statebridge.data.column_files import column_reader
from statebridge.data.files import PACKED
from statebridge.data.jsonl import row_line
from statebridge.data.text_corpus import TextCorpus
from statebridge.errors import DatasetError, NotFoundError, TranslatorError
from statebridge.experiment.experiment import Corpus, Dataset
from statebridge.results.service_records import (
    CorpusInfo,
    DatasetInfo,
    TranslatorInfo,
    TranslatorList,
)
from statebridge_client.call import Call, model_of, resource
from statebridge_client.caller import Steps

STORED_TRANSLATOR = re.compile(r"tr_[0-9a-f]{20}")
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")

UPLOAD_SECONDS = 300.0
"""Longest wait for the server to check an upload."""


def dataset_call(sha256: str) -> Call[DatasetInfo]:
    """Return the request for a dataset's description."""
    path = resource("datasets", sha256)
    return Call("GET", path, model_of(DatasetInfo), repeatable=True, refused=DatasetError)


def corpus_call(sha256: str) -> Call[CorpusInfo]:
    """Return the request for a corpus's description."""
    path = resource("corpora", sha256)
    return Call("GET", path, model_of(CorpusInfo), repeatable=True, refused=DatasetError)


def translators_call() -> Call[list[TranslatorInfo]]:
    """Return the request for the translators that this key may use."""
    parse = model_of(TranslatorList, "translators")
    return Call("GET", "/v1/translators", parse, repeatable=True)


def upload_translator(content: bytes, name: str, *, shared: bool) -> Call[TranslatorInfo]:
    """Upload a translator; each upload makes a new one, so it is sent only once."""
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


def _send_dataset(content: bytes, fields: FieldMap) -> Call[DatasetInfo]:
    names = ("id", "context", "question", "answer")
    return Call(
        "POST",
        "/v1/datasets",
        model_of(DatasetInfo),
        params={name: getattr(fields, name) for name in names},
        headers={"Content-Type": "application/jsonl"},
        content=content,
        repeatable=True,  # addressed by its content: sent twice it is there once
        refused=DatasetError,
        read_seconds=UPLOAD_SECONDS,
    )


def _send_corpus(content: bytes, name: str) -> Call[CorpusInfo]:
    return Call(
        "POST",
        "/v1/corpora",
        model_of(CorpusInfo),
        params={"name": name},
        headers={"Content-Type": "text/plain; charset=utf-8"},
        content=content,
        repeatable=True,  # addressed by its content: sent twice it is there once
        refused=DatasetError,
        read_seconds=UPLOAD_SECONDS,
    )


def stored_dataset(dataset: Dataset) -> Steps[DatasetInfo]:
    """Put a declared dataset's rows on the server, checked as the library checks them.

    Raises:
        DatasetError: Missing, unreadable, another hash than declared, or wrong rows.
    """
    from statebridge.tasks.declared_rows import (  # noqa: PLC0415 - loads every kind of dataset
        resolve_dataset,
    )

    rows, _ = resolve_dataset(dataset)
    fields = FieldMap(**dataset.fields.model_dump())
    path = dataset.path
    as_it_is = dataset.format == "jsonl" and not dataset.unusable
    if (
        as_it_is
        and isinstance(path, Path)
        and path.suffix not in PACKED
        and not column_reader(path)
    ):
        content = read_text_file(path)
    else:
        content, fields = b"".join(row_line(row) for row in rows), FieldMap(id="id")
    return (yield from upload_dataset(content, fields))


def upload_dataset(content: bytes, fields: FieldMap) -> Steps[DatasetInfo]:
    """Upload rows unless the server has them under the same names of fields."""
    try:
        held: DatasetInfo = yield dataset_call(hashlib.sha256(content).hexdigest())
    except NotFoundError:
        pass
    else:
        wanted = {"id": fields.id} if fields.id else {}
        wanted |= {name: getattr(fields, name) for name in ("context", "question", "answer")}
        if held.fields == wanted:
            return held
    held = yield _send_dataset(content, fields)
    return held


def stored_corpus(corpus: Corpus, path: Path) -> Steps[dict[str, str]]:
    """Put a declared corpus, the text at `path`, on the server; return what an experiment names.

    The name goes with the experiment: a text that is there under another one is not sent again.

    Raises:
        DatasetError: Missing, unreadable, not UTF-8, or another hash than declared.
        TranslatorError: It holds no passage.
    """
    if corpus.sha256 is not None:
        verify_sha256(path, corpus.sha256)
    for _ in TextCorpus(path):
        pass
    content, name = read_text_file(path), corpus.name or path.name
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        yield corpus_call(sha256)
    except NotFoundError:
        yield _send_corpus(content, name)
    return {"sha256": sha256, "name": name}


def upload_corpus(content: bytes, name: str) -> Steps[CorpusInfo]:
    """Upload a text unless the server has it under the same name."""
    try:
        held: CorpusInfo = yield corpus_call(hashlib.sha256(content).hexdigest())
    except NotFoundError:
        pass
    else:
        if held.name == name:
            return held
    held = yield _send_corpus(content, name)
    return held


def stored_translators(files: Mapping[int, Path]) -> Steps[dict[str, str]]:
    """Return the id of a stored translator for each seed; what is not stored is uploaded.

    Raises:
        TranslatorError: A file cannot be read, or is none that a server takes.
    """
    stored: dict[str, str] = {}
    known: list[TranslatorInfo] | None = None
    for seed, path in files.items():
        if STORED_TRANSLATOR.fullmatch(path.name) and not path.exists():
            stored[str(seed)] = path.name
            continue
        content = read_translator(path)
        if known is None:
            known = yield translators_call()
        sha256 = hashlib.sha256(content).hexdigest()
        found = next((item for item in known if item.sha256 == sha256), None)
        if found is None:
            found = yield upload_translator(content, path.name, shared=False)
            known.append(found)
        stored[str(seed)] = found.id
    return stored


def read_translator(path: str | Path) -> bytes:
    """Return the content of a translator file that a server takes.

    Raises:
        TranslatorError: The file cannot be read, or is a torch checkpoint.
    """
    path = Path(path)
    content = _read(path, TranslatorError)
    if path.suffix in CHECKPOINTS:
        raise TranslatorError(
            f"{path}: a torch checkpoint is a program, which a server does not take; save it as "
            "safetensors: statebridge.save_translator(statebridge.load_translator(FILE), OUT)"
        )
    return content


def read_text_file(path: str | Path) -> bytes:
    """Return the content of the file of a dataset or a corpus.

    Raises:
        DatasetError: The file cannot be read.
    """
    return _read(Path(path), DatasetError)


def _read(path: Path, kind: type[DatasetError | TranslatorError]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise kind(f"{path}: no such file; give the path of one") from None
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}") from None
