"""The script for a GPU is sound, and goes through on a CPU in small."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def _bash(*arguments: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, *arguments],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_parses() -> None:
    assert _bash("-n", str(SCRIPT)).returncode == 0


@pytest.mark.soak
def test_a_rehearsal_on_the_cpu_writes_every_table(tmp_path: Path) -> None:
    done = _bash(str(SCRIPT), "--quick", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpu.sh needs: an NVIDIA GPU")
    lines = (tmp_path / "out" / "published.jsonl").read_text("utf-8").splitlines()
    runs = [json.loads(line) for line in lines]
    assert [(run["dtype"], run["step"]) for run in runs] == [
        ("float32", "dynamic"),
        ("float32", "static"),
        ("bfloat16", "dynamic"),
        ("bfloat16", "static"),
    ]
    assert len({run["lanes"] for run in runs}) == 1
    for step in ("dynamic", "static"):
        flips = json.loads((tmp_path / "out" / f"flips-{step}.json").read_text("utf-8"))
        (size,) = flips["sizes"]
        assert size["step"] == step
        exact = [choice for choice in size["choices"] if choice["dtype"] == "float32"]
        assert all(choice["flipped"] == 0 for choice in exact)
    page = (tmp_path / "out" / "gpu.md").read_text("utf-8")
    assert "float32: dynamic" in page
    assert "bfloat16, static step" in page
