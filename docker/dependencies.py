"""Print what pyproject.toml says that Statebridge needs, without Statebridge itself.

    python3 dependencies.py EXTRA...

The image installs these in a layer of their own, which is cached until they change.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

OWN = re.compile(r"statebridge\[([\w,\s-]+)\]")


def dependencies(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the requirements of the project and of its extras, those that extras name too.

    Raises:
        KeyError: There is no extra of that name.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    found = dict.fromkeys(project["dependencies"])
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in project["optional-dependencies"][extra]:
            own = OWN.fullmatch(requirement)
            if own:
                waiting += [name.strip() for name in own[1].split(",")]
            else:
                found[requirement] = None
    return list(found)


if __name__ == "__main__":
    print("\n".join(dependencies(Path("pyproject.toml"), sys.argv[1:])))
