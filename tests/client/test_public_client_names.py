"""The public names of the client: a change here is a change of the interface."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import subprocess
import sys
from types import ModuleType

import statebridge_client
from statebridge_client import AsyncClient, AsyncRemoteRun, Client, LocalRun, RemoteRun


def test_the_public_names() -> None:
    assert statebridge_client.__all__ == [
        "AsyncClient",
        "AsyncRemoteRun",
        "Client",
        "CorpusInfo",
        "DatasetInfo",
        "Event",
        "ExperimentStatus",
        "LocalRun",
        "PairInfo",
        "RemoteRun",
        "Retry",
        "RowScore",
        "Rows",
        "Scores",
        "TranslatorInfo",
    ]
    for name in statebridge_client.__all__:
        assert getattr(statebridge_client, name).__name__ == name
    assert dir(statebridge_client) == statebridge_client.__all__


def public_methods(kind: type) -> dict[str, list[str]]:
    """Methods and their parameters, by name."""
    return {
        name: list(inspect.signature(found).parameters)
        # Not getmembers: nnsight, once loaded, gives every object a `save`.
        for name, found in vars(kind).items()
        if inspect.isfunction(found) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    assert public_methods(Client) == public_methods(AsyncClient)
    assert public_methods(RemoteRun) == public_methods(AsyncRemoteRun)
    sync, not_sync = (
        importlib.import_module(f"statebridge_client.{name}")
        for name in ("_inputs", "_async_inputs")
    )
    assert public_methods(sync.Datasets) == public_methods(not_sync.AsyncDatasets)
    assert public_methods(sync.Corpora) == public_methods(not_sync.AsyncCorpora)
    assert public_methods(sync.Translators) == public_methods(not_sync.AsyncTranslators)


def test_a_local_run_has_the_methods_for_results() -> None:
    here, there = public_methods(LocalRun), public_methods(RemoteRun)
    assert set(here) == {"results", "rows", "summary", "compare", "report", "export"}
    assert all(there[name] == parameters for name, parameters in here.items())


def test_the_import_loads_neither_torch_nor_what_is_slow() -> None:
    code = (
        "import sys, statebridge_client; first = set(sys.modules);"
        "from statebridge_client import Client, AsyncClient, LocalRun;"
        "print([n for n in ('httpx', 'pydantic') if n in first],"
        "[n for n in ('torch', 'scipy', 'pandas', 'matplotlib', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[] []"


def test_the_module_is_typed() -> None:
    module: ModuleType = statebridge_client
    assert module.__file__ is not None
    assert (importlib.resources.files(module) / "py.typed").is_file()
