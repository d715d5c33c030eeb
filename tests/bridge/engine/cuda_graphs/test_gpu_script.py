"""The script for a GPU is sound, and its stages run on a CPU in small."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, str(SCRIPT), *arguments],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _runs(folder: Path) -> list[dict[str, object]]:
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def test_help_lists_the_stages_that_exist() -> None:
    help_text = _script("--help").stdout
    listed = re.findall(r"^    ([a-z0-9]+(?:-[a-z0-9]+)?)  ", help_text, re.MULTILINE)
    listed += re.findall(r"^    ([a-z0-9]+-[a-z0-9]+)$", help_text, re.MULTILINE)
    (stages,) = re.findall(r'^all="([^"]*)"', SCRIPT.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(stages.split())


def test_a_stage_that_does_not_exist_is_refused() -> None:
    done = _script("--quick", "float32")
    assert done.returncode == 2
    assert "no stage float32" in done.stderr


def test_the_report_has_the_stages_that_have_run(tmp_path: Path) -> None:
    for step, seconds in (("dynamic", 3.0), ("graph", 1.5)):
        runs = [{"dtype": "float32", "step": step, "seconds": s} for s in (9.0, seconds)]
        lines = "\n".join(map(json.dumps, runs))
        (tmp_path / f"float32-{step}.jsonl").write_text(lines, "utf-8")
    (tmp_path / "flips-dynamic.md").write_text("no lane differs", "utf-8")
    for _ in range(2):
        done = _script("--quick", "--out", str(tmp_path), "report")
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert "float32: dynamic 3.0 s, graph 1.5 s, 2.00 times." in page
    assert page.count("no lane differs") == 1


@pytest.mark.soak
def test_a_rehearsal_on_the_cpu_writes_every_table(tmp_path: Path) -> None:
    done = _script("--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    runs = _runs(tmp_path)
    assert [(run["dtype"], run["step"]) for run in runs] == [
        ("bfloat16", "dynamic"),
        ("bfloat16", "static"),
        ("float32", "dynamic"),
        ("float32", "static"),
    ]
    assert len({run["lanes"] for run in runs}) == 1
    for stage, step in (("dynamic", "dynamic"), ("graph", "static")):
        flips = json.loads((tmp_path / f"flips-{stage}.json").read_text("utf-8"))
        (size,) = flips["sizes"]
        assert size["step"] == step
        exact = [choice for choice in size["choices"] if choice["dtype"] == "float32"]
        assert all(choice["flipped"] == 0 for choice in exact)
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert "float32: dynamic" in page
    assert "bfloat16, static step" in page
