"""Inputs of experiments on a server: `client.datasets`, `.corpora`, `.translators`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from statebridge.data import FieldMap
from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import DatasetError
from statebridge.experiment.reading.given import ExperimentLike
from statebridge.results.service_records import (
    CorpusInfo,
    CorpusList,
    DatasetInfo,
    DatasetList,
    TranslatorInfo,
)
from statebridge_client import submission, uploads
from statebridge_client.call import Call, model_of, read_bytes, read_nothing, read_object, resource
from statebridge_client.caller import OnServer, S, Steps, operation
from statebridge_client.remote_run import RunMethods

R = TypeVar("R")
"""`RemoteRun` or `AsyncRemoteRun`."""


class Datasets(OnServer[S]):
    """Datasets of this key, each known by the SHA-256 of its bytes."""

    @operation
    def upload(self, path: str | Path, fields: FieldMap | None = None) -> Steps[DatasetInfo]:
        """Upload a JSON Lines file, unless the server has it; every row is checked.

        Raises:
            DatasetError: The file cannot be read, or a row is wrong.
        """
        return uploads.upload_dataset(uploads.read_text_file(path), fields or FieldMap())

    @operation
    def list(self) -> Call[list[DatasetInfo]]:
        """List this key's uploads, newest first."""
        return Call("GET", "/v1/datasets", model_of(DatasetList, "datasets"), repeatable=True)

    @operation
    def get(self, sha256: str) -> Call[DatasetInfo]:
        """Describe a dataset."""
        return uploads.dataset_call(sha256)

    @operation
    def delete(self, sha256: str) -> Call[None]:
        """Delete a dataset; runs keep the rows that they ran over."""
        path = resource("datasets", sha256)
        return Call("DELETE", path, read_nothing, repeatable=True, refused=DatasetError)


class Corpora(OnServer[S]):
    """Texts of this key to fit translators on, each known by the SHA-256 of its bytes."""

    @operation
    def upload(self, path: str | Path, *, name: str | None = None) -> Steps[CorpusInfo]:
        """Upload a UTF-8 text file, unless the server has it; all of it is checked.

        Args:
            path: The file, with a passage a line.
            name: Its name in the translators' cards; the file's own where not given.

        Raises:
            DatasetError: The file cannot be read, is not UTF-8 or holds no passage.
        """
        content = uploads.read_text_file(path)
        return uploads.upload_corpus(content, Path(path).name if name is None else name)

    @operation
    def list(self) -> Call[list[CorpusInfo]]:
        """List this key's uploads, newest first."""
        return Call("GET", "/v1/corpora", model_of(CorpusList, "corpora"), repeatable=True)

    @operation
    def get(self, sha256: str) -> Call[CorpusInfo]:
        """Describe a corpus."""
        return uploads.corpus_call(sha256)

    @operation
    def delete(self, sha256: str) -> Call[None]:
        """Delete a corpus; translators that were fitted on it stay."""
        path = resource("corpora", sha256)
        return Call("DELETE", path, read_nothing, repeatable=True, refused=DatasetError)


class Translators(OnServer[S], Generic[S, R]):
    """Translators that this key may use."""

    def __init__(self, caller: S, run: Callable[[S, str, str], R]) -> None:
        super().__init__(caller)
        self._run = run

    @operation
    def fit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> Steps[R]:
        """Submit the fitting that an experiment declares; `fitted(run)` has them afterwards.

        Raises:
            ExperimentError: It declares no `fit`.
        """
        status = yield from submission.submit_fit(
            experiment, overrides, shared=shared, idempotency_key=idempotency_key
        )
        return self._run(self._caller, status.id, status.name)

    @operation
    def fitted(self, run: RunMethods[Any, Any] | str) -> Steps[list[TranslatorInfo]]:
        """List the translators that an experiment fitted, by name."""
        run_id = run if isinstance(run, str) else run.id
        listed: list[TranslatorInfo] = yield uploads.translators_call()
        found = [item for item in listed if item.experiment == run_id]
        return sorted(found, key=lambda item: item.name)

    @operation
    def upload(
        self, path: str | Path, *, name: str | None = None, shared: bool = False
    ) -> Call[TranslatorInfo]:
        """Upload a translator that Statebridge wrote as safetensors.

        Raises:
            TranslatorError: The file cannot be read, or is no such translator.
        """
        content = uploads.read_translator(path)
        return uploads.upload_translator(content, name or Path(path).name, shared=shared)

    @operation
    def list(self) -> Call[list[TranslatorInfo]]:
        """List the translators that this key may use, newest first."""
        return uploads.translators_call()

    @operation
    def get(self, translator_id: str) -> Call[TranslatorInfo]:
        """Describe a translator."""
        path = resource("translators", translator_id)
        return Call("GET", path, model_of(TranslatorInfo), repeatable=True)

    @operation
    def card(self, translator_id: str) -> Call[dict[str, Any]]:
        """Return its card: models, layers, corpus, training record, quality."""
        path = resource("translators", translator_id, "card")
        return Call("GET", path, read_object, repeatable=True)

    @operation
    def download(self, translator_id: str, path: str | Path) -> Steps[Path]:
        """Write its weights to a file (safetensors), or into a folder; return the file.

        Raises:
            EnvironmentFault: The file cannot be written.
        """
        source = resource("translators", translator_id, "file")
        content: bytes = yield Call("GET", source, read_bytes, repeatable=True)
        path = Path(path)
        path = path / f"{translator_id}.safetensors" if path.is_dir() else path
        make_folder(path.parent)
        with atomic_writer(path) as stream:
            stream.write(content)
        return path

    @operation
    def delete(self, translator_id: str) -> Call[None]:
        """Delete a translator; rows made with it stay."""
        path = resource("translators", translator_id)
        return Call("DELETE", path, read_nothing, repeatable=True)
