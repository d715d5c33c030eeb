"""A side of the pair as declared, and how and where its models run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from statebridge.experiment.conditions import NAME
from statebridge.experiment.dataset import Declared
from statebridge.experiment.declared import NO_BOOLEAN, Layer, is_model_folder

if TYPE_CHECKING:
    from statebridge.experiment.experiment import Experiment


def _known_remote(remote: str) -> str:
    if remote in ("local", "ndif") or remote.startswith(("http://", "https://")):
        return remote
    raise ValueError("give local, ndif, or a URL that starts with http:// or https://")


Remote = Annotated[str, AfterValidator(_known_remote)]

DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"
Device = Annotated[str, Field(pattern=DEVICE)]

_PLACE = re.compile(r"cpu|disk|cuda:\d+")


def _known_map(declared: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(declared, str):
        if declared not in ("auto", "balanced"):
            raise ValueError(
                f"give auto, balanced, or a place for each module path, not {declared!r}"
            )
        return declared
    if not declared:
        raise ValueError("give a place for each module path, as {'': 'cpu'}")
    for path, place in declared.items():
        if _PLACE.fullmatch(place) is None:
            raise ValueError(f"{path or repr(path)}: give cuda:N, cpu or disk, not {place!r}")
    return declared


DeviceMap = Annotated[str | dict[str, str], AfterValidator(_known_map)]
"""`auto` or `balanced`: over all GPUs of the process; or places (`cuda:N`, `cpu`, `disk`) by the
module path of what is there, where `""` is the whole model."""


class Weights(Declared):
    """Weights of few bits, made of the checkpoint's when it is loaded, or those of an FP8 one."""

    bits: Literal[4, 8]
    """Bits of a weight in the matrices of the blocks; the others keep the experiment's dtype."""
    by: Literal["bitsandbytes", "fp8"] = "bitsandbytes"
    """`fp8`: floats of 8 bits with a scale for each 128 by 128 weights, on GPUs that have them."""

    @model_validator(mode="after")
    def _fp8_has_8_bits(self) -> Weights:
        if self.by == "fp8" and self.bits != 8:
            raise ValueError("by: fp8 goes with bits: 8")
        return self


class ModelAtLayer(Declared):
    """One side of the pair: a model and the block whose output is read or written."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or a local folder (a path that starts with `.`, `/` or `~`)."""
    layer: Layer
    revision: str | None = None
    """Branch, tag or commit of a model of the hub."""
    adapter: Annotated[str, Field(min_length=1)] | None = None
    """PEFT adapter that is added to the weights: hub id, or a local folder as of `model`."""
    weights: Weights | None = None
    """Weights of 4 or 8 bits in the place of whole ones."""
    remote: Remote | None = None
    """Where this side runs, as `remote` of the experiment; None is where the experiment runs."""

    @model_validator(mode="after")
    def _revision_has_a_hub(self) -> ModelAtLayer:
        if self.revision is not None and is_model_folder(self.model):
            raise ValueError(f"revision goes with a model of the hub; {self.model} is a folder")
        return self

    @model_validator(mode="after")
    def _few_bits_are_made_here(self) -> ModelAtLayer:
        if self.weights is not None and self.adapter is not None:
            raise ValueError(
                "weights: an adapter is added to whole weights; merge it with PEFT and give the "
                "folder of the merged model, or leave one of the two out"
            )
        return self


