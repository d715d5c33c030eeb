"""Processes to be killed, forked from one that has imported all: a start costs no import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROGRAM = """
import os, sys
{imports}
for line in sys.stdin:
    if (child := os.fork()) == 0:
        sys.argv = ["forked", *line.split()]
        print(os.getpid(), flush=True)
        {act}
        sys.exit()
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Forked:
    """One process at a time, each in the state of one that has just started."""

    commands: IO[str]
    answers: IO[str]
    child: int = 0
    code: int | None = None

    def start(self, *arguments: str | Path) -> None:
        """Start a process; no argument has a space."""
        print(*arguments, file=self.commands, flush=True)
        self.child, self.code = int(self.answers.readline()), None

    def lines(self) -> Iterator[str]:
        """Yield the lines that the process prints; `code` is its exit status after the last."""
        for line in self.answers:
            if line.startswith("ended "):
                self.code = int(line.removeprefix("ended "))
                return
            yield line

    def alive(self) -> bool:
        """Whether the process runs."""
        try:
            os.kill(self.child, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self.child, signal.SIGKILL)


@contextmanager
def forked(imports: str, act: str, errors: Path) -> Iterator[Forked]:
    """Import once; each start runs `act` in a process of its own.

    Args:
        errors: File for what the processes write to standard error.
    """
    program = [sys.executable, "-c", PROGRAM.format(imports=imports, act=act)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        errors.open("w") as stderr,
        subprocess.Popen(program, **pipes, stderr=stderr, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        processes = Forked(process.stdin, process.stdout)
        try:
            yield processes
        finally:
            if processes.child and processes.alive():
                processes.kill()
