"""Clients that read a byte at a time, or go in the middle: nobody else notices."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, eventually, submit
from tests.server.test_jobs import LONG, all_events


@contextmanager
def connection(server: RunningServer, path: str) -> Iterator[socket.socket]:
    """A connection on which a request was sent, with as small a window as there is."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        raw.settimeout(60)
        raw.connect(("127.0.0.1", server.port))
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        yield raw


def drip(raw: socket.socket, stop: threading.Event) -> None:
    """Read a byte a second."""
    while not stop.wait(1.0):
        if not raw.recv(1):
            return


@pytest.mark.slow
def test_slow_readers_hold_nobody_up(server: RunningServer) -> None:
    with server.client() as client, ExitStack() as open_connections:
        source = submit(client, tiny_experiment(rows=4, **LONG))
        assert ended(client, source)["state"] == "done"
        # So long with white space that no buffer on the way takes them all.
        path = server.data / "runs" / source / "rows.jsonl"
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"".join(line + b" " * 20_000 + b"\n" for line in lines))
        size = len(client.get(f"/v1/experiments/{source}/rows").content)
        assert size > 300_000
        running = submit(client, tiny_experiment(rows=10, **LONG))
        stop = threading.Event()
        slow = [
            open_connections.enter_context(connection(server, f"/v1/experiments/{path}"))
            for path in [f"{source}/rows"] * 60 + [f"{running}/events"] * 10
        ]
        dripping = [threading.Thread(target=drip, args=(raw, stop), daemon=True) for raw in slow]
        for thread in dripping:
            thread.start()
        try:
            # More slow readers than the server has threads: all others are served.
            for path in ("/v1/experiments", "/v1/pairs", "/readyz", f"/v1/experiments/{source}"):
                assert client.get(path).status_code == 200
            view = ended(client, running)
            assert view["state"] == "done"
            assert len(client.get(f"/v1/experiments/{source}/rows").content) == size
            numbers = [number for number, _, _ in all_events(client, running)]
            assert numbers == list(range(1, len(numbers) + 1))
        finally:
            stop.set()
            for thread in dripping:
                thread.join(60)
    with server.client() as client:
        eventually(
            lambda: "statebridge_event_streams 0.0" in client.get("/metrics").text,
            "the end of the streams whose readers have gone",
        )


def test_readers_that_go_in_the_middle_leave_nothing(server: RunningServer) -> None:
    with server.client() as client:
        experiment_id = submit(client, tiny_experiment(rows=8, **LONG))
        # Once the reset arrives the server's next write fails; some go before the answer.
        for place in range(20):
            path = f"/v1/experiments/{experiment_id}/{('rows', 'events', 'summary')[place % 3]}"
            with connection(server, path) as raw:
                if place % 2:
                    raw.recv(1)
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, for no time: a reset
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        view = ended(client, experiment_id)
        assert view["state"] == "done"
        rows = client.get(f"/v1/experiments/{experiment_id}/rows").content
        assert rows.count(b"\n") == view["rows_total"]
        eventually(
            lambda: "statebridge_event_streams 0.0" in client.get("/metrics").text,
            "the end of the streams",
        )
        numbers = [number for number, _, _ in all_events(client, experiment_id)]
        assert numbers == list(range(1, len(numbers) + 1))
    assert '"request failed"' not in server.log.read_text()


def test_an_upload_that_stops_in_the_middle_leaves_no_file(server: RunningServer) -> None:
    before = set((server.data / "datasets").iterdir())
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        head = f"POST /v1/datasets HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        raw.sendall((head + "Content-Length: 100000\r\n\r\n").encode() + b"x" * 5000)
        eventually(lambda: list((server.data / "incoming").iterdir()), "the upload's begin")
    eventually(lambda: not list((server.data / "incoming").iterdir()), "the upload's removal")
    assert set((server.data / "datasets").iterdir()) == before
