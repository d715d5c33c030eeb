"""Hook of mkdocs: the tutorial notebook as a page, with the figures that are stored in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

NOTEBOOK = "tutorial.ipynb"
PAGE = "tutorial.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page and its figures; the notebook itself stays, to be downloaded."""
    exporter = MarkdownExporter()
    page, resources = exporter.from_filename(str(Path(config.docs_dir) / NOTEBOOK))
    note = f"*This page is a notebook: [download it]({NOTEBOOK}).*\n\n"
    files.append(File.generated(config, PAGE, content=note + page))
    for name, content in resources["outputs"].items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to the page; in a checkout they lead to the notebook."""
    return markdown if page.file.src_uri == PAGE else markdown.replace(f"({NOTEBOOK})", f"({PAGE})")
