"""A remote back end without a network: nnsight's own serialisation, other model instances.

Each job is turned into bytes by nnsight, read back where none of our own modules can be
imported, run on a model instance that the client does not hold, and its saved values go
back as bytes.
"""

from __future__ import annotations

import copy
import io
import pickletools
from dataclasses import dataclass, field
from typing import Any

import nnsight
import torch
from nnsight.intervention.backends.local import LocalSimulationBackend
from nnsight.ndif import pull_env
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import _saves, save
from nnsight.tracing.util import push

from statebridge.models.hosts import RemoteHost
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from tests.reference.oracle import OraclePair


@dataclass
class FakeHost:
    """Holds one model.

    Attributes:
        jobs: Jobs that ran.
        bytes_in: Size of each payload.
        names: What the payloads' pickles import, and every other word of them.
        refuse_after: Jobs after which the host has gone away.
    """

    model: Any
    jobs: int = 0
    bytes_in: list[int] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    refuse_after: int | None = None
    remote: bool = True
    serialised: bool = True

    def job(self, model: Any) -> dict[str, Any]:
        """Return the arguments of one job on this host."""
        return {"backend": _Job(self)}

    def errors(self, model: str) -> Any:
        """As of a real host."""
        return RemoteHost("http://fake.example").errors(model)

    def facts(self, repository: str) -> None:
        """Nothing."""


def remote_pair(oracle: OraclePair) -> tuple[Pair, FakeHost, FakeHost]:
    """A pair on two hosts, sender's first. The client's weights give nothing but zeros."""
    sides, hosts = [], []
    for module, tokenizer, layer, name in (
        (oracle.sender, oracle.reads_with, oracle.sender_layer, "tiny-sender"),
        (oracle.receiver, oracle.tokenizer, oracle.receiver_layer, "tiny-receiver"),
    ):
        blank = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in blank.parameters():
                parameter.zero_()
        host = FakeHost(_wrapped(module, tokenizer))
        client = _wrapped(blank, tokenizer)
        sides.append(TracedModel.wrap(client, tokenizer, layer, name=name, host=host))
        hosts.append(host)
    return Pair(*sides), *hosts


def _wrapped(module: torch.nn.Module, tokenizer: object) -> nnsight.TransformersModel:
    return nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)


def imported_names(payload: bytes) -> set[str]:
    """Return every string of a pickle: modules, classes and attributes that it asks for."""
    return {str(value) for _, value, _ in pickletools.genops(payload) if isinstance(value, str)}


class _Job(Backend):
    def __init__(self, host: FakeHost) -> None:
        self.host = host

    def __call__(self, tracer: Any) -> None:
        host = self.host
        if host.refuse_after is not None and host.jobs >= host.refuse_after:
            raise ConnectionError("the host has gone\naway")
        host.jobs += 1
        pull_env()
        host.names |= imported_names(RequestModel.serialize(tracer, compress=False))
        blob = RequestModel.serialize(tracer, compress=True)
        host.bytes_in.append(len(blob))
        elsewhere = LocalSimulationBackend(host.model)
        hidden = elsewhere._hide_local_modules()
        try:
            restored = RequestModel.deserialize(
                blob, host.model._remoteable_persistent_objects(), compress=True
            )
        finally:
            elsewhere._restore(hidden)
        restored.execute(restored.info.code)
        saved = {
            name: value
            for name, value in restored.info.frame.f_locals.items()
            if id(value) in _saves()
        }
        wire = io.BytesIO()
        torch.save(saved, wire)
        wire.seek(0)
        results = torch.load(wire, weights_only=True)
        for value in results.values():
            save(value)
        push(tracer.info.frame, results)
