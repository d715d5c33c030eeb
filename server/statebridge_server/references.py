"""References in an experiment, replaced by paths of this server.

A dataset or a corpus is named by the SHA-256 of an upload, a translator by its id. Only items that
the key may use are found; a path in a client's experiment is refused.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from statebridge.errors import ExperimentError
from statebridge.experiment.declared import SHA256
from statebridge_server.layout import translator_path, upload_path
from statebridge_server.store.database import Database
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import CorpusHolder, DatasetHolder, Holder
from statebridge_server.store.translators import visible_translator
from statebridge_server.store.uploads import held_upload

H = TypeVar("H", bound=Holder)


class References:
    """The references of one experiment of one key.

    Attributes:
        inputs: (kind, item) of everything that the experiment reads.
        passages: Number of passages of each corpus, by SHA-256.
    """

    def __init__(self, database: Database, principal: Principal) -> None:
        self._database, self._principal = database, principal
        self.inputs: list[tuple[str, str]] = []
        self.passages: dict[str, int] = {}

    def dataset(
        self, data: dict[str, Any], key: str = "dataset", where: str = "dataset"
    ) -> DatasetHolder | None:
        """Put the path of an uploaded dataset into `data[key]`; return None if rows are generated.

        Raises:
            ExperimentError: It names no dataset that the key holds; `where` is the field.
        """
        declared = data.get(key)
        held = self._upload(declared, where, DatasetHolder)
        if held is None or declared is None:
            return None
        if declared.get("format", "jsonl") != "jsonl":
            raise ExperimentError(f"{where}.format: a server takes jsonl; convert the rows first")
        fields = {key: value for key, value in held.fields.items() if value is not None}
        if declared.get("fields") not in (None, {}, fields, held.fields):
            raise ExperimentError(
                f"{where}.fields: the upload was checked with {json.dumps(fields)}; leave them "
                "out, or upload again with other fields"
            )
        data[key] = {**declared, "fields": fields, "path": _path(held)}
        return held

    def translators(self, data: dict[str, Any]) -> None:
        """Put paths into `data["translators"]`, if there are any.

        Raises:
            ExperimentError: It names a translator that the key may not use.
        """
        declared = data.get("translators")
        if declared is None:
            return
        if not isinstance(declared, dict):
            raise ExperimentError("translators: give the id of a translator for each seed, or fit")
        if "sets" not in declared:
            data["translators"] = self._translator_set(declared, "translators")
            return
        sets = declared["sets"]
        if not isinstance(sets, dict):
            raise ExperimentError("translators.sets: give sets of translators by name")
        found = {}
        for name, each in sets.items():
            where = f"translators.sets.{name[:40]}"
            if not isinstance(each, dict):
                raise ExperimentError(f"{where}: give the id of a translator for each seed, or fit")
            found[name] = self._translator_set(each, where)
        data["translators"] = {**declared, "sets": found}

    def _translator_set(self, declared: dict[str, Any], where: str) -> dict[str, Any]:
        """Return one set with paths of this server instead of ids."""
        if not {"fit", "corpus", "causal"}.isdisjoint(declared):
            fit = declared.get("fit", declared)
            if not isinstance(fit, dict):
                return declared
            fit = dict(fit)
            # A map that is trained through the receiver alone has no corpus.
            if fit.get("corpus") is not None or "causal" not in fit:
                self._corpus(fit, f"{where}.fit.corpus")
            if isinstance(fit.get("causal"), dict):
                fit["causal"] = dict(fit["causal"])
                self.dataset(fit["causal"], "rows", f"{where}.fit.causal.rows")
            return {**declared, "fit": fit} if "fit" in declared else fit
        files: dict[str, str] = {}
        for seed, translator_id in declared.items():
            found = None
            # A database refuses half a surrogate pair, and NUL.
            if _is_id(translator_id):
                found = visible_translator(self._database, self._principal, translator_id)
            if found is None:
                raise ExperimentError(
                    f"{where}.{seed[:40]}: no translator of that id is visible to this key; a "
                    "server reads no paths: upload the file to /v1/translators and give its id"
                )
            files[seed] = str(translator_path(found.id))
            self.inputs.append(("translator", found.id))
        return files

    def _corpus(self, fit: dict[str, Any], where: str) -> None:
        """Put the path and the name of an uploaded corpus into `fit["corpus"]`."""
        declared = fit.get("corpus")
        held = self._upload(declared, where, CorpusHolder)
        if held is None or declared is None:
            return
        self.passages[held.sha256] = held.passages
        # The translator's card then has the same name as with a local file.
        name = held.name if declared.get("name") is None else declared["name"]
        fit["corpus"] = {**declared, "name": name, "path": _path(held)}

    def _upload(self, declared: Any, where: str, kind: type[H]) -> H | None:
        """Return the upload with the declared SHA-256; None if rows are generated."""
        if not isinstance(declared, dict):
            raise ExperimentError(
                f"{where}: give {{sha256: ...}} of an uploaded {kind.kind}, or "
                "{generate: {...}}"
            )
        if "path" in declared:
            raise ExperimentError(
                f"{where}.path: a server reads no paths; upload the file to /v1/{kind.plural} "
                f"and give {where}.sha256"
            )
        if declared.get("generate") is not None:
            return None
        sha256 = declared.get("sha256")
        if not isinstance(sha256, str) or SHA256.fullmatch(sha256) is None:
            raise ExperimentError(f"{where}.sha256: give the 64 lower-case hex digits of an upload")
        held = held_upload(self._database, kind, self._principal, sha256)
        if held is None:
            raise ExperimentError(
                f"{where}.sha256: this key has uploaded no {kind.kind} {sha256}; upload it first"
            )
        self.inputs.append((kind.kind, sha256))
        return held.holder


def _is_id(given: Any) -> bool:
    return isinstance(given, str) and len(given) <= 64 and given.isascii() and given.isprintable()


def _path(held: DatasetHolder | CorpusHolder) -> str:
    return str(upload_path(held.kind, held.sha256))
