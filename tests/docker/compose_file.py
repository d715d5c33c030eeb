"""docker-compose.yml as data, and its variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
GUIDE = ROOT / "docs" / "deploying.md"
ENVIRONMENT = ROOT / ".env"

VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?-([^}]*))?\}")


def compose() -> dict[str, Any]:
    """The file with its anchors resolved and its variables left as they are."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return content


def services() -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def with_defaults(value: str) -> str:
    """A value as it is where no variable is set."""
    return VARIABLE.sub(lambda found: found[2] or "", value)


def variables() -> dict[str, str]:
    """Every variable of the file with its default."""
    return {name: default or "" for name, default in VARIABLE.findall(COMPOSE.read_text("utf-8"))}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, without its FROM."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        elif found:
            found[-1].append((name, rest))
    return found
