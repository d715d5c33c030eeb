"""The torch-free half and the client run without modules that only POSIX systems have.

No test here runs on Windows or macOS; `.github/workflows/ci.yml` does.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_rooms import LIGHT, ROOT, _files, _name

POSIX_MODULES = {
    "crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty", "uvloop",
}  # fmt: skip
POSIX_NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "chroot", "fchmod",
        "fork", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg",
        "mkfifo", "openpty", "pread", "pwrite", "sched_getaffinity", "setsid", "statvfs",
        "sync", "sysconf", "uname", "wait",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2",
        "alarm", "pause", "pthread_sigmask", "setitimer", "sigwait",
    },
    "asyncio": {"add_signal_handler"},
    "loop": {"add_signal_handler"},
    "socket": {"AF_UNIX"},
}  # fmt: skip
"""Names that the module lacks, or cannot use, on Windows."""

PORTABLE = [*LIGHT, *_files("client")]

BLOCKED = f"""
import sys
class Blocked:
    '''As on Windows, but for what the standard library of this system itself needs.'''
    def find_spec(self, name, path=None, target=None):
        if name in {POSIX_MODULES!r}:
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if frame.f_code.co_filename.startswith({str(Path(os.__file__).parent)!r}) and (
                "site-packages" not in frame.f_code.co_filename
            ):
                return None
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
for name in {POSIX_MODULES - {"posix"}!r}:
    sys.modules.pop(name, None)
"""


def run_blocked(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_block_holds_back_a_posix_module() -> None:
    assert "No module named 'fcntl'" in run_blocked("import fcntl").stderr


@pytest.mark.slow
def test_every_portable_module_imports_without_posix() -> None:
    names = [".".join(filter(None, ("statebridge", _name(path)))) for path in LIGHT]
    for path in _files("client"):
        parts = path.relative_to(ROOT / "client").with_suffix("").parts
        names.append(".".join(part for part in parts if part != "__init__"))
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('all')"
    done = run_blocked(code)
    assert done.stdout.strip() == "all", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "report --help", "demo --help", "submit --help"])
def test_the_command_line_starts_without_posix(words: str) -> None:
    done = run_blocked("from statebridge.commands import main; main()", *words.split())
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("path", PORTABLE, ids=lambda path: path.stem)
def test_no_portable_file_names_what_windows_lacks(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not POSIX_MODULES & {alias.name for alias in node.names}, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in POSIX_MODULES, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in POSIX_NAMES.get(node.value.id, ()), node.lineno


def test_text_that_the_terminal_cannot_encode_is_escaped() -> None:
    """A pipe on Windows has the system's code page, which lacks most signs."""
    code = (
        "import statebridge.commands.app as cli\n"
        "cli.app = lambda **_: print('0.5 \\u2212 \\u03b1')\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == rb"0.5 \u2212 \u03b1"
