"""The tutorial notebook runs from top to bottom and shows its figures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert (tmp_path / "tutorial-report.html").is_file()


def test_the_stored_notebook_shows_its_figures() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
