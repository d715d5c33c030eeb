"""The gallery page: written from runs, and never without a figure that a report may show."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.figure_gallery import draw

from statebridge.runs.directory import MANIFEST
from tests.bridge.pages.made_runs import made_run

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_script_draws_a_run(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", right=9)
    assert (run / MANIFEST).exists()
    drawings = draw([run], None, tmp_path / "docs")
    page = (tmp_path / "docs" / "gallery.md").read_text("utf-8")
    assert "channels" in [drawing.name for drawing in drawings]
    for drawing in drawings:
        assert f"## {drawing.title}\n" in page
        assert drawing.caption in page
        picture = tmp_path / "docs" / "figures" / "gallery" / f"{drawing.name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_page_has_every_kind_of_figure() -> None:
    shown = re.findall(r"\(figures/gallery/(\w+)\.png\)", (DOCS / "gallery.md").read_text("utf-8"))
    assert {f"{name}.png" for name in shown} == {
        file.name for file in (DOCS / "figures" / "gallery").iterdir()
    }
    kinds = [
        "channels",
        "containment",
        "forest",
        "norm_mismatch",
        "norm_distribution",
        "cosine_distribution",
        "translator_cosine",
        "strength_curve",
        "divergence_survival",
        "audit_labels",
        "accuracy_against_cost",
        "layer_map",
        "layer_choice",
    ]
    for kind in kinds:
        assert any(name.startswith(kind) for name in shown), kind
