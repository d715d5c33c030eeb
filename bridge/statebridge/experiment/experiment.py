"""The experiment file as one pydantic model; its JSON Schema is `statebridge schema`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from statebridge.errors import ExperimentError, nearest
from statebridge.experiment.conditions import NAME, Condition
from statebridge.experiment.dataset import (
    Corpus,
    Dataset,
    Declared,
    GeneratedRows,
    HoldOut,
    Seed,
)
from statebridge.experiment.declared import NO_BOOLEAN, NameIn
from statebridge.experiment.layer_search import LayerSearch, check_layer_search
from statebridge.experiment.models import (
    DEVICE,
    Device,
    Execution,
    ModelAtLayer,
    Remote,
    check_device_maps,
    check_weights,
)
from statebridge.experiment.presets import resolve_conditions
from statebridge.experiment.prompting import Chat, Decoding, Prompts
from statebridge.experiment.random_streams import DEFAULT_STREAM, STREAMS
from statebridge.experiment.translator_settings import (
    CLOSED_FORM,
    KEY_VALUE_KIND,
    KINDS,
    THROUGH_ONLY,
    CausalSettings,
    FitKind,
    FuserSettings,
    KeyValueSettings,
    ProcrustesSettings,
    ResamplerSettings,
    RidgeSettings,
    TrainingSettings,
    check_map_kind,
)

SETTLED = (*CLOSED_FORM, *THROUGH_ONLY)
"""Kinds whose options follow from their own settings and the pair."""

# Of the modules beside this one.
__all__ = [
    "DEVICE",
    "Chat",
    "Corpus",
    "Dataset",
    "Decoding",
    "Device",
    "Execution",
    "GeneratedRows",
    "ModelAtLayer",
    "Prompts",
    "Remote",
    "Seed",
]
Dtype = Literal["float32", "float64", "bfloat16", "float16"]
DTYPES: tuple[str, ...] = get_args(Dtype)


class Causal(Declared):
    """Training on through the frozen receiver, from the fitted map."""

    rows: Dataset
    """Rows to train on; never one that is evaluated, which is checked by its identity."""
    limit: Annotated[int, Field(ge=2), NO_BOOLEAN] | None = None
    """Train on the first rows only."""
    hold_out_answers: HoldOut = None
    """Leave rows out whose answer is one of this share of the evaluated answers, so that the rows
    with these answers are new to the map."""
    through: str | Condition = "private_last"
    """The condition whose writing the map is trained for, by name or declared."""
    training: CausalSettings = CausalSettings()

    @model_validator(mode="after")
    def _translates(self) -> Causal:
        try:
            (condition,) = resolve_conditions([self.through])
        except ExperimentError as error:
            raise ValueError(f"through: {error}") from None
        except ValueError:
            raise ValueError(f"through: {self.through} is a preset; name one condition") from None
        # Of a message, the map of a sender without the context can be trained: prompt tuning.
        other = condition.sender_context is not None and condition.map_kind is None
        if condition.filled_with is not None:
            raise ValueError(f"through: {condition.name} sends no content; leave filled_with out")
        if condition.source != "translated" or other:
            raise ValueError(
                f"through: {condition.name} writes source {condition.source}"
                f"{'' if condition.sender_context is None else ' of another context'}; a map can "
                "only be trained through a condition of source translated"
            )
        return self

    @cached_property
    def condition(self) -> Condition:
        """The condition that `through` stands for."""
        return resolve_conditions([self.through])[0]


class Fit(Declared):
    """How to fit the translators that the experiment needs, one per seed."""

    kind: FitKind = "affine"
    """`ridge`, `procrustes` and `kv_ridge` are solved in closed form, the others trained, `fuser`
    and `resampler` through the receiver alone."""
    corpus: Annotated[Corpus | None, Field(validate_default=True)] = None
    """Text that the map is fitted on; none for `fuser` and `resampler`."""
    training: TrainingSettings = TrainingSettings()
    """For affine and the MLPs."""
    ridge: RidgeSettings = RidgeSettings()
    """For ridge: an affine map in closed form."""
    procrustes: ProcrustesSettings = ProcrustesSettings()
    """For procrustes: a rotation, in closed form."""
    key_values: KeyValueSettings = KeyValueSettings()
    """For kv_ridge: maps of keys and values, for conditions of site kv."""
    fuser: FuserSettings = FuserSettings()
    """For fuser: fusers of caches, for conditions of operator fuse."""
    resampler: ResamplerSettings = ResamplerSettings()
    """For resampler: soft tokens from learned queries, for conditions of site embedding."""
    normalize: bool = True
    rank: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """Rank of a low_rank map."""
    causal: Causal | None = None
    """Train the fitted map on through the receiver."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["corpus"]}, {"required": ["causal"]}]}
    )

    @field_validator("corpus")
    @classmethod
    def _there_is_a_corpus(cls, corpus: Corpus | None, info: ValidationInfo) -> Corpus | None:
        kind = info.data.get("kind")
        if corpus is None and kind is not None and kind not in THROUGH_ONLY:
            raise ValueError(f"missing; kind {kind} is fitted on one")
        return corpus

    @model_validator(mode="after")
    def _options_fit(self) -> Fit:
        needed = KINDS.get(self.kind).options if self.kind not in SETTLED else ()
        if self.kind in THROUGH_ONLY and (self.causal is None or self.corpus is not None):
            raise ValueError(
                f"kind {self.kind} is trained through the receiver alone; give causal and no corpus"
            )
        if self.causal is not None:
            through = self.causal.condition
            check_map_kind(through.name, through.map_kind, self.kind)
        if self.kind == KEY_VALUE_KIND and self.fitted_on.positions != "all":
            raise ValueError("kind kv_ridge is fitted at all positions; leave corpus.positions out")
        for name, value in self.options.items():
            field = "training.hidden_dim" if name == "hidden_dim" else name
            if value is None and name in needed:
                raise ValueError(f"kind {self.kind} needs {field}")
            if value is not None and name not in needed:
                raise ValueError(f"kind {self.kind} takes no {field}; leave it out")
        return self

    @property
    def fitted_on(self) -> Corpus:
        """The corpus, of a kind that has one."""
        if self.corpus is None:
            raise ExperimentError(f"kind {self.kind} has no corpus")
        return self.corpus

    @property
    def options(self) -> dict[str, int | None]:
        """The options of kinds, by name; None for one that is not given."""
        return {"hidden_dim": self.training.hidden_dim, "rank": self.rank}


