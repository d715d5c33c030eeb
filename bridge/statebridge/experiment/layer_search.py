"""A layer search: which pairs of them are run, and how one of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from statebridge.errors import nearest
from statebridge.experiment.conditions import Condition
from statebridge.experiment.declared import NO_BOOLEAN, Layer

if TYPE_CHECKING:
    from statebridge.experiment.experiment import Experiment

MOST_PAIRS = 4096
"""Pairs of layers at most; each is a run of its own."""

ChoiceMetric = Literal[
    "gold_logprob",
    "task_correct",
    "word_boundary_contains",
    "normalized_exact_match",
    "exact_match",
    "first_answer_span",
    "legacy_contains",
]
"""Metrics by which layers may be chosen: higher is better in each."""

_MEASURED = frozenset({"gold_logprob"})
"""Metrics that need no generated text."""


class _Declared(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Choose(_Declared):
    """How one layer pair and condition is chosen, and on which rows."""

    metric: ChoiceMetric = "gold_logprob"
    """Metric whose highest mean is chosen."""
    condition: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """A condition, or several to choose among (such as the same one at several weights); every
    one that writes translated or the sender's own states, if not given."""
    share: Annotated[float, Field(gt=0, lt=1), NO_BOOLEAN] = 0.5
    """Approximate share of the rows to choose on; the report is computed on the others."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), NO_BOOLEAN] = 0
    """Seed of the split, which is a hash of the seed and the row's id."""


class LayerSearch(_Declared):
    """Layers to read and layers to write, and the choice among them."""

    sender_layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    receiver_layers: Annotated[tuple[Layer, ...], Field(min_length=1)] | None = None
    pairs: Literal["product", "same", "list"] = "product"
    """Every sender layer with every receiver layer; each with the `same` layer of the receiver;
    or the first with the first, the second with the second, and so on, as they are listed."""
    choose: Choose = Choose()

    @model_validator(mode="after")
    def _pairs_fit(self) -> LayerSearch:
        ours, theirs = self.sender_layers, self.receiver_layers
        if self.pairs == "same":
            if theirs is not None:
                raise ValueError("pairs same takes the sender's layers; leave receiver_layers out")
        elif theirs is None:
            raise ValueError(f"pairs {self.pairs} needs receiver_layers")
        elif self.pairs == "list" and len(ours) != len(theirs):
            raise ValueError(
                f"pairs list goes through both lists together, and they hold {len(ours)} and "
                f"{len(theirs)} layers; list as many of each, or use pairs: product"
            )
        count = len(ours) * (len(theirs or ()) if self.pairs == "product" else 1)
        if count == 1:
            raise ValueError(
                "one pair of layers is no layer search; list more, or declare them as layer"
            )
        if count > MOST_PAIRS:
            raise ValueError(f"{count} pairs of layers are more than {MOST_PAIRS}")
        return self

    @property
    def layer_pairs(self) -> tuple[tuple[Layer, Layer], ...]:
        """Sender's and receiver's layer of each run, as declared, in the order of running."""
        theirs = self.receiver_layers or self.sender_layers
        if self.pairs == "product":
            return tuple((one, other) for one in self.sender_layers for other in theirs)
        return tuple(zip(self.sender_layers, theirs, strict=True))


def candidates(experiment: Experiment) -> tuple[Condition, ...]:
    """Return the conditions among which an experiment's layer search chooses.

    Raises:
        ValueError: The experiment has no layer search, or there is nothing to choose among.
    """
    if experiment.layer_search is None:
        raise ValueError("layer_search: missing; declare the layers to search")
    declared = {condition.name: condition for condition in experiment.resolved_conditions}
    asked = experiment.layer_search.choose.condition
    if asked is None:
        found = [c for c in declared.values() if c.carries_sender]
        if not found:
            raise ValueError(
                "layer_search.choose.condition: no condition writes translated states or the "
                "sender's own; name the one to choose by"
            )
        return tuple(found)
    names = (asked,) if isinstance(asked, str) else asked
    for place, name in enumerate(names):
        if name not in declared:
            raise ValueError(
                f"layer_search.choose.condition: {name} is not a condition of the experiment; "
                f"{nearest(name, declared)}"
            )
        if not declared[name].writes:
            raise ValueError(
                f"layer_search.choose.condition: {name} writes nothing, so it is the same at "
                "every layer"
            )
        if name in names[:place]:
            raise ValueError(f"layer_search.choose.condition: {name} is listed twice")
    return tuple(declared[name] for name in names)


def check_layer_search(experiment: Experiment) -> None:
    """Refuse a layer search that does not go with the rest of the experiment.

    Raises:
        ValueError: The message begins with the field.
    """
    chosen = candidates(experiment)
    _check_one_floor(chosen, experiment.resolved_conditions)
    translating = any(condition.translates for condition in experiment.resolved_conditions)
    for declared in experiment.translator_sets.values() if translating else ():
        if isinstance(declared, Mapping):
            raise ValueError(
                f"translators: {next(iter(declared.values()))} was fitted at one pair of layers "
                "and cannot be searched over; give fit: {...}, which fits anew at each"
            )
    metric = experiment.layer_search.choose.metric if experiment.layer_search else "gold_logprob"
    if not experiment.decode and metric not in _MEASURED:
        raise ValueError(
            f"layer_search.choose.metric: {metric} needs text, and decode is false; "
            "choose by gold_logprob, or decode"
        )


def _check_one_floor(chosen: Sequence[Condition], declared: Sequence[Condition]) -> None:
    prompts = {condition.prompt: condition.name for condition in chosen}
    if len(prompts) > 1:
        (prompt, name), (other_prompt, other) = list(prompts.items())[:2]
        raise ValueError(
            f"layer_search.choose.condition: under {name} the receiver reads the {prompt} prompt "
            f"and under {other} the {other_prompt} prompt, so the choice would be of the prompt; "
            "name conditions of one prompt"
        )
    (prompt,) = prompts
    if not any(c.is_baseline and c.prompt == prompt for c in declared):
        floor = {"task": "no_inject", "placeholder": "placeholder_only"}.get(prompt, prompt)
        raise ValueError(
            f"conditions: {floor} is missing, which what is chosen is compared with; add it"
        )
