"""Where the server cannot listen it says so on one line, and leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from statebridge.errors import EnvironmentFault, InputError
from statebridge_server import serve
from statebridge_server.serve import listening_sockets
from statebridge_server.settings import fixed_settings
from tests.server.running_server import RunningServer, free_port


def test_a_socket_that_listens_takes_connections() -> None:
    port = free_port()
    with ExitStack() as opened:
        for listener in listening_sockets("localhost", port):
            opened.enter_context(listener)
        socket.create_connection(("127.0.0.1", port), 10).close()
        # Small answers leave at once only where asyncio knows that this is TCP.
        assert listener.proto == socket.IPPROTO_TCP
        with pytest.raises(EnvironmentFault, match=f"port {port} of localhost is in use"):
            listening_sockets("localhost", port)
    with ExitStack() as opened:  # what was opened before the refusal was closed
        for listener in listening_sockets("localhost", port):
            opened.enter_context(listener)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "a" * 70])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=r"is no address of this machine; give 127\.0\.0\.1"):
        listening_sockets(host, free_port())


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = RunningServer(tmp_path, {"pairs": {}}, port=taken.getsockname()[1])
        command = "from statebridge.commands import main; main()"
        done = subprocess.run(
            [sys.executable, "-P", "-c", command, "serve", "--config", str(server.config)],
            env=server.environment,
            cwd=server.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert done.returncode == EnvironmentFault.exit_code
    assert line.startswith(f"error: port {server.port} of 127.0.0.1 is in use"), line
    assert "--port" in line


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("nowhere.invalid", "^host nowhere.invalid: is no address of this machine"),
        ("0.0.0.0", "^host 0.0.0.0: other machines reach it and there is no key"),
    ],
)
def test_a_key_is_asked_for_where_others_reach_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, words: str
) -> None:
    """A host that is mistyped needs none."""

    def never(*_: object) -> None:
        raise AssertionError("it serves")

    monkeypatch.setattr(serve, "configure_logs", lambda _: None)
    monkeypatch.setattr(serve._StoppingServer, "run", never)
    settings = {"data": tmp_path, "pairs": {}, "host": host, "port": free_port()}
    with pytest.raises(InputError, match=words):
        serve.serve(fixed_settings(settings))
