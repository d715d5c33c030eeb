"""Declared data: rows of a file, generated rows, and text to fit translators on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from statebridge.errors import DatasetError
from statebridge.experiment.declared import NO_BOOLEAN, NameIn, Sha256
from statebridge.registry import Registry

if TYPE_CHECKING:
    from statebridge.records import DatasetRow

Generate = Callable[["GeneratedRows"], "list[DatasetRow]"]
"""Declared settings to the rows; the same settings give the same rows on any machine."""

TASKS: Registry[Generate] = Registry(
    "task", package="statebridge.tasks", group="statebridge.tasks", error=DatasetError
)

Seed = Annotated[int, Field(ge=0, le=2**63 - 1), NO_BOOLEAN]
Hops = Annotated[int, Field(ge=2, le=4), NO_BOOLEAN]
MOST_SYMBOLS = 1024
Symbols = Annotated[int, Field(ge=2, le=MOST_SYMBOLS), NO_BOOLEAN]
Part = Annotated[float, Field(ge=0, le=1), NO_BOOLEAN]


class Declared(BaseModel):
    """A part of an experiment file: unknown fields are refused, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class GeneratedRows(Declared):
    """Rows made here; nothing is downloaded."""

    rows: Annotated[int, Field(ge=1, le=1_000_000), NO_BOOLEAN]
    task: Annotated[str, NameIn(TASKS)] = "multihop"
    """`multihop` (chains of invented facts), `countries` or `tip_sheets` (tasks of arXiv
    2501.14082, with rows of our own), `symbols`, or a registered task. The fields below are options
    of `multihop`, but for `seed`, which all have, and `symbols`, which that task has too."""
    hops: Annotated[tuple[Hops, ...], Field(min_length=1)] = (2, 3, 4)
    """Chain lengths, taken in turn."""
    distractors: Annotated[int, Field(ge=0, le=50), NO_BOOLEAN] = 2
    """Facts per row that do not bear on the question."""
    domains: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the domains, taken in turn; all if not given."""
    wording: Literal["varied", "plain"] = "varied"
    """`plain` words each fact and each question in one way only."""
    names: tuple[Part, Part] = (0.0, 1.0)
    """Part of each list of names to draw from, as shares of its length: `[0, 0.8]` and `[0.8, 1]`
    have no name in common."""
    symbols: Annotated[tuple[Symbols, ...], Field(min_length=1)] | None = None
    """Numbers of different answers, taken in turn: with 8, each row has one of the same 8 answers,
    equally often. What `statebridge capacity` measures."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _options_fit(self) -> GeneratedRows:
        given = {"hops", "distractors", "domains", "wording", "names"} & self.model_fields_set
        if self.task != "symbols":
            given |= {"symbols"} & self.model_fields_set
        changed = sorted(
            name for name in given if getattr(self, name) != type(self).model_fields[name].default
        )
        if self.task != "multihop" and changed:
            raise ValueError(f"task {self.task} has no {changed[0]}; leave it out")
        return self


class Fields(Declared):
    """Which field of a row holds what.

    A name (`question`), a path into objects (`answers.text`), or, but for `id`, a template of
    fields (`"{title}: {passage}"`).
    """

    id: str | None = None
    context: str = "context"
    question: str = "question"
    answer: str = "answer"
    """One right answer or a list of them: the first is the answer, the others are its aliases."""


HUB = "hf://"
HubPath = Annotated[
    str, Field(pattern=r"^hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w.-]+)*$", max_length=300)
]
"""Data set on the Hugging Face Hub, or one file of it: `hf://owner/name/FILE`."""


def _no_half_hub_path(path: Path) -> Path:
    if path.parts[:1] == (HUB.rstrip("/"),):
        raise ValueError("give a data set of the hub as hf://owner/name, or hf://owner/name/FILE")
    return path


FilePath = Annotated[Path, AfterValidator(_no_half_hub_path)]


class Dataset(Declared):
    """The rows to run over: a file, a data set of the hub, or generated rows."""

    path: Annotated[FilePath | HubPath, Field(union_mode="left_to_right")] | None = None
    """File, or `hf://owner/name`."""
    config: str | None = None
    """Config of a data set of the hub; the default one, or the only one, if not given."""
    split: str | None = None
    """Split of a data set of the hub."""
    revision: str | None = None
    """Branch, tag or commit of a data set of the hub; the commit is recorded."""
    format: Literal[
        "jsonl",
        "hotpotqa",
        "musique",
        "2wikimultihopqa",
        "lm-eval",
        "squad",
        "babi",
        "gsm8k",
        "mmlu",
        "biographies",
    ] = "jsonl"
    sha256: Sha256 | None = None
    fields: Fields = Fields()
    unusable: Literal["drop"] | None = None
    """`drop` leaves out a row that lacks a field or has nothing in it, and a caution counts and
    names such rows (format `jsonl`); refused if not given."""
    options: dict[Literal["context", "unanswerable", "aliases", "filter", "fewshot"], str] = {}
    """Options of the format's reader: `context: all` takes every paragraph, not the gold ones."""
    generate: GeneratedRows | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Dataset:
        if (self.path is None) == (self.generate is None):
            raise ValueError("give either path (a file) or generate (rows made here)")
        given = [n for n in ("config", "split", "revision") if getattr(self, n) is not None]
        if given and not self.on_hub:
            raise ValueError(f"{given[0]} is that of a data set of the hub (path: hf://owner/name)")
        if self.unusable == "drop" and (self.format != "jsonl" or self.generate is not None):
            raise ValueError("unusable: drop is for the rows of a file of format jsonl")
        return self

    @property
    def on_hub(self) -> bool:
        """Whether the rows are from the Hugging Face Hub."""
        return isinstance(self.path, str)


HoldOut = Annotated[float, Field(gt=0, lt=1), NO_BOOLEAN] | None
"""Share of the evaluated answers of which no row is trained on; None holds none out."""

CorpusPositions = Literal["all", "last"]
"""Tokens of a passage that a translator is fitted on."""


def _on_one_line(name: str) -> str:
    if not name.isprintable():
        raise ValueError("give printable characters")
    return name


class Corpus(Declared):
    """Text to fit a translator on: a text file, or generated rows."""

    path: Path | None = None
    sha256: Sha256 | None = None
    name: (
        Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_on_one_line)] | None
    ) = None
    """Name of a text file on translator cards; that of the file if not given."""
    generate: GeneratedRows | None = None
    max_passages: Annotated[int, Field(ge=1), NO_BOOLEAN] = 5000
    max_tokens: Annotated[int, Field(ge=1), NO_BOOLEAN] = 256
    positions: CorpusPositions = "all"
    """Tokens of a passage to fit on: all, which needs one tokenizer for both models, or the last
    one, which any two models have in common (arXiv 2501.14082)."""
    hold_out_answers: HoldOut = None
    """Leave generated rows out whose answer is one of this share of the evaluated answers."""

    @model_validator(mode="after")
    def _one_origin(self) -> Corpus:
        if (self.path is None) == (self.generate is None):
            raise ValueError("give either path (a text file) or generate (rows made here)")
        if self.generate is not None and self.name is not None:
            raise ValueError("name is that of a text file; leave it out with generate")
        if self.generate is None and self.hold_out_answers is not None:
            raise ValueError("hold_out_answers: a text file has no answers; leave it out")
        return self
