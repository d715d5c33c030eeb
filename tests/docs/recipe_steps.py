"""Reading a recipe: the files that it writes and the code that it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"\A# (\w+\.py)\n")


@dataclass(frozen=True, slots=True)
class Steps:
    """The Python blocks of a recipe."""

    files: dict[str, str]
    """Blocks that begin with a comment of a file's name, by that name."""
    code: tuple[str, ...]
    """All other blocks, in order."""


def recipe_steps(page: Path) -> Steps:
    """Return the Python blocks of a recipe."""
    blocks = BLOCK.findall(page.read_text("utf-8"))
    named = {found[1]: text for text in blocks if (found := FILE.match(text))}
    return Steps(named, tuple(text for text in blocks if not FILE.match(text)))


def follow(page: Path, folder: Path) -> None:
    """Write the files of a recipe into a folder and run its code there, in this process."""
    steps = recipe_steps(page)
    for name, text in steps.files.items():
        (folder / name).write_text(text, "utf-8")
    names: dict[str, object] = {"__name__": page.stem}
    for number, text in enumerate(steps.code):
        exec(compile(text, f"{page.name}, block {number + 1}", "exec"), names)
