"""Where the jobs of a model run: here, or on a remote host (NDIF).

A trace or a session is one job. A host says with which arguments nnsight opens it, and turns
what goes wrong there into errors of this library.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, Protocol

import httpx
from nnsight import CONFIG
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.schema.response import ResponseModel, Status

from statebridge.errors import AccessError, RemoteError, StatebridgeError

log = logging.getLogger("statebridge.remote")

JOB_BYTES = 64 * 2**20
"""Bytes of logits that one job may bring back; more is spread over several jobs."""

_NO_ACCESS = (401, 403)


class Host(Protocol):
    """Where the jobs of a model run."""

    @property
    def remote(self) -> bool:
        """Whether the weights are elsewhere."""

    @property
    def serialised(self) -> bool:
        """Whether a job works on copies of what it is given: only what it saves comes back."""

    def job(self, model: Any) -> Mapping[str, Any]:
        """Return the keyword arguments with which nnsight opens one job of a model."""

    def errors(self, model: str) -> Any:
        """Return a context in which foreign errors become ours, and name the model."""

    def facts(self, repository: str) -> dict[str, Any] | None:
        """Return what a remote host says of itself and of a model; None here."""


@dataclass(frozen=True, slots=True)
class Here:
    """This process; `simulated` sends each job through nnsight's serialisation and back."""

    simulated: bool = False
    remote: bool = field(default=False, init=False)

    @property
    def serialised(self) -> bool:
        """Whether it is simulated."""
        return self.simulated

    def job(self, model: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing, or nnsight's local simulation."""
        return {"remote": "local"} if self.simulated else {}

    @contextmanager
    def errors(self, model: str) -> Iterator[None]:  # noqa: ARG002
        """Leave errors as they are: they are torch's or this library's."""
        yield

    def facts(self, repository: str) -> None:
        """Nothing: the manifest states this machine's versions already."""


HERE: Host = Here()


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """An NDIF host.

    Attributes:
        name: As the experiment declares it: `ndif` or a URL.
        job_seconds: Longest time that one job may take, its queue and deployment included.
        ends_at: Monotonic time after which no job is waited for, or None.
    """

    name: str
    job_seconds: float = 900.0
    ends_at: float | None = None
    remote: bool = field(default=True, init=False)
    serialised: bool = field(default=True, init=False)

    @property
    def url(self) -> str:
        """The host's URL; `ndif` is what nnsight's configuration or NDIF_HOST names."""
        return str(CONFIG.API.HOST) if self.name == "ndif" else self.name

    def job(self, model: Any) -> Mapping[str, Any]:
        """Return nnsight's back end for this host, watched: silent, and with a deadline."""
        backend = RemoteBackend(model.to_model_key(), host=self.url, api_key=_key())
        backend.display = _Watch(self, model.repo_id)
        return {"backend": backend}

    @contextmanager
    def errors(self, model: str) -> Iterator[None]:
        """Turn whatever goes wrong on the way, or there, into one line.

        Raises:
            AccessError: The host refuses the key.
            RemoteError: Anything else.
        """
        try:
            yield
        except StatebridgeError:
            raise
        except Exception as error:
            raise self.error(f"model {model}", error) from error

    def error(self, what: str, error: Exception) -> RemoteError:
        """Return an error of ours for a foreign one; the key is never part of it."""
        lines = [line for line in str(error).splitlines() if line.strip()]
        traces = [place for place, line in enumerate(lines) if line.startswith("Traceback (")]
        if traces:
            # What failed is the last line of a traceback. A host cuts a long one short, and has
            # written what failed before it.
            cut = lines[-1].startswith(" ") or lines[-1].endswith("…")
            lines = lines[: traces[0]] if cut and traces[0] else lines[-1:]
        reason = " ".join(" ".join(lines).split()) or type(error).__name__
        # A key that is not even of the host's format is answered with 400.
        if _status(error) in _NO_ACCESS or "api key" in reason.lower():
            return AccessError(
                f"remote {self.name}: {what}: the host refuses the key; set NDIF_API_KEY to a key "
                "of this host"
            )
        key = CONFIG.API.APIKEY
        if key:
            reason = reason.replace(key, "(key)")
        return RemoteError(
            f"remote {self.name}: {what}: {shorten(reason, 400, placeholder=' ...')}"
        )

    def facts(self, repository: str) -> dict[str, Any]:
        """Ask what the host has: `state` and `dtype` of a model, and `versions` of packages.

        `state` is `not deployed` where the first job will ask for the model; `dtype` is then None.

        Raises:
            AccessError: The key is refused.
            RemoteError: The host cannot be reached, or does not answer as an NDIF host does.
        """
        key = _key()
        try:
            with httpx.Client(
                base_url=self.url, timeout=30, headers={"ndif-api-key": key} if key else {}
            ) as client:
                status = client.get("/status").raise_for_status().json()
                # Older hosts have neither of these two.
                who, env = client.get("/whoami"), client.get("/env")
                if who.status_code != httpx.codes.NOT_FOUND:
                    who.raise_for_status()
                packages = env.json()["packages"] if env.is_success else {}
            # What lies on the host's disk or in its memory alone is listed without a state.
            found = [
                each
                for each in status["deployments"].values()
                if each.get("repo_id") == repository and "application_state" in each
            ]
            states = sorted(str(each["application_state"]).lower() for each in found)
            dtypes = sorted({str(each["dtype"]) for each in found})
        except StatebridgeError:
            raise
        except Exception as error:
            raise self.error("its status", error) from error
        return {
            "host": self.url,
            "state": ", ".join(states) or "not deployed",
            "dtype": ", ".join(dtypes) or None,
            "versions": {name: packages.get(name) for name in ("nnsight", "torch", "transformers")},
        }


def find_host(
    remote: str | None, *, job_seconds: float = 900.0, seconds: float | None = None
) -> Host:
    """Return the host that an experiment's `remote` names.

    Args:
        job_seconds: As `RemoteHost.job_seconds`.
        seconds: Time from now after which no job is waited for; None waits without end.
    """
    if remote in (None, "local"):
        return Here(simulated=remote == "local")
    return RemoteHost(remote, job_seconds, None if seconds is None else time.monotonic() + seconds)


class _Watch:
    """In the place of nnsight's status display: writes nothing to standard output.

    nnsight calls `refresh` ten times a second while it waits, `update` with each answer.
    """

    enabled = True
    verbose = False

    def __init__(self, host: RemoteHost, model_key: str) -> None:
        self._host = host
        self._model = model_key
        self._last: Status | None = None
        self._deploying = False
        self._ends_at = time.monotonic() + host.job_seconds

    def update(self, response: ResponseModel) -> None:
        """Log that a model is being deployed, which takes minutes."""
        starts = response.status in (Status.PROVISIONING, Status.DEPLOYING)
        if starts and not self._deploying:
            log.warning("remote %s: deploying %s", self._host.name, self._model)
            self._deploying = True
        if response.status != Status.LOG:
            self._last = response.status

    def refresh(self) -> None:
        """End a wait that has lasted too long.

        Raises:
            RemoteError: Names the deadline and the last status.
        """
        now, last = time.monotonic(), self._last.value.lower() if self._last else "none"
        if now > self._ends_at:
            raise RemoteError(
                f"remote {self._host.name}: a job has not ended in {self._host.job_seconds:g} s "
                f"(last status: {last}); run again later, or raise execution.remote_job_seconds"
            )
        if self._host.ends_at is not None and now > self._host.ends_at:
            raise RemoteError(
                f"remote {self._host.name}: execution.remote_seconds have passed (last status: "
                f"{last}); the same command goes on from the last committed group"
            )


def _key() -> str | None:
    key = CONFIG.API.APIKEY
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise AccessError(
            "NDIF_API_KEY: holds a space or a character that no key has; copy the key again"
        )
    return key or None


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status behind an error of nnsight, httpx or websocket-client."""
    while error is not None:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
