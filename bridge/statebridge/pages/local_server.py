"""The pages of run directories for one person on one machine, by the standard library's server.

It only reads. There are no keys: every user of the address reads the runs, so it listens on
this machine alone unless another address is given. A web page elsewhere that makes a browser ask
this address under another name (DNS rebinding) is refused by its Host header.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from statebridge.errors import EnvironmentFault, ResultError, StatebridgeError
from statebridge.pages.addresses import host_name, is_loopback
from statebridge.pages.experiment_view import experiment_facts
from statebridge.pages.rendering import (
    REPORT_POLICY,
    SECURITY_HEADERS,
    STATIC,
    NavItem,
    render,
    static_headers,
)
from statebridge.pages.run_folders import RunFolders
from statebridge.pages.score_view import score_view
from statebridge.pages.side_by_side import NamedRun, named, side_by_side
from statebridge.report import write_report
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import DATASET, MANIFEST, ROWS, read_manifest

LOOK_SECONDS = 0.5
"""Between two looks at the files of a run that a browser watches."""

KEEP_ALIVE_SECONDS = 15.0
"""A comment line shows that the browser has gone."""

_HTML = "text/html; charset=utf-8"
_NAV = (NavItem("Runs", ""), NavItem("Compare", "compare"))
_FILES = (ROWS, MANIFEST, DATASET)


class _NotFoundError(Exception):
    """The address names nothing."""


class LocalServer(ThreadingHTTPServer):
    """Serves the pages of run directories until it is shut down."""

    daemon_threads = True

    def __init__(self, runs: RunFolders, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `serve_forever` answers.

        Args:
            runs: The run directories.
            host: Address to listen on.
            port: 0 takes a free one.

        Raises:
            EnvironmentFault: The address is not this machine's, or in use.
        """
        self.runs = runs
        self.analysis = threading.Lock()
        """One statistic or figure at a time: matplotlib is not thread-safe."""
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise EnvironmentFault(
                f"{host}:{port} cannot be listened on: {error.strerror}; give another --port, or "
                "127.0.0.1 for this machine alone"
            ) from None
        self.loopback = is_loopback(host)

    @property
    def url(self) -> str:
        """Its address for a browser."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    protocol_version = "HTTP/1.0"
    server_version = "statebridge"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            if self.server.loopback and not self._names_this_machine():
                self._send(403, _problem(403, "this address answers to localhost only"))
                return
            self._answer()
        except _NotFoundError:
            self._send(404, _problem(404, "there is no such page"))
        except ResultError as error:
            self._send(409, _problem(409, str(error)))
        except StatebridgeError as error:
            self._send(500, _problem(500, str(error)))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser has left

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the terminal is the user's."""

    def _names_this_machine(self) -> bool:
        return is_loopback(host_name(self.headers.get("Host", "")))

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        path = unquote(parts.path)
        if path.startswith("/static/"):
            self._static(path.removeprefix("/static/"))
        elif path == "/":
            self._send(200, self._page("experiments", "Runs", older=None, query="", **self._list()))
        elif path == "/experiments/list":
            self._send(200, render("experiment_list", **self._list()))
        elif path == "/compare":
            self._compare(query.get("run", []))
        elif match := re.fullmatch(r"/experiments/([^/]+)(?:/(.+))?", path):
            self._one(match[1], match[2] or "")
        else:
            raise _NotFoundError

    def _page(self, template: str, here: str, **values: Any) -> bytes:
        return render(template, nav=_NAV, here=here, who="", may_sign_out=False, **values)

    def _list(self) -> dict[str, Any]:
        shown = [self.server.runs.view(name) for name in self.server.runs.names()]
        return {"experiments": shown, "owners": False, "nothing": ""}

    def _one(self, name: str, part: str) -> None:
        folder = self.server.runs.folder(name)
        if folder is None:
            raise _NotFoundError
        answers: dict[str, Callable[[], None]] = {
            "": lambda: self._whole(name, folder),
            "progress": lambda: self._progress(name),
            "scores": lambda: self._scores(folder),
            "events": lambda: self._events(name),
            "report": lambda: self._report(name, folder),
        }
        if part in answers:
            answers[part]()
        elif part in _FILES:
            self._file(folder / part)
        else:
            raise _NotFoundError

    def _whole(self, name: str, folder: Path) -> None:
        runs = self.server.runs
        manifest = read_manifest(folder) or {}
        experiment = manifest.get("experiment")
        facts = [("directory", str(folder))]
        content = self._page(
            "experiment",
            "",
            one=runs.view(name),
            log=runs.log(name),
            facts=facts + (experiment_facts(experiment) if experiment else []),
            files=[{"path": file, "label": file, "what": ""} for file in _FILES],
            experiment_json=json.dumps(experiment, indent=2, ensure_ascii=False),
        )
        self._send(200, content)

    def _progress(self, name: str) -> None:
        runs = self.server.runs
        self._send(200, render("experiment_progress", one=runs.view(name), log=runs.log(name)))

    def _scores(self, folder: Path) -> None:
        with self.server.analysis:
            scores = score_view(folder)
        self._send(200, render("experiment_scores", scores=scores))

    def _report(self, name: str, folder: Path) -> None:
        with self.server.analysis, tempfile.TemporaryDirectory() as out:
            title = self.server.runs.view(name).name
            (page,) = write_report(read_sources([folder]), out, formats=("html",), title=title)
            content = page.read_bytes()
        self._send(200, content, headers={"Content-Security-Policy": REPORT_POLICY})

    def _compare(self, chosen: list[str]) -> None:
        runs = self.server.runs
        folders = [runs.folder(name) for name in dict.fromkeys(chosen)]
        compared, problem = None, None
        if folders:
            try:
                if not all(folders):
                    raise _NotFoundError
                with self.server.analysis:
                    names = named([(runs.view(name).name, name) for name in dict.fromkeys(chosen)])
                    compared = side_by_side(
                        [
                            NamedRun(name, read_sources([folder]))
                            for name, folder in zip(names, folders, strict=True)
                            if folder is not None
                        ]
                    )
            except ResultError as error:
                problem = str(error)
        content = self._page(
            "compare",
            "Compare",
            experiments=[runs.view(name) for name in runs.names()],
            chosen=chosen,
            compared=compared,
            problem=problem,
            nothing="",
        )
        self._send(200 if problem is None else 422, content)

    def _events(self, name: str) -> None:
        """Send an event whenever the committed rows have changed, until the run is complete."""
        self._head(200, "text/event-stream", {"Cache-Control": "no-store"})
        last, sent = None, time.monotonic()
        while True:
            one = self.server.runs.view(name)
            if (one.done, one.total) != last:
                last, sent = (one.done, one.total), time.monotonic()
                data = json.dumps({"state": one.state, "done": one.done, "total": one.total})
                self.wfile.write(f"event: progress\ndata: {data}\n\n".encode())
            elif time.monotonic() - sent > KEEP_ALIVE_SECONDS:
                sent = time.monotonic()
                self.wfile.write(b": still here\n\n")
            if one.ended:
                return
            time.sleep(LOOK_SECONDS)

    def _static(self, name: str) -> None:
        if name not in STATIC:
            raise _NotFoundError
        found = STATIC[name]
        self._send(200, found.content, found.media_type, static_headers())

    def _file(self, path: Path) -> None:
        if not path.exists():
            raise _NotFoundError
        name = f'attachment; filename="{path.name}"'
        self._send(200, path.read_bytes(), "application/json", {"Content-Disposition": name})

    def _send(
        self,
        status: int,
        content: bytes,
        media_type: str = _HTML,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._head(status, media_type, {"Content-Length": str(len(content))} | (headers or {}))
        self.wfile.write(content)

    def _head(self, status: int, media_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({**SECURITY_HEADERS, "Content-Type": media_type} | headers).items():
            self.send_header(name, value)
        self.end_headers()


def _problem(status: int, detail: str) -> bytes:
    title = HTTPStatus(status).phrase
    return render(
        "problem", nav=_NAV, here="", who="", may_sign_out=False, title=title, detail=detail
    )
