"""Install Statebridge with its server and its tools into a virtual environment.

    python scripts/install.py .venv             # what `make` does
    python scripts/install.py .venv --dry-run   # say what would be fetched, and how

Takes uv where it is there, otherwise pip; torch's build for CPUs where no NVIDIA GPU is found and
its index can be reached, otherwise what the machine's own index gives. Nothing but the standard
library is used.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST, NEWEST = (3, 11), (3, 13)
# Measured on Linux with torch 2.13: what is on disk afterwards.
CPU_BUILD = "torch for CPUs (0.8 GB on disk)"
GPU_BUILD = "torch with NVIDIA's libraries (4.6 GB on disk)"
THE_REST = "the other packages (2 GB)"


@dataclass(frozen=True)
class Machine:
    """The facts that an installation depends on."""

    uv: str | None
    """Path of uv."""
    gpu: bool
    """Whether there is an NVIDIA GPU."""
    torch_index: bool
    """Whether torch's own index can be reached."""
    linux: bool
    """Elsewhere torch on PyPI is the build for CPUs."""

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine; takes up to five seconds where it has no network."""
        return cls(
            shutil.which("uv"), _has_gpu(), _reaches(TORCH_INDEX), sys.platform.startswith("linux")
        )


def commands(machine: Machine, venv: Path) -> list[list[str]]:
    """Return the commands that make the environment and fill it."""
    python = str(venv / "bin" / "python")
    what = ["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[server,dev]"]
    if machine.uv is not None:
        backend = ["--torch-backend=auto"] if machine.torch_index else []
        made = [machine.uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable]
        return [
            [*made, str(venv)],
            [machine.uv, "pip", "install", "--python", python, *backend, *what],
        ]
    index = ["--extra-index-url", TORCH_INDEX] if _cpu_build_of_torch_index(machine) else []
    return [
        [sys.executable, "-m", "venv", str(venv)],
        [python, "-m", "pip", "install", *index, *what],
    ]


def announcement(machine: Machine) -> str:
    """Return what is about to be fetched, how much, and with what."""
    tool = "pip" if machine.uv is None else "uv"
    if not machine.linux or _cpu_build_of_torch_index(machine):
        torch = CPU_BUILD
    elif machine.gpu:
        torch = GPU_BUILD
    else:
        torch = (
            f"torch as this machine's index has it, since {TORCH_INDEX} cannot be reached (where "
            f"that is PyPI, {GPU_BUILD})"
        )
    return f"Installing with {tool}: {torch}, and {THE_REST}."


def _cpu_build_of_torch_index(machine: Machine) -> bool:
    return machine.linux and machine.torch_index and not machine.gpu


def _has_gpu() -> bool:
    found = shutil.which("nvidia-smi")
    if found is None:
        return False
    listed = subprocess.run([found, "-L"], capture_output=True, check=False)
    return listed.returncode == 0 and b"GPU" in listed.stdout


def _reaches(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=5):
            return True
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what will be fetched, and fetch it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args(arguments)
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print("Statebridge needs Python 3.11 to 3.13; set PYTHON=python3.12, say", file=sys.stderr)
        return 1
    machine = Machine.here()
    print(announcement(machine), flush=True)
    for command in commands(machine, given.venv):
        if given.dry_run:
            print(" ".join(command))
            continue
        done = subprocess.run(command, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
