"""A stand-in for the hub on the loopback: one data set of files, at one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_with(name: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve `owner/name` at the branch `main`; yield the address and the list of requests."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            asked.append(f"{self.command} {self.path}")

        def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            headers["Content-Length"] = str(len(body))
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(self.path.split("?")[0])
            about, resolve = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
            if path == about or path.startswith(f"{about}/revision/"):
                if path.rpartition("/")[2] not in (name.split("/")[1], "main", COMMIT):
                    self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
                    return
                siblings = [{"rfilename": file} for file in files]
                body = {"_id": "0", "id": name, "sha": COMMIT, "siblings": siblings}
                self.answer(200, json.dumps(body).encode(), Content_Type="application/json")
            elif path.startswith(resolve) and path.removeprefix(f"{resolve}{COMMIT}/") in files:
                content = files[path.removeprefix(f"{resolve}{COMMIT}/")]
                mark = f'"{hashlib.sha256(content).hexdigest()}"'
                self.answer(200, content, X_Repo_Commit=COMMIT, ETag=mark)
            else:
                self.answer(404, b"{}", X_Error_Code="RepoNotFound")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