class Execution(Declared):
    """How to run; nothing here may change a token."""

    executor: Annotated[str, Field(pattern=NAME, max_length=80)] = "in_process"
    """Executor that carries the groups of rows out: this process, `ray`, or one that was added."""
    path: Literal["auto", "shared", "plain"] = "auto"
    """`auto` is the shared path, and the plain path if the experiment runs remotely."""
    device: Device = "auto"
    """Where the models are; with `sender_device`, the receiver and the translators."""
    sender_device: Device | None = None
    """Where the sender is; None puts it on the same device as the receiver."""
    device_map: DeviceMap | None = None
    """How a model is laid over several devices: `auto`, `balanced`, or places by module path; with
    `sender_device_map` or `sender_device`, the receiver alone."""
    sender_device_map: DeviceMap | None = None
    """As `device_map`, of the sender; None is that of the receiver."""
    max_lanes: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """Lanes decoded together; None sizes the groups from free memory."""
    workers: Annotated[int, Field(ge=1), NO_BOOLEAN] | Literal["auto"] = "auto"
    """Actors of executor `ray`, each with a pair of its own; `auto` is as many as the cluster has
    room for."""
    worker_gpus: Annotated[int, Field(ge=1), NO_BOOLEAN] | None = None
    """GPUs of each actor, for a pair that is laid over them; None is as many as are named."""
    address: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Ray cluster of executor `ray`: HOST:PORT, or `auto` for the one that runs on this machine;
    None takes RAY_ADDRESS, and without it this machine alone."""
    group_seconds: Annotated[float, Field(gt=0), NO_BOOLEAN] | None = None
    """Longest time that an actor may take for a group of rows, or for whatever else it is given at
    once, such as the training of a map; None waits without end."""
    remote_job_seconds: Annotated[float, Field(gt=0), NO_BOOLEAN] = 900
    """Longest time that one remote job may take, queue and deployment included."""
    remote_seconds: Annotated[float, Field(gt=0), NO_BOOLEAN] | None = None
    """Longest time that a remote run may take; the same command goes on later."""
    reuse: bool = True
    """Take what earlier runs computed, where the run has access to any (on a server)."""

    @model_validator(mode="after")
    def _placed_once(self) -> Execution:
        if self.device_map is not None and self.device != "auto":
            raise ValueError("device_map: says where the receiver is; leave device out")
        if self.sender_device_map is not None and self.sender_device is not None:
            raise ValueError("sender_device_map: says where the sender is; leave sender_device out")
        return self

    @model_validator(mode="after")
    def _workers_are_elsewhere(self) -> Execution:
        if self.executor == "in_process":
            if self.workers != "auto":
                raise ValueError("workers: executor in_process is one process; name executor ray")
            if self.worker_gpus is not None:
                raise ValueError("worker_gpus: is of executor ray; give device or device_map")
            if self.address is not None:
                raise ValueError("address: executor in_process is on no cluster; name executor ray")
        return self

    @property
    def device_maps(self) -> tuple[str | dict[str, str] | None, str | dict[str, str] | None]:
        """How the sender and the receiver are laid over devices; None is on one."""
        if self.sender_device_map is not None or self.sender_device is not None:
            return self.sender_device_map, self.device_map
        return self.device_map, self.device_map


def check_weights(experiment: Experiment) -> None:
    """Refuse weights of few bits where they cannot be made, or nothing computes with them.

    Raises:
        ValueError: The message begins with the field.
    """
    sides = {"sender": experiment.sender, "receiver": experiment.receiver}
    for (name, side), remote in zip(sides.items(), experiment.remotes, strict=True):
        if side.weights is not None and remote is not None:
            raise ValueError(
                f"{name}.weights: a remote host holds models as they are; leave weights out, or "
                "run this side here"
            )
        fp8 = side.weights is not None and side.weights.by == "fp8"
        if fp8 and experiment.dtype not in ("bfloat16", "float16"):
            raise ValueError(
                f"{name}.weights: FP8 is multiplied in 16 bits; write dtype: bfloat16 or float16, "
                f"not {experiment.dtype}"
            )
        if side.weights is not None and experiment.device_maps != (None, None):
            raise ValueError(
                f"{name}.weights: weights of few bits are made on one device; leave "
                "execution.device_map out, or weights"
            )
        if side.weights is not None and experiment.dtype == "float64":
            raise ValueError(
                f"{name}.weights: nothing computes in float64 with weights of few bits; write "
                "dtype: float32, bfloat16 or float16"
            )
    causal = [f for f in experiment.translator_sets.values() if getattr(f, "causal", None)]
    if causal and experiment.receiver.weights is not None:
        raise ValueError(
            "receiver.weights: fit.causal needs gradients through whole weights; leave one of the "
            "two out"
        )


def _spreads(execution: Execution) -> bool:
    return any(isinstance(each, str) for each in execution.device_maps)


def check_device_maps(experiment: Experiment) -> None:
    """Refuse device maps together with what takes a model on one device.

    Raises:
        ValueError: The message begins with the field.
    """
    if experiment.device_maps == (None, None):
        return
    execution, reason = experiment.execution, None
    others = [c for c in experiment.resolved_conditions if c.site is not None or c.deltas]
    fits = [f for f in experiment.translator_sets.values() if getattr(f, "causal", None)]
    if experiment.runs_remotely:
        reason = "the host of a remote run places its models itself; leave one of the two out"
    elif execution.executor not in ("in_process", "ray"):
        reason = f"is for executors in_process and ray, and executor is {execution.executor}"
    elif execution.executor == "ray" and execution.worker_gpus is None and _spreads(execution):
        reason = "needs execution.worker_gpus, the number of GPUs of each actor"
    elif execution.path == "shared":
        reason = "needs the plain path; leave execution.path out"
    elif experiment.sampled:
        reason = "needs the plain path, which only decodes greedily; leave decoding.sample out"
    elif experiment.sender_checks or experiment.layer_search is not None or fits:
        what = "sender_checks" if experiment.sender_checks else "layer_search"
        reason = f"{'fit.causal' if fits else what} needs each model on one device; leave it out"
    elif others:
        reason = (
            f"condition {others[0].name} reads or writes more than the states of one block, which "
            "needs each model on one device; leave it out"
        )
    if reason is not None:
        field = "device_map" if execution.device_map is not None else "sender_device_map"
        raise ValueError(f"execution.{field}: {reason}")
