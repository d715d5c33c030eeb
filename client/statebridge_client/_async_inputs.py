"""`client.datasets`, `client.corpora` and `client.translators` of an `AsyncClient`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.data import FieldMap
from statebridge_client import _fitting, _results, _uploads
from statebridge_client import _input_calls as calls
from statebridge_client._async_remote_run import AsyncRemoteRun
from statebridge_client._async_sender import AsyncSender
from statebridge_client._records import CorpusInfo, DatasetInfo, TranslatorInfo
from statebridge_client._submission import ExperimentLike


class AsyncDatasets:
    """Datasets of this key, each known by the SHA-256 of its bytes."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def upload(self, path: str | Path, fields: FieldMap | None = None) -> DatasetInfo:
        """Upload a JSON Lines file, unless the server has it; every row is checked.

        Raises:
            DatasetError: The file cannot be read, or a row is wrong.
        """
        content = _uploads.read_text_file(path)
        return await self._sender.carry_out(_uploads.upload_dataset(content, fields or FieldMap()))

    async def list(self) -> list[DatasetInfo]:
        """List what this key has uploaded, newest first."""
        return await self._sender.send(calls.list_datasets())

    async def get(self, sha256: str) -> DatasetInfo:
        """Describe a dataset."""
        return await self._sender.send(calls.get_dataset(sha256))

    async def delete(self, sha256: str) -> None:
        """Delete a dataset; runs keep the rows that they ran over."""
        await self._sender.send(calls.delete_dataset(sha256))


class AsyncCorpora:
    """Texts of this key to fit translators on, each known by the SHA-256 of its bytes."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def upload(self, path: str | Path, *, name: str | None = None) -> CorpusInfo:
        """Upload a UTF-8 text file, unless the server has it; all of it is checked.

        Args:
            path: The file, with a passage a line.
            name: What translators' cards call it; the file's own where not given.

        Raises:
            DatasetError: The file cannot be read, is not UTF-8 or holds no passage.
        """
        content = _uploads.read_text_file(path)
        steps = _uploads.upload_corpus(content, Path(path).name if name is None else name)
        return await self._sender.carry_out(steps)

    async def list(self) -> list[CorpusInfo]:
        """List what this key has uploaded, newest first."""
        return await self._sender.send(calls.list_corpora())

    async def get(self, sha256: str) -> CorpusInfo:
        """Describe a corpus."""
        return await self._sender.send(calls.get_corpus(sha256))

    async def delete(self, sha256: str) -> None:
        """Delete a corpus; translators that were fitted on it stay."""
        await self._sender.send(calls.delete_corpus(sha256))


class AsyncTranslators:
    """Translators that this key may use."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender

    async def fit(
        self,
        experiment: ExperimentLike,
        overrides: Mapping[str, Any] | None = None,
        *,
        shared: bool = False,
        idempotency_key: str | None = None,
    ) -> AsyncRemoteRun:
        """Submit the fitting that an experiment declares; `fitted(run)` has them afterwards.

        Raises:
            ExperimentError: It declares no `fit`.
        """
        steps = _fitting.submit_fit(
            experiment, overrides, shared=shared, idempotency_key=idempotency_key
        )
        status = await self._sender.carry_out(steps)
        return AsyncRemoteRun(self._sender, status.id, status.name)

    async def fitted(self, run: AsyncRemoteRun | str) -> list[TranslatorInfo]:
        """List what an experiment fitted."""
        run_id = run if isinstance(run, str) else run.id
        return _fitting.fitted_by(run_id, await self.list())

    async def upload(
        self, path: str | Path, *, name: str | None = None, shared: bool = False
    ) -> TranslatorInfo:
        """Upload a translator that Statebridge wrote as safetensors.

        Raises:
            TranslatorError: The file cannot be read, or is no such translator.
        """
        content = _uploads.read_translator(path)
        call = calls.upload_translator(content, name or Path(path).name, shared=shared)
        return await self._sender.send(call)

    async def list(self) -> list[TranslatorInfo]:
        """List the translators that this key may use, newest first."""
        return await self._sender.send(calls.list_translators())

    async def get(self, translator_id: str) -> TranslatorInfo:
        """Describe a translator."""
        return await self._sender.send(calls.get_translator(translator_id))

    async def card(self, translator_id: str) -> dict[str, Any]:
        """Return its card: models, layers, corpus, training record, quality."""
        return await self._sender.send(calls.translator_card(translator_id))

    async def download(self, translator_id: str, path: str | Path) -> Path:
        """Write its weights to a file (safetensors), or into a folder; return the file."""
        content = await self._sender.send(calls.download_translator(translator_id))
        return _results.write_file(_results.file_in(path, f"{translator_id}.safetensors"), content)

    async def delete(self, translator_id: str) -> None:
        """Delete a translator; rows made with it stay."""
        await self._sender.send(calls.delete_translator(translator_id))
