"""Run directories and translators on the Hugging Face Hub: JSON and safetensors files only.

A run is a data set of the hub, since its rows are data; a folder of translators is a model. No file
that can hold code is sent or taken: of a run that is JSON lines, JSON and safetensors.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from statebridge.data.files import make_folder, readable
from statebridge.data.hub import hub_client
from statebridge.errors import EnvironmentFault, InputError, RemoteError
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import MANIFEST
from statebridge.sharing.hub_card import run_page, translators_page

ENDINGS = (".json", ".jsonl", ".safetensors")
"""Endings of the files that are shared."""
PAGE = "README.md"
_ADVICE = "sign in with `hf auth login` or HF_TOKEN, and check the name and the network"
_NAME = re.compile(r"(?:(models|datasets)/)?([\w.-]+/[\w.-]+)")
_LONGEST_HEADER = 100_000_000
"""Bytes of a header that the safetensors library reads."""


class Pushed(NamedTuple):
    """A folder as it is on the hub."""

    address: str
    """Web address of the commit."""
    files: tuple[str, ...]
    """Names of the files sent, the card's page among them."""
    left_out: tuple[str, ...]
    """Names of files of the folder that are not of a kind that is shared."""


class Pulled(NamedTuple):
    """A folder as it was taken from the hub."""

    kind: str
    """`run` or `translators`."""
    commit: str
    files: tuple[str, ...]


def push(folder: Path, to: str, *, public: bool = False) -> Pushed:
    """Send a run directory or a folder of translators to the hub, in one commit.

    Args:
        folder: It holds `manifest.json`, or `*.safetensors` files.
        to: `owner/name`; a new repository is made where there is none.
        public: Whether a new repository can be read by anyone; an existing one stays as it is.

    Raises:
        InputError: Neither kind of folder, a file that is not what its ending says, no name of a
            repository, or a repository that has files of something else.
        ResultError: The run cannot be read.
        EnvironmentFault: `huggingface_hub` is not installed.
        RemoteError: The hub cannot be reached, or refuses the request.
    """
    asked_kind, repository = _address(to)
    of_run = (folder / MANIFEST).is_file()
    names, left_out = _files_of(folder)
    if not of_run and not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"{folder}: has neither {MANIFEST} nor a .safetensors file; give a run directory or a "
            "folder of translators"
        )
    repo_type = "dataset" if of_run else "model"
    if asked_kind not in (None, repo_type):
        raise InputError(f"{to}: {folder} is sent as a {repo_type}; give {repository} alone")
    for name in names:
        _check(folder / name, name)
    page = run_page(folder, repository) if of_run else translators_page(folder, names, repository)
    with _hub(to) as hub:
        api = hub.HfApi()
        api.create_repo(repository, repo_type=repo_type, private=not public, exist_ok=True)
        there = api.list_repo_files(repository, repo_type=repo_type)
        others = sorted({*there} - {*names, PAGE, ".gitattributes"})
        if others:
            raise InputError(
                f"{to}: has files that {folder} lacks, such as {others[0]}; give another name, or "
                "delete them there"
            )
        sent = {PAGE: page.encode(), **{name: folder / name for name in names}}
        done = api.create_commit(
            repository,
            repo_type=repo_type,
            operations=[
                hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in sent.items()
            ],
            commit_message=f"Add {'a run' if of_run else 'translators'} of Statebridge",
        )
    return Pushed(str(done.commit_url), tuple(sent), left_out)


def pull(name: str, out: Path, *, revision: str | None = None) -> Pulled:
    """Take a run directory or a folder of translators from the hub.

    Args:
        name: `owner/name`; `datasets/owner/name` or `models/owner/name` where there are both.
        out: A new or empty folder. It is there whole, or not at all.
        revision: Branch, tag or commit; the main branch if not given.

    Raises:
        InputError: No such repository or revision, there are two, it has neither a run nor
            translators, a file is not what its ending says, or the folder is not empty.
        ResultError: The run cannot be read.
        EnvironmentFault: `huggingface_hub` is not installed, or the folder cannot be written.
        RemoteError: The hub cannot be reached, or refuses the request.
    """
    asked_kind, repository = _address(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an empty folder; give a new one")
    with _hub(name, revision) as hub:
        repo_type, info = _found(hub, name, repository, asked_kind, revision)
        files = [f for f in (s.rfilename for s in info.siblings or ()) if f.endswith(ENDINGS)]
        of_run = MANIFEST in files
        if not of_run and not any(file.endswith(".safetensors") for file in files):
            raise InputError(f"{name}: has neither a run of Statebridge nor translators")
        kept = {
            file: Path(
                hub.hf_hub_download(repository, file, repo_type=repo_type, revision=info.sha)
            )
            for file in files
            if _is_inside(file, name)
        }
    make_folder(out.parent)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pulled-") as made:
            folder = Path(made) / out.name
            for file, cached in kept.items():
                _check(cached, f"{name}/{file}")
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(cached, folder / file)
            if of_run:
                read_sources([folder])
            if out.is_dir():
                out.rmdir()
            folder.rename(out)
    except OSError as error:
        raise EnvironmentFault(
            f"{out}: cannot be written: {error.strerror}; give a folder that can be written"
        ) from None
    return Pulled("run" if of_run else "translators", str(info.sha), tuple(files))


def _address(name: str) -> tuple[str | None, str]:
    """Return the kind of repository, if one is named, and `owner/name`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(f"{name}: no repository of the hub; give it as owner/name")
    return found[1] and found[1].removesuffix("s"), found[2]


def _files_of(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the files to share, and those that are not; names with `/`, in order."""
    names: list[str] = []
    left_out: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in name.parts):
            continue
        # A link may lead to a file that nobody meant to share.
        shared = path.suffix in ENDINGS and not path.is_symlink()
        (names if shared else left_out).append(name.as_posix())
    return names, tuple(name for name in left_out if name != PAGE)


def _check(path: Path, name: str) -> None:
    """Refuse a file whose content is not of the kind that its ending says."""
    with readable(path), path.open("rb") as stream:
        if name.endswith(".safetensors"):
            length = int.from_bytes(stream.read(8), "little")
            content = stream.read(length) if length <= _LONGEST_HEADER else b""
        else:
            content = stream.readline() if name.endswith(".jsonl") else stream.read()
    try:
        json.loads(content or (b"{}" if name.endswith(".jsonl") else b""))
    except ValueError:  # of JSON, of UTF-8
        raise InputError(
            f"{name}: is not a {PurePosixPath(name).suffix} file by its content; copy or make it "
            "again"
        ) from None


def _is_inside(file: str, name: str) -> bool:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file:
        raise InputError(f"{name}: its file {file!r} would be outside of the folder; not taken")
    return True


def _found(
    hub: Any, name: str, repository: str, kind: str | None, revision: str | None
) -> tuple[str, Any]:
    """Return the one kind of repository that there is of that name, and what the hub knows."""
    found = {}
    for repo_type in ("dataset", "model") if kind is None else (kind,):
        try:
            found[repo_type] = hub.HfApi().repo_info(
                repository, repo_type=repo_type, revision=revision
            )
        except hub.errors.RepositoryNotFoundError as error:
            absent = error
    if not found:
        raise absent
    if len(found) > 1:
        raise InputError(
            f"{name}: both a data set and a model; give datasets/{repository} for the run or "
            f"models/{repository} for the translators"
        )
    return next(iter(found.items()))


def _hub(name: str, revision: str | None = None) -> AbstractContextManager[Any]:
    return hub_client(name, revision, InputError, RemoteError, _ADVICE)
