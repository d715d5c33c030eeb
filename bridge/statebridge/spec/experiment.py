"""The experiment file as one pydantic model; its JSON Schema is `statebridge schema`."""

from __future__ import annotations

import string
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from statebridge.errors import ExperimentError
from statebridge.spec.conditions import Condition
from statebridge.spec.presets import resolve_conditions
from statebridge.translators.settings import RidgeSettings, TrainingSettings

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Dtype = Literal["float32", "float64", "bfloat16", "float16"]


def _layer(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("give a relative depth (0.67), an index (8) or a module path")
    return value


Layer = Annotated[
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, gt=0, le=1)]
    | Annotated[str, Field(min_length=1)],
    BeforeValidator(_layer),
]
"""Relative depth in (0, 1], block index (negative ones count from the end), or module path."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelAtLayer(_Declared):
    """One side of the pair: a model and the block whose output is read or written."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or a local folder (a path that starts with `.`, `/` or `~`)."""
    layer: Layer
    revision: str | None = None


class GeneratedRows(_Declared):
    """Multi-hop rows made by `statebridge.data.generate_multihop`; nothing is downloaded."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)]
    hops: Annotated[tuple[Annotated[int, Field(ge=2, le=4)], ...], Field(min_length=1)] = (2, 3, 4)
    distractors: Annotated[int, Field(ge=0, le=50)] = 2
    seed: Seed = 0


class Fields(_Declared):
    """Which field of a JSONL row holds what."""

    id: str | None = None
    context: str = "context"
    question: str = "question"
    answer: str = "answer"


class Dataset(_Declared):
    """The rows to run over: a file, or generated rows."""

    path: Path | None = None
    format: Literal["jsonl", "hotpotqa", "musique", "2wikimultihopqa", "babi"] = "jsonl"
    sha256: Sha256 | None = None
    fields: Fields = Fields()
    options: dict[Literal["context", "unanswerable"], str] = {}
    """Of the format's reader, such as `context: all` for every paragraph, not the gold ones."""
    generate: GeneratedRows | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Dataset:
        if (self.path is None) == (self.generate is None):
            raise ValueError("give either path (a file) or generate (rows made here)")
        return self


class Corpus(_Declared):
    """Text to fit a translator on: a text file, or generated rows."""

    path: Path | None = None
    sha256: Sha256 | None = None
    generate: GeneratedRows | None = None
    max_passages: Annotated[int, Field(ge=1)] = 5000
    max_tokens: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _one_origin(self) -> Corpus:
        if (self.path is None) == (self.generate is None):
            raise ValueError("give either path (a text file) or generate (rows made here)")
        return self


class Fit(_Declared):
    """How to fit the translators that the experiment needs, one per seed."""

    kind: Literal["affine", "mlp_1hidden", "mlp_3hidden", "ridge"] = "affine"
    corpus: Corpus
    training: TrainingSettings = TrainingSettings()
    """For affine and the MLPs."""
    ridge: RidgeSettings = RidgeSettings()
    """For ridge: an affine map in closed form."""
    normalize: bool = True

    @model_validator(mode="after")
    def _hidden_dim_fits(self) -> Fit:
        given = self.training.hidden_dim is not None
        if self.kind.startswith("mlp") and not given:
            raise ValueError(f"kind {self.kind} needs training.hidden_dim, its hidden width")
        if given and not self.kind.startswith("mlp"):
            raise ValueError(f"kind {self.kind} has no hidden layer; leave training.hidden_dim out")
        return self


def _unwrap_fit(value: Any) -> Any:
    if isinstance(value, dict) and "fit" in value:
        if len(value) > 1:
            raise ValueError("give either fit or files by seed, not both")
        return value["fit"]
    return value


def _files_or_fit(value: Any) -> str:
    fit = isinstance(value, Fit) or (
        isinstance(value, dict) and ("fit" in value or "corpus" in value)
    )
    return "fit" if fit else "files"


