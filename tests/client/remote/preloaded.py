"""A `statebridge` command for shell scripts: its libraries are loaded once, not at every call.

A process loads them and forks for each call. The script on the path hands its arguments,
environment and streams over, and ends with the exit code of the call.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.running_server import ROOT

SCRIPT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as here:
    here.connect({address!r})
    call = [sys.argv, os.getcwd(), dict(os.environ)]
    socket.send_fds(here, [json.dumps(call).encode()], [0, 1, 2])
    sys.exit(int(here.recv(9)))
"""


@contextmanager
def preloaded_command(folder: Path) -> Iterator[Path]:
    """Yield the path of a `statebridge` script in a new folder, while it can be called."""
    folder.mkdir()
    path, address = folder / "statebridge", str(folder / "socket")
    path.write_text(SCRIPT.format(python=sys.executable, address=address))
    path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        command = [sys.executable, "-m", __name__, str(listener.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[listener.fileno()])
    try:
        yield path
    finally:
        process.terminate()
        process.wait()


def answer_calls(listener: socket.socket) -> None:
    """Answer one call after another; never returns."""
    import numpy  # noqa: F401
    import scipy.stats  # noqa: F401

    import statebridge_client  # noqa: F401
    from statebridge.commands import main

    while True:
        connection, _ = listener.accept()
        message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        child = os.fork()
        if child == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            # Those of this process may have been files, which a pipe in their place is not.
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            sys.argv, folder, environment = json.loads(message)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            main()
            sys.exit()
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()


if __name__ == "__main__":
    answer_calls(socket.socket(fileno=int(sys.argv[1])))
