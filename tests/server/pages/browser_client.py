"""The pages without a browser or a socket: an application, its keys, and clients with cookies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from statebridge_server.api.app import create_app
from statebridge_server.api.context import Server
from statebridge_server.settings import fixed_settings
from statebridge_server.store import jobs
from statebridge_server.store.keys import create_key

HERE = "http://testserver"
PAIR = {
    "tiny": {
        "sender": {"model": "example/sender"},
        "receiver": {"model": "example/receiver"},
    }
}


class Visits:
    """One browser: its cookies, and the address of the page that its forms are on."""

    def __init__(self, app: Any, url: str = HERE, origin: str | None = HERE) -> None:
        self._app, self._url, self._origin = app, url, origin
        self.cookies = httpx.Cookies()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._ask("GET", path, headers)

    def post(self, path: str, **fields: str) -> httpx.Response:
        headers = {} if self._origin is None else {"Origin": self._origin}
        return self._ask("POST", path, headers, data=fields)

    def _ask(self, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url=self._url, cookies=self.cookies
            ) as client:
                headers.setdefault("Accept", "text/html")
                return await client.request(method, path, headers=headers, **more)

        answer = asyncio.run(ask())
        self.cookies.update(answer.cookies)
        if "Max-Age=0" in answer.headers.get("set-cookie", ""):
            self.cookies.clear()
        return answer


class Site:
    """An application without a worker, over an empty data directory."""

    url = HERE

    def __init__(self, folder: Path, **settings: Any) -> None:
        given = {"data": folder, "pairs": PAIR, "host": "0.0.0.0"}
        self.app = create_app(fixed_settings(given | settings))
        self.server: Server = self.app.state.server

    def close(self) -> None:
        self.server.database.close()

    def browser(self, token: str | None = None, **more: Any) -> Visits:
        """Return a browser, signed in where a key is given."""
        visits = Visits(self.app, **more)
        if token is not None:
            assert visits.post("/sign-in", key=token, next="/").status_code == 303
        return visits

    def key(self, name: str, role: str = "submit") -> tuple[str, str]:
        """Make a key; return its id and its token."""
        token, key = create_key(self.server.database, name, role)
        return key.id, token

    def job(self, owner: str, name: str = "mine", *, shared: bool = False) -> str:
        """Queue an experiment that nobody runs; return its id."""
        side = {"model": "example/sender", "layer": 1}
        experiment = {
            "name": name,
            "sender": side,
            "receiver": side,
            "dataset": {"generate": {"rows": 4, "task": "multihop"}},
            "seeds": [1],
        }
        new = jobs.NewJob(name, "tiny", experiment, 8, (), "", shared=shared)
        job, _ = jobs.submit(self.server.database, owner, new, queue_length=9, jobs_per_key=9)
        return job.id
