"""The thin client of a Statebridge server, and the `statebridge` command.

    from statebridge_client import Client

    run = Client().submit("experiment.yaml").wait()
    print(run.compare().differences)

The public names are listed here and loaded on first use. No torch is needed; what comes back
are the library's own records, as from a run directory on this machine (`LocalRun`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statebridge_client._async_client import AsyncClient
    from statebridge_client._async_remote_run import AsyncRemoteRun
    from statebridge_client._client import Client
    from statebridge_client._events import Event
    from statebridge_client._local_run import LocalRun
    from statebridge_client._records import (
        CorpusInfo,
        DatasetInfo,
        ExperimentStatus,
        PairInfo,
        RowScore,
        TranslatorInfo,
    )
    from statebridge_client._remote_run import RemoteRun
    from statebridge_client._retry import Retry
    from statebridge_client._rows import Rows
    from statebridge_client._scores import Scores

_MODULES = {
    "AsyncClient": "_async_client",
    "AsyncRemoteRun": "_async_remote_run",
    "Client": "_client",
    "CorpusInfo": "_records",
    "DatasetInfo": "_records",
    "Event": "_events",
    "ExperimentStatus": "_records",
    "LocalRun": "_local_run",
    "PairInfo": "_records",
    "RemoteRun": "_remote_run",
    "Retry": "_retry",
    "RowScore": "_records",
    "Rows": "_rows",
    "Scores": "_scores",
    "TranslatorInfo": "_records",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'statebridge_client' has no attribute {name!r}")
    return getattr(import_module(f"statebridge_client.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