class _InFit:
    """Shows a fit in the JSON Schema as it is written in a file: `fit: {...}`."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "object",
            "properties": {"fit": handler(schema)},
            "required": ["fit"],
            "additionalProperties": False,
        }


class Prompts(_Declared):
    """Prompt templates; the defaults are the exact strings of arXiv 2606.03280."""

    task: str = "Context: {context}\nQ: {question}\nA:"
    relay_sender: str = "{context}\n\nKey facts:"
    relay_receiver: str = "{relay}\nQ: {question}\nA:"

    @field_validator("task", "relay_sender", "relay_receiver")
    @classmethod
    def _known_fields(cls, template: str, info: Any) -> str:
        allowed = {"context", "question"} | ({"relay"} if info.field_name != "task" else set())
        if info.field_name == "relay_sender":
            allowed = {"context", "question"}
        try:
            parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"not a template: {error}; write a literal brace twice") from None
        used = {str(name) for _, name, _, _ in parts}
        if any(specification or conversion for _, _, specification, conversion in parts):
            raise ValueError(
                "a placeholder takes no conversion or format: write {question} as it is"
            )
        if not used <= allowed:
            raise ValueError(
                f"unknown placeholder {sorted(used - allowed)}; allowed: {sorted(allowed)}"
            )
        if not template:
            raise ValueError("the template is empty")
        return template


class Decoding(_Declared):
    """Greedy decoding with Hugging Face's meaning of the two processors."""

    max_new_tokens: Annotated[int, Field(ge=1, le=65536)] = 64
    relay_max_new_tokens: Annotated[int, Field(ge=1, le=65536)] = 128
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.3
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 3
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 256
    """Longer prompts are cut on the right."""


class Execution(_Declared):
    """How to run; nothing here may change a token."""

    path: Literal["auto", "shared", "plain"] = "auto"
    """`auto` is the shared sweep, and the plain one where the experiment runs remotely."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    max_lanes: Annotated[int, Field(ge=1)] | None = None
    """Lanes decoded together; None sizes the groups from free memory."""


class Experiment(_Declared):
    """A declared experiment: pair, dataset, translators, conditions, seeds, decoding."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    direction: Literal["fwd", "rev"] = "fwd"
    """Which way the pair is used; names the published result files."""
    sender: ModelAtLayer
    receiver: ModelAtLayer
    dataset: Dataset
    limit: Annotated[int, Field(ge=1)] | None = None
    """Run the first rows only; draws and donors stay those of the whole dataset."""
    translators: (
        Annotated[
            Annotated[dict[Seed, Path], Tag("files")]
            | Annotated[Fit, BeforeValidator(_unwrap_fit), _InFit(), Tag("fit")],
            Discriminator(_files_or_fit),
        ]
        | None
    ) = None
    """A file for each seed, or `fit: {...}`."""
    conditions: str | list[str | Condition] = "published"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (42, 123, 456)
    rng: Literal["per-row", "published"] = "per-row"
    """Draws keyed by (seed, row id), or the published streams exactly."""
    dtype: Dtype = "float32"
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding()
    decode: bool = True
    """False measures log-probability, rank and KL only: no text is generated."""
    remote: str | None = None
    """None runs here; `local` through nnsight's serialisation here; `ndif` or a URL remotely."""
    execution: Execution = Execution()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"a seed is listed twice in {list(seeds)}")
        return seeds

    @field_validator("remote")
    @classmethod
    def _remote_known(cls, remote: str | None) -> str | None:
        if remote is None or remote in ("local", "ndif"):
            return remote
        if remote.startswith(("http://", "https://")):
            return remote
        raise ValueError("give local, ndif, or a URL that starts with http:// or https://")

    @model_validator(mode="after")
    def _complete(self) -> Experiment:
        try:
            conditions = self.resolved_conditions
        except ExperimentError as error:
            raise ValueError(str(error)) from None
        translating = [c.name for c in conditions if c.translates]
        if translating and self.translators is None:
            raise ValueError(
                f"translators: missing, and {translating[0]} needs them; "
                "give a file for each seed, or fit: {...}"
            )
        if translating and isinstance(self.translators, dict):
            missing = [seed for seed in self.seeds if seed not in self.translators]
            if missing:
                raise ValueError(f"translators: no file for seed {missing[0]}")
        if self.remote is not None and self.execution.path == "shared":
            raise ValueError("remote: needs execution.path plain (one remote job per model)")
        return self

    @property
    def path(self) -> Literal["shared", "plain"]:
        """The path that the run takes."""
        if self.execution.path == "auto":
            return "shared" if self.remote is None else "plain"
        return self.execution.path

    @cached_property
    def resolved_conditions(self) -> tuple[Condition, ...]:
        """The conditions that the preset and condition names stand for, in order."""
        return resolve_conditions(self.conditions)
