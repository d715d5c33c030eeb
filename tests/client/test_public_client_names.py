"""The public names of the client: a change here is a change of the interface."""

from __future__ import annotations

import importlib.resources
import inspect
import subprocess
import sys
from typing import Any

import pytest

import statebridge_client
from statebridge.run import Run
from statebridge_client import AsyncClient, AsyncRemoteRun, Client, RemoteRun


def members(kind: type) -> dict[str, list[str] | None]:
    """Public members by name: the parameters of a method, None of an attribute."""
    found: dict[str, list[str] | None] = {}
    for each in reversed(kind.__mro__[:-1]):
        for name, member in vars(each).items():
            if not name.startswith("_"):
                method = getattr(member, "__wrapped__", member)
                found[name] = (
                    list(inspect.signature(method).parameters) if callable(method) else None
                )
    return found


def test_the_public_names() -> None:
    assert sorted(statebridge_client.__all__) == [
        "AsyncClient",
        "AsyncRemoteRun",
        "Client",
        "CorpusInfo",
        "DatasetInfo",
        "DoctorCheck",
        "Event",
        "ExperimentStatus",
        "PairInfo",
        "RemoteRun",
        "Retry",
        "RowScore",
        "Scores",
        "TranslatorInfo",
    ]
    for name in statebridge_client.__all__:
        assert getattr(statebridge_client, name).__name__ == name
    assert sorted(dir(statebridge_client)) == sorted(statebridge_client.__all__)


def test_both_clients_have_the_same_methods() -> None:
    assert members(Client) == members(AsyncClient)
    assert {"submit", "get", "experiments", "pairs", "score", "close"} <= set(members(Client))


def test_a_remote_run_has_the_members_of_a_run() -> None:
    here, remote, not_sync = members(Run), members(RemoteRun), members(AsyncRemoteRun)
    assert {name: remote[name] for name in here} == here
    methods = {name for name, parameters in remote.items() if parameters is not None}
    assert {name: not_sync[name] for name in methods} == {name: remote[name] for name in methods}
    assert set(not_sync) - methods == {"local", "name"}


@pytest.mark.parametrize("group", ["datasets", "corpora", "translators"])
def test_each_kind_of_input_has_methods(group: str) -> None:
    client: Any = Client("http://gpu.example.org")
    found = members(type(getattr(client, group)))
    assert {"upload", "list", "get", "delete"} <= set(found)


@pytest.mark.slow
def test_the_import_loads_neither_torch_nor_what_is_slow() -> None:
    code = (
        "import sys, statebridge_client; first = set(sys.modules);"
        "from statebridge_client import Client, AsyncClient;"
        "print([n for n in ('httpx', 'pydantic') if n in first],"
        "[n for n in ('torch', 'scipy', 'pandas', 'matplotlib', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[] []"


def test_the_module_is_typed() -> None:
    assert (importlib.resources.files(statebridge_client) / "py.typed").is_file()
