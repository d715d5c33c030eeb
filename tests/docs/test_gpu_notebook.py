"""The notebook for a GPU host runs, with a tiny model in place of the one that it fetches."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.tiny_models import save_pair_folder, tiny_llama, tiny_tokenizer

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "gpu-host.ipynb"


@pytest.mark.slow
def test_its_cells_run_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair_folder(tiny_llama(), tiny_tokenizer(), tmp_path / "model")
    fewer = {
        '"Qwen/Qwen3-0.6B"': '"./model"',
        "ROWS = 100": "ROWS = 4",
        "DEVICE = ": "DEVICE = 'cpu' or ",
    }
    names: dict[str, object] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        text = cell.source
        if cell.cell_type != "code" or text.startswith("%pip"):
            continue
        if "Qwen" in text:
            assert all(text.count(there) == 1 for there in fewer)
            for there, here in fewer.items():
                text = text.replace(there, here)
        exec(compile(text, NOTEBOOK.name, "exec"), names)
    shown = capsys.readouterr().out
    assert "missing" not in shown
    assert "question_only" in shown
    assert (tmp_path / "gpu-host-report.html").is_file()
