"""The page of a repository on the hub: metadata that the hub reads, then what the folder holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from statebridge.data.files import read_text
from statebridge.errors import TranslatorError
from statebridge.report.sections.comparison import score_view
from statebridge.results.read_results import read_sources
from statebridge.results.translator_card import StateOrigin, TranslatorCard
from statebridge.runs.directory import DATASET, ROWS
from statebridge.tables.formats import escape_markdown, to_markdown

_ON_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_LIBRARY = (
    "Statebridge tests whether one language model can tell another something other than in words."
)


def run_page(folder: Path, repository: str) -> str:
    """Return the page of a run directory.

    Raises:
        ResultError: The run cannot be read, or has no row.
    """
    results = read_sources([folder])
    manifest = results.manifest or {}
    sides = manifest["pair"]
    name = str(manifest["experiment"].get("name") or "run")
    done, planned = sum(len(c.lanes) for c in results.cells), sum(manifest["plan"]["lanes"])
    facts: dict[str, Any] = {
        "tags": ["statebridge"],
        "pretty_name": name,
        # The hub's viewer shows both, and does not try to read the manifest as rows.
        "configs": [
            {"config_name": "rows", "data_files": ROWS, "default": True},
            {"config_name": "dataset", "data_files": DATASET},
        ],
    }
    body = [
        f"# {escape_markdown(name)}",
        f"A run of an experiment. {_LIBRARY}",
        f"From {_side(sides['sender'])} to {_side(sides['receiver'])}; {done} of {planned} lanes "
        f"(a row under a condition and seed), begun {manifest.get('created_at', 'once')}.",
        to_markdown(score_view(results)).strip(),
        "\n".join(f"- caution: {escape_markdown(caution)}" for caution in results.cautions),
        _reading(repository, f"statebridge score {repository.rpartition('/')[2]}"),
    ]
    return _page(facts, body)


def translators_page(folder: Path, names: Sequence[str], repository: str) -> str:
    """Return the page of a folder of translators; a file without a card has its name alone.

    Raises:
        TranslatorError: A card beside a translator is not one.
    """
    rows, models = [], []
    for name in (name for name in names if name.endswith(".safetensors")):
        card = _card(folder / name)
        if card is None:
            rows.append(f"| `{name}` | | | |")
            continue
        models += [side.model for side in (card.sender, card.receiver) if side is not None]
        rows.append(
            f"| `{name}` | {card.kind} | {_origin(card.sender)} | {_origin(card.receiver)} |"
        )
    facts: dict[str, Any] = {"library_name": "statebridge", "tags": ["statebridge", "translator"]}
    known = [model for model in dict.fromkeys(models) if _ON_THE_HUB.fullmatch(model)]
    if known:
        facts["base_model"] = known
    table = ["| file | kind | from | to |", "|---|---|---|---|", *rows]
    body = [
        f"# {escape_markdown(repository.rpartition('/')[2])}",
        f"Translators: maps from one language model's states to another's. {_LIBRARY}",
        "\n".join(table),
        "The JSON file beside each has its training record, quality and versions.",
        _reading(repository, None),
    ]
    return _page(facts, body)


def _card(weights: Path) -> TranslatorCard | None:
    file = weights.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        return TranslatorCard.model_validate_json(read_text(file))
    except ValidationError:
        raise TranslatorError(
            f"{file}: is not the card of a translator; put the right one there or take it away"
        ) from None


def _origin(side: StateOrigin | None) -> str:
    return "" if side is None else _side({"model": side.model, "layer": side.layer})


def _side(side: Mapping[str, Any]) -> str:
    # A folder of this machine by its last part alone.
    model = str(side["model"])
    shown = model if _ON_THE_HUB.fullmatch(model) else re.split(r"[/\\]", model)[-1]
    layer = "" if side.get("layer") is None else f", layer {side['layer']}"
    return f"{escape_markdown(shown)}{layer}"


def _reading(repository: str, then: str | None) -> str:
    lines = [f"statebridge pull {repository} --out {repository.rpartition('/')[2]}"]
    return "\n".join(["```sh", *lines, *([then] if then else []), "```"])


def _page(facts: Mapping[str, Any], body: Sequence[str]) -> str:
    head = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in body if part) + "\n"
