"""A stand-in for the hub on the loopback that takes commits: repositories made, filled and read."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest

Repositories = dict[str, dict[str, bytes]]
"""The files of each repository by name, under `datasets/owner/name` or `models/owner/name`."""


def commit_of(files: dict[str, bytes]) -> str:
    """The commit of a repository's state."""
    parts = [name.encode() + b"\0" + content for name, content in sorted(files.items())]
    return hashlib.sha1(b"\0".join(parts)).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The requests that `HfApi` makes for `push` and `pull`."""

    protocol_version = "HTTP/1.1"
    repositories: Repositories
    visibility: dict[str, str]

    def log_message(self, format: str, *args: Any) -> None: ...

    def answer(self, code: int, body: Any = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def place(self) -> tuple[str, str]:
        """The repository, and the rest of the path."""
        parts = unquote(self.path.split("?")[0]).strip("/").removeprefix("api/").split("/")
        if parts[0] not in ("datasets", "models"):
            parts.insert(0, "models")
        return "/".join(parts[:3]), "/".join(parts[3:])

    def address(self, name: str) -> str:
        return f"http://{self.headers['Host']}/{name.removeprefix('models/')}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name, rest = self.place()
        files = self.repositories.get(name)
        if files is None:
            self.answer(404, {}, X_Error_Code="RepoNotFound")
            return
        commit = commit_of(files)
        verb, _, rest = rest.partition("/")
        revision, _, file = rest.partition("/")
        if revision not in ("", "main", commit):
            self.answer(404, {}, X_Error_Code="RevisionNotFound")
        elif verb in ("", "revision"):
            siblings = [{"rfilename": one} for one in files]
            self.answer(200, {"_id": "0", "id": name, "sha": commit, "siblings": siblings})
        elif verb == "tree":
            held = [
                {"type": "file", "path": n, "size": len(c), "oid": ""} for n, c in files.items()
            ]
            self.answer(200, held)
        else:
            mark = f'"{hashlib.sha256(files[file]).hexdigest()}"'
            self.answer(200, files[file], X_Repo_Commit=commit, ETag=mark)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name, rest = self.place()
        if self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            made = f"{asked['type']}s/{asked['organization']}/{asked['name']}"
            found = made in self.repositories
            self.visibility.setdefault(made, asked["visibility"])
            self.repositories.setdefault(made, {".gitattributes": b""})
            self.answer(409 if found else 200, {"url": self.address(made)})
        elif rest == "preupload/main":
            files = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer(200, {"files": [{"path": file["path"], **modes} for file in files]})
        else:
            assert rest == "commit/main"
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    content = base64.b64decode(value["content"])
                    self.repositories[name][value["path"]] = content
            commit = commit_of(self.repositories[name])
            url = f"{self.address(name)}/commit/{commit}"
            self.answer(200, {"commitUrl": url, "commitOid": commit})


@contextmanager
def hub_of(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[type[Hub]]:
    """Let `huggingface_hub` ask an empty hub; its repositories are attributes of the class."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="huggingface_hub is not installed"
    )
    from huggingface_hub import close_session

    served = type("Served", (Hub,), {"repositories": {}, "visibility": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), served)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    close_session()  # it keeps the proxies of the first call
    try:
        yield served
    finally:
        close_session()
        server.shutdown()
        server.server_close()
        thread.join()
