"""The tutorial notebook runs from top to bottom and shows its figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


class Shell(InteractiveShell):
    """A notebook's shell in this process: a kernel would import everything once more."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: no window is opened."""


@pytest.mark.slow
def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    backend, kinds = matplotlib.get_backend(), set()
    # Without the history, which a thread writes to the user's home.
    shell = Shell(config=Config({"HistoryManager": {"enabled": False}}))
    try:
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if cell.cell_type == "code":
                done = shell.run_cell(cell.source)
                done.raise_error()
                kinds |= shell.display_formatter.format(done.result)[0].keys()
    finally:
        shell.restore_sys_module_state()
        matplotlib.use(backend)
    assert "image/png" in kinds
    assert not capsys.readouterr().err
    assert (tmp_path / "tutorial-report.html").is_file()


def test_the_stored_notebook_shows_its_figures() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