def _unwrap_fit(value: Any) -> Any:
    if isinstance(value, dict) and "fit" in value:
        if len(value) > 1:
            raise ValueError("give either fit or files by seed, not both")
        return value["fit"]
    return value


def _files_or_fit(value: Any) -> str:
    if isinstance(value, TranslatorSets) or (isinstance(value, dict) and "sets" in value):
        return "sets"
    fit = isinstance(value, Fit) or (
        isinstance(value, dict) and ("fit" in value or "corpus" in value or "causal" in value)
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


class TranslatorSets(Declared):
    """Several sets of translators side by side; a condition names the one that it uses.

    A condition that names none uses the first of the kind that it needs.
    """

    sets: Annotated[
        dict[
            Annotated[str, Field(pattern=NAME, max_length=80)],
            Annotated[
                Annotated[dict[Seed, Path], Tag("files")]
                | Annotated[Fit, BeforeValidator(_unwrap_fit), _InFit(), Tag("fit")],
                Discriminator(_files_or_fit),
            ],
        ],
        Field(min_length=1),
    ]


DEFAULT_SET = "default"
"""Name of the only set of translators, where an experiment has one."""


class Likelihoods(Declared):
    """Further log-probabilities to record of each lane; each is a short pass after the prompt."""

    aliases: bool = False
    """Record that of each alias of the gold answer."""
    options: bool = False
    """Record that of each wrong option and decoy of the row."""
    decoys: Annotated[int, Field(ge=0, le=100), NO_BOOLEAN] = 0
    """With `options`: number of other rows' gold answers to take for a row that has no wrong
    option."""
    end: bool = False
    """Record that of the end after the gold answer: an end token, or a token that begins with a
    line end."""
    tokens: bool = False
    """Record that of each token of the gold answer, which takes no pass of its own."""


class PositiveControl(Declared):
    """The same apparatus where transfer exists, in the private setting: the receiver to itself,
    and the taught pair.
    """

    rows: Annotated[int, Field(ge=1), NO_BOOLEAN] = 64
    """The first rows of the dataset; of the taught pair, as many rows of its own."""
    taught_pair: bool = True
    """Also run the pair that comes with Statebridge and is known to transfer; never remotely."""


class Experiment(Declared):
    """A declared experiment: pair, dataset, translators, conditions, seeds, decoding."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    direction: Literal["fwd", "rev"] = "fwd"
    """Which way the pair is used; names the published result files."""
    sender: ModelAtLayer
    receiver: ModelAtLayer
    dataset: Dataset
    limit: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """Run the first rows only; draws and donors stay those of the whole dataset."""
    translators: (
        Annotated[
            Annotated[dict[Seed, Path], Tag("files")]
            | Annotated[Fit, BeforeValidator(_unwrap_fit), _InFit(), Tag("fit")]
            | Annotated[TranslatorSets, Tag("sets")],
            Discriminator(_files_or_fit),
        ]
        | None
    ) = None
    """A file for each seed, `fit: {...}`, or several of these as `sets: {name: ...}`."""
    conditions: str | list[str | Condition] = "published"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (42, 123, 456)
    rng: Annotated[str, NameIn(STREAMS)] = DEFAULT_STREAM
    """Which donors and which noise rows get: a name of `statebridge.experiment.random_streams`."""
    dtype: Dtype = "float32"
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding()
    decode: bool = True
    """False measures log-probability, rank and KL only: no text is generated."""
    likelihoods: Likelihoods | None = None
    """Further log-probabilities to record; none if not given."""
    positive_control: PositiveControl | None = None
    """Also run the positive control; the report then says whether transfer was detected."""
    remote: Remote | None = None
    """None runs here; `local` through nnsight's serialisation here; `ndif` or a URL remotely."""
    execution: Execution = Execution()
    sender_checks: bool = False
    """True also replaces states inside the sender, to see whether what is sent is used there."""
    layer_search: LayerSearch | None = None
    """Run at many pairs of layers (`statebridge layer-search`); the layers above are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _earlier_name(cls, data: Any) -> Any:
        """Read `sweep`, the name of `layer_search` in files of earlier versions."""
        if isinstance(data, dict) and "sweep" in data:
            if "layer_search" in data:
                raise ValueError("sweep: is the earlier name of layer_search; give one of the two")
            return {("layer_search" if key == "sweep" else key): data[key] for key in data}
        return data

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"a seed is listed twice in {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _complete(self) -> Experiment:
        try:
            conditions = self.resolved_conditions
        except ExperimentError as error:
            raise ValueError(str(error)) from None
        translating = [c for c in conditions if c.translates]
        if translating and self.translators is None:
            raise ValueError(
                f"translators: missing, and {translating[0].name} needs them; "
                "give a file for each seed, or fit: {...}"
            )
        self._check_translators(translating)
        if self.sampled and self.path == "plain" and self.device_maps == (None, None):
            raise ValueError(
                "decoding.sample: the plain path only decodes greedily; use execution.path shared, "
                "which does not run remotely, or leave sample out"
            )
        slotted = next((c.name for c in conditions if c.prompt == "placeholder"), None)
        if slotted is not None and self.prompts.chat != "none":
            raise ValueError(
                f"prompts.chat: {slotted} reads placeholders, which have no place in a chat "
                "template; use chat: none, or prompt: question_only"
            )
        if self.sender_checks and not any(c.reads_sender for c in conditions):
            raise ValueError(
                "sender_checks: no condition reads the sender's states, so there is nothing to "
                "check; add one of source translated, shuffled or sender, or leave it out"
            )
        if self.layer_search is not None:
            check_layer_search(self)
        return self

    @model_validator(mode="after")
    def _runs_in_one_way(self) -> Experiment:
        if self.runs_remotely and self.execution.executor == "ray":
            raise ValueError(
                "remote: the models run elsewhere, and execution.executor ray loads them on its "
                "own nodes; leave one of the two out"
            )
        if self.runs_remotely and self.execution.path == "shared":
            raise ValueError("remote: needs execution.path plain (one remote job per model)")
        check_device_maps(self)
        check_weights(self)
        return self

    def _check_translators(self, translating: list[Condition]) -> None:
        """Refuse conditions whose translators are not declared, or are of the wrong kind."""
        sets = self.translator_sets
        for condition in translating:
            named = condition.translator
            if named is not None and named not in sets:
                raise ValueError(
                    f"conditions: {condition.name} uses the translators {named!r}; "
                    f"{nearest(named, sets)}"
                )
            declared = sets[self.translator_set(condition)]
            if isinstance(declared, Fit):
                check_map_kind(condition.name, condition.map_kind, declared.kind)
        for name, declared in sets.items() if translating else ():
            if isinstance(declared, Fit):
                continue
            missing = [seed for seed in self.seeds if seed not in declared]
            if missing:
                where = "" if name == DEFAULT_SET else f" in {name}"
                raise ValueError(f"translators: no file for seed {missing[0]}{where}")

    @property
    def path(self) -> Literal["shared", "plain"]:
        """The path that the run takes."""
        if self.execution.path == "auto":
            apart = self.runs_remotely or self.device_maps != (None, None)
            return "plain" if apart else "shared"
        return self.execution.path

    @property
    def remotes(self) -> tuple[str | None, str | None]:
        """Where the sender and the receiver run, as `remote`; None is here."""
        return self.sender.remote or self.remote, self.receiver.remote or self.remote

    @property
    def device_maps(self) -> tuple[Any, Any]:
        """How the sender and the receiver are laid over devices; None is on one."""
        return self.execution.device_maps

    @property
    def runs_remotely(self) -> bool:
        """Whether a side runs on a remote host, or through its serialisation here."""
        return self.remotes != (None, None)

    @property
    def sampled(self) -> bool:
        """Whether texts are drawn, so that every condition differs between seeds."""
        return self.decode and self.decoding.sample is not None

    @property
    def translator_sets(self) -> Mapping[str, Mapping[int, Path] | Fit]:
        """The sets of translators by name; the only one is named `default`."""
        if self.translators is None:
            return {}
        if isinstance(self.translators, TranslatorSets):
            return self.translators.sets
        return {DEFAULT_SET: self.translators}

    def translator_set(self, condition: Condition) -> str:
        """Return the name of the set of translators that a condition uses.

        Where it names none, the first set that is fitted as the kind that it needs, or the first.
        """
        needed = condition.map_kind
        for name, declared in self.translator_sets.items() if needed is not None else ():
            if (
                condition.translator is None
                and isinstance(declared, Fit)
                and declared.kind == needed
            ):
                return name
        return condition.translator or next(iter(self.translator_sets), DEFAULT_SET)

    @cached_property
    def resolved_conditions(self) -> tuple[Condition, ...]:
        """The conditions that the preset and condition names stand for, in order."""
        return resolve_conditions(self.conditions)
