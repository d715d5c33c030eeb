"""/v1/doctor: the findings of `statebridge doctor` from a server, before anything is queued."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge.experiment.reading.files import check_fields
from statebridge_server.api.v1 import doctor
from statebridge_server.store.jobs import list_jobs
from statebridge_server.store.keys import LOCAL
from tests.server.conftest import tiny_experiment
from tests.server.pages.browser_client import Site

OpenSite = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """A function that opens a site with its settings; all are closed at the end."""
    with ExitStack() as opened:
        yield lambda **settings: opened.enter_context(closing(Site(tmp_path, **settings)))


TWO = {"conditions": ["no_inject", "question_only"], "seeds": [42]}


def ask(site: Site, token: str, *experiments: dict[str, Any]) -> list[httpx.Response]:
    """Ask for several experiments at once."""

    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=site.app)
        async with httpx.AsyncClient(transport=transport, base_url=site.url, timeout=120) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return await asyncio.gather(
                *(client.post("/v1/doctor", json=each, headers=headers) for each in experiments)
            )

    return asyncio.run(answers())


def test_the_doctor_of_a_server_finds_what_a_local_one_finds(
    open_site: OpenSite, tmp_path: Path, pair_settings: dict[str, Any], pair_folder: Path
) -> None:
    from statebridge.engine.doctor.readiness import check_readiness

    site = open_site(**pair_settings)
    _, token = site.key("ann")
    wrong = tiny_experiment(rows=2, receiver={"model": "receiver", "layer": 99}, **TWO)
    (answer,) = ask(site, token, wrong)
    assert answer.status_code == 200
    found = answer.json()
    assert found["ready"] is False
    sides = {
        side: {**wrong[side], "model": str(pair_folder / side)} for side in ("sender", "receiver")
    }
    local = list(check_readiness(check_fields(wrong | sides)))
    same = {"names", "dataset", "layers"}
    assert [each for each in found["checks"] if each["what"] in same] == [
        {"what": each.what, "ready": each.ready, "detail": each.detail}
        for each in local
        if each.what in same
    ]
    assert [each["what"] for each in found["checks"]] == [each.what for each in local]
    assert str(tmp_path) not in answer.text
    assert str(pair_folder) not in answer.text
    assert list_jobs(site.server.database, LOCAL) == []


def test_a_refused_experiment_starts_no_doctor(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_answered", None)
    site = open_site()
    _, token = site.key("ann")
    mine = {"model": "example/sender", "layer": 1}, {"model": "example/receiver", "layer": 1}
    base = dict(zip(("sender", "receiver"), mine, strict=True)) | {"name": "x"}
    rows = {"generate": {"rows": 2}}
    for fields, words in (
        ({"dataset": {"path": "/etc/passwd"}}, "a server reads no paths"),
        ({"dataset": rows, "sender": {"model": "./here", "layer": 1}}, "not a pair of this server"),
        ({"dataset": rows, "translators": {"42": "/etc/passwd"}}, "reads no paths"),
        ({"dataset": rows, "seeds": "x"}, "seeds"),
    ):
        (answer,) = ask(site, token, base | fields)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    _, token = site.key("eve", "read")
    assert ask(site, token, base | {"dataset": rows})[0].status_code == 403


def test_a_doctor_that_takes_too_long_is_ended(
    open_site: OpenSite, pair_settings: dict[str, Any]
) -> None:
    site = open_site(**pair_settings, limits={"doctor_seconds": 1})
    _, token = site.key("ann")
    (answer,) = ask(site, token, tiny_experiment(rows=2, **TWO))
    assert answer.status_code == 500
    assert "gave no answer within 1 s; a run makes the same checks" in answer.json()["detail"]


def test_a_key_may_wait_for_two_answers_at_most(
    open_site: OpenSite, pair_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answered(*_: Any) -> tuple[bytes, int]:
        await asyncio.sleep(0.2)
        checks = [{"what": "names", "ready": True, "detail": "known"}]
        return json.dumps({"checks": checks}).encode(), 0

    monkeypatch.setattr(doctor, "_answered", answered)
    site = open_site(**pair_settings)
    _, token = site.key("ann")
    answers = ask(site, token, *[tiny_experiment(rows=2, **TWO)] * 3)
    assert sorted(each.status_code for each in answers) == [200, 200, 429]
    assert ask(site, token, tiny_experiment(rows=2, **TWO))[0].json()["ready"]
