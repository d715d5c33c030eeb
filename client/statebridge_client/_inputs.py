"""What experiments are made of, on a server: `client.datasets`, `.corpora`, `.translators`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.data import FieldMap
from statebridge_client import _fitting, _results, _uploads
from statebridge_client import _input_calls as calls
from statebridge_client._records import CorpusInfo, DatasetInfo, TranslatorInfo
from statebridge_client._remote_run import RemoteRun
from statebridge_client._sender import Sender
from statebridge_client._submission import ExperimentLike


class Datasets:
    """Datasets of this key, each known by the SHA-256 of its bytes."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def upload(self, path: str | Path, fields: FieldMap | None = None) -> DatasetInfo:
        """Upload a JSON Lines file, unless the server has it; every row is checked.

        Raises:
            DatasetError: The file cannot be read, or a row is wrong.
        """
        content = _uploads.read_text_file(path)
        return self._sender.carry_out(_uploads.upload_dataset(content, fields or FieldMap()))

    def list(self) -> list[DatasetInfo]:
        """List what this key has uploaded, newest first."""
        return self._sender.send(calls.list_datasets())

    def get(self, sha256: str) -> DatasetInfo:
        """Describe a dataset."""
        return self._sender.send(calls.get_dataset(sha256))

    def delete(self, sha256: str) -> None:
        """Delete a dataset; runs keep the rows that they ran over."""
        self._sender.send(calls.delete_dataset(sha256))


class Corpora:
    """Texts of this key to fit translators on, each known by the SHA-256 of its bytes."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def upload(self, path: str | Path, *, name: str | None = None) -> CorpusInfo:
        """Upload a UTF-8 text file, unless the server has it; all of it is checked.

        Args:
            path: The file, with a passage a line.
            name: What translators' cards call it; the file's own where not given.

        Raises:
            DatasetError: The file cannot be read, is not UTF-8 or holds no passage.
        """
        content = _uploads.read_text_file(path)
        steps = _uploads.upload_corpus(content, Path(path).name if name is None else name)
        return self._sender.carry_out(steps)

    def list(self) -> list[CorpusInfo]:
        """List what this key has uploaded, newest first."""
        return self._sender.send(calls.list_corpora())

    def get(self, sha256: str) -> CorpusInfo:
        """Describe a corpus."""
        return self._sender.send(calls.get_corpus(sha256))

    def delete(self, sha256: str) -> None:
        """Delete a corpus; translators that were fitted on it stay."""
        self._sender.send(calls.delete_corpus(sha256))


class Translators:
    """Translators that this key may use."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def fit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> RemoteRun:
        """Submit the fitting that an experiment declares; `fitted(run)` has them afterwards.

        Raises:
            ExperimentError: It declares no `fit`.
        """
        steps = _fitting.submit_fit(
            experiment, overrides, shared=shared, idempotency_key=idempotency_key
        )
        status = self._sender.carry_out(steps)
        return RemoteRun(self._sender, status.id, status.name)

    def fitted(self, run: RemoteRun | str) -> list[TranslatorInfo]:
        """List what an experiment fitted."""
        run_id = run if isinstance(run, str) else run.id
        return _fitting.fitted_by(run_id, self.list())

    def upload(
        self, path: str | Path, *, name: str | None = None, shared: bool = False
    ) -> TranslatorInfo:
        """Upload a translator that Statebridge wrote as safetensors.

        Raises:
            TranslatorError: The file cannot be read, or is no such translator.
        """
        content = _uploads.read_translator(path)
        call = calls.upload_translator(content, name or Path(path).name, shared=shared)
        return self._sender.send(call)

    def list(self) -> list[TranslatorInfo]:
        """List the translators that this key may use, newest first."""
        return self._sender.send(calls.list_translators())

    def get(self, translator_id: str) -> TranslatorInfo:
        """Describe a translator."""
        return self._sender.send(calls.get_translator(translator_id))

    def card(self, translator_id: str) -> dict[str, Any]:
        """Return its card: models, layers, corpus, training record, quality."""
        return self._sender.send(calls.translator_card(translator_id))

    def download(self, translator_id: str, path: str | Path) -> Path:
        """Write its weights to a file (safetensors), or into a folder; return the file."""
        content = self._sender.send(calls.download_translator(translator_id))
        return _results.write_file(_results.file_in(path, f"{translator_id}.safetensors"), content)

    def delete(self, translator_id: str) -> None:
        """Delete a translator; rows made with it stay."""
        self._sender.send(calls.delete_translator(translator_id))
