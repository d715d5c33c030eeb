"""Draw docs/gallery.md: every figure that the library draws, from runs that are given.

`python scripts/figure_gallery.py RUN... [--layer-search FOLDER] [--out docs]`. Figures of the same
name are drawn from the first run that has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from statebridge.figures import Drawing
from statebridge.figures.layers import layer_map
from statebridge.report.content import gather
from statebridge.report.layer_search import gather_layer_search
from statebridge.results.layer_search import read_layer_search
from statebridge.results.read_results import read_sources

HEAD = """# Gallery

Every figure of a report and of a layer search, with its caption, as the library draws it. A report
says of a figure that it lacks which numbers it would need. `statebridge report` writes them; in a
notebook each is an object that shows itself. The curve of a channel's capacity is on
[its page](capacity.md). This page is written by `scripts/figure_gallery.py`.
"""


def draw(runs: Iterable[Path], search: Path | None, out: Path) -> list[Drawing]:
    """Write the page and its pictures into a folder of documentation; return the figures.

    Args:
        runs: Run directories.
        search: A layer search in the private setting.
        out: The folder.
    """
    found: dict[str, Drawing] = {}
    for run in runs:
        content = gather(read_sources([run]), figures=True)
        found = {drawing.name: drawing for drawing in content.drawings} | found
    if search is not None:
        read = read_layer_search(search)
        several = list(gather_layer_search(read).drawings)
        several.append(layer_map(list(read.runs.values()), "gold_logprob", "question_only"))
        found |= {drawing.name: drawing for drawing in several}
    (out / "figures" / "gallery").mkdir(parents=True, exist_ok=True)
    page = [HEAD]
    for drawing in found.values():
        assert drawing.figure is not None
        drawing.figure.savefig(out / "figures" / "gallery" / f"{drawing.name}.png", dpi=80)
        page.append(
            f"## {drawing.title}\n\n![{drawing.title}](figures/gallery/{drawing.name}.png)\n\n"
            f"*{drawing.caption}*\n"
        )
    (out / "gallery.md").write_text("\n".join(page), "utf-8")
    return list(found.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--layer-search", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    for drawing in draw(given.runs, given.layer_search, given.out):
        print(drawing.name)
