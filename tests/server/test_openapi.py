"""The committed description is that of the code."""

from __future__ import annotations

from statebridge_server.api.app import openapi_text
from tests.server.running_server import ROOT


def test_the_committed_description_has_not_drifted() -> None:
    committed = (ROOT / "server" / "openapi.json").read_text(encoding="utf-8")
    assert committed == openapi_text(), (
        "run: python -m statebridge_server.api.app > server/openapi.json"
    )
