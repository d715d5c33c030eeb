"""Files of a data set on the Hugging Face Hub, at one commit; no code of a data set is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from statebridge.data.column_files import COLUMN_FILES
from statebridge.data.files import PACKED, read_text
from statebridge.errors import DatasetError, EnvironmentFault, StatebridgeError, nearest

_CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENDINGS = (*COLUMN_FILES, ".jsonl", ".json")
_SPLITS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
"""Words in a file's name by which a split is known, as the library `datasets` has them."""


@dataclass(frozen=True, slots=True)
class HubData:
    """Part of a data set on the hub."""

    repository: str
    """`owner/name`, or `owner/name/FILE` for one file of it."""
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    """Branch, tag or commit; the main branch if None."""

    def __str__(self) -> str:
        return f"hf://{self.repository}"

    @property
    def owner_and_name(self) -> str:
        """Name of the repository on the hub."""
        return "/".join(self.repository.split("/")[:2])

    @property
    def file(self) -> str | None:
        """The file that is named, if one is."""
        return "/".join(self.repository.split("/")[2:]) or None


def hub_commit(data: HubData) -> str:
    """Return the commit that the revision is now.

    Raises:
        DatasetError: No such repository or revision, or the hub cannot be reached.
        EnvironmentFault: `huggingface_hub` is not installed.
    """
    if data.revision is not None and _COMMIT.fullmatch(data.revision):
        return data.revision
    return str(_asked(data, "dataset_info", revision=data.revision).sha)


def hub_files(data: HubData) -> list[Path]:
    """Return the files of a config and split, downloaded unless they are in the hub's cache.

    Raises:
        DatasetError: No such repository, revision, config or split; or the hub cannot be reached
            and the files are not in the cache.
        EnvironmentFault: `huggingface_hub` is not installed.
    """
    commit = hub_commit(data)
    names = _listed(data, commit)
    if data.file is not None:
        wanted = [data.file] if data.file in names else []
        if not wanted:
            raise DatasetError(f"{data}: no such file; {nearest(data.file, names)}")
    else:
        card = _card(_fetched(data, commit, _CARD)) if _CARD in names else []
        wanted = chosen_files(data, names, card)
    return [_fetched(data, commit, name) for name in wanted]


def chosen_files(
    data: HubData, names: Sequence[str], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the files of the declared config and split.

    Args:
        data: The part that is asked for.
        names: All files of the repository.
        configs: `configs` of its card. Without them, a config is a folder's name, and a split a
            word in a file's.

    Raises:
        DatasetError: No such config or split, or it must be named.
    """
    files = [name for name in sorted(names) if _is_data(name)]
    declared = [config for config in configs if config.get("data_files")]
    if declared:
        by_split = _declared_splits(_config(data, declared), files)
    else:
        inside = [name for name in files if data.config in (None, *PurePosixPath(name).parts[:-1])]
        by_split = {split: _with_words(inside, words) for split, words in _SPLITS.items()}
    found = {split: held for split, held in by_split.items() if held}
    if data.split is None and len(found) == 1:
        return next(iter(found.values()))
    if data.split is None or data.split not in found:
        asked = "give a split" if data.split is None else f"no split {data.split!r}"
        known = f"known: {', '.join(found)}" if found else f"its files: {', '.join(files[:8])}"
        raise DatasetError(f"{data}: {asked}; {known}. Or name a file: {data}/FILE")
    return found[data.split]


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.suffix in PACKED else path).suffix in _ENDINGS


def _config(data: HubData, configs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    first = [name for name, config in by_name.items() if config.get("default")]
    wanted = data.config or next(iter(first), "default" if "default" in by_name else None)
    if wanted is None and len(by_name) == 1:
        (wanted,) = by_name
    if wanted not in by_name:
        asked = "give a config" if wanted is None else f"no config {wanted!r}"
        raise DatasetError(f"{data}: {asked}; known: {', '.join(by_name)}")
    return by_name[wanted]


def _declared_splits(config: Mapping[str, Any], files: Sequence[str]) -> dict[str, list[str]]:
    declared = config["data_files"]
    parts = declared if isinstance(declared, list) else [declared]
    if all(isinstance(part, str) for part in parts):
        parts = [{"split": "train", "path": parts}]
    found: dict[str, list[str]] = {}
    for part in parts:
        if isinstance(part, dict):
            paths = part.get("path", [])
            patterns = [paths] if isinstance(paths, str) else paths
            found[str(part.get("split", "train"))] = [
                name for name in files if any(fnmatchcase(name, str(p)) for p in patterns)
            ]
    return found


def _with_words(files: Sequence[str], words: set[str]) -> list[str]:
    return [name for name in files if words & set(re.split(r"[^a-z0-9]+", name.lower()))]


def _card(path: Path) -> list[Mapping[str, Any]]:
    """Return `configs` of a card's metadata; none where it has none that can be read."""
    found = re.match(r"---\n(.*?)\n---", read_text(path), re.DOTALL)
    try:
        held = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return []
    configs = held.get("configs") if isinstance(held, dict) else None
    return [one for one in configs or [] if isinstance(one, dict)]


def _listed(data: HubData, commit: str) -> list[str]:
    """Return the names of all files; those in the cache where the hub cannot be reached."""
    try:
        held = _asked(data, "dataset_info", revision=commit)
    except DatasetError as error:
        try:
            folder = Path(_asked(data, "snapshot_download", revision=commit, local_files_only=True))
        except DatasetError:
            raise error from None
        files = (path for path in folder.rglob("*") if path.is_file())
        return [path.relative_to(folder).as_posix() for path in files]
    return [sibling.rfilename for sibling in held.siblings or ()]


def _fetched(data: HubData, commit: str, name: str) -> Path:
    return Path(_asked(data, "hf_hub_download", filename=name, revision=commit))


def _asked(data: HubData, method: str, **asked: Any) -> Any:
    """Call a method of the hub's client."""
    if method != "dataset_info":
        asked["repo_type"] = "dataset"
    cached = "without a network, give as revision a commit whose files are in the hub's cache"
    with hub_client(str(data), data.revision, DatasetError, DatasetError, cached) as hub:
        return getattr(hub.HfApi(), method)(repo_id=data.owner_and_name, **asked)


@contextmanager
def hub_client(
    name: str,
    revision: str | None,
    missing: type[StatebridgeError],
    failed: type[StatebridgeError],
    advice: str,
) -> Iterator[Any]:
    """Yield the package of the hub's client; what goes wrong there is one line.

    Args:
        name: Name of what is asked for, for messages.
        revision: Its revision, for messages.
        missing: Class of the error where there is no such repository or revision.
        failed: Class of the error where the hub cannot be asked, or refuses.
        advice: Words on what to do then.

    Raises:
        StatebridgeError: Of these classes; those of the caller pass.
        EnvironmentFault: `huggingface_hub` is not installed.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra
        from huggingface_hub import errors  # noqa: PLC0415
    except ImportError:
        raise EnvironmentFault(
            f"{name}: huggingface_hub is not installed; pip install 'statebridge[hub]'"
        ) from None
    try:
        yield huggingface_hub
    except StatebridgeError:
        raise
    except errors.RevisionNotFoundError:
        raise missing(f"{name}: no revision {revision!r} on the hub") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise missing(
            f"{name}: not on the hub, or private; give owner/name as the hub has it, and set "
            "HF_TOKEN for a private one"
        ) from None
    except Exception as error:  # of the client, of httpx, of the system: all are the network's
        reason = " ".join(str(error).split())
        raise failed(
            f"{name}: the hub cannot be asked ({type(error).__name__}: {reason:.200}); {advice}"
        ) from None
