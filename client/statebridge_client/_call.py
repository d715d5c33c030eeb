"""A request as data, and how its answer is read: what both clients send in their own ways."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from statebridge.errors import InputError, ServerError

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

READ_SECONDS = 60.0
"""For an answer's next bytes to arrive."""

ANALYSIS_SECONDS = 900.0
"""Reports and comparisons are worked out while we wait, one at a time for all clients."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `repeatable` says that sending it twice does no more than sending it once."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = False
    refused: type[InputError] = InputError
    """What the server's refusal of the request's content is an error in."""
    read_seconds: float = READ_SECONDS


Steps = Generator[Call[Any], Any, T]
"""Work that takes several requests: yields calls, is sent their answers, returns its result.

An error of ours is thrown into it where the call was yielded.
"""


def resource(*parts: str) -> str:
    """Return a path below `/v1`, whatever the parts hold."""
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def read_json(response: httpx.Response) -> Any:
    """Return an answer's JSON.

    Raises:
        ServerError: It is none: something else than a Statebridge server answered.
    """
    try:
        return response.json()
    except ValueError:
        raise not_statebridge(response) from None


def model_of(model: type[M]) -> Callable[[httpx.Response], M]:
    """Return a parser of answers of this form; raises as `read_json` does."""

    def parse(response: httpx.Response) -> M:
        from pydantic import ValidationError  # noqa: PLC0415 - read with the first answer

        try:
            return model.model_validate(read_json(response))
        except ValidationError:
            raise not_statebridge(response) from None

    return parse


def read_bytes(response: httpx.Response) -> bytes:
    """Return an answer's content."""
    return response.content


def read_nothing(_response: httpx.Response) -> None:
    """Pass over the answer."""


def not_statebridge(response: httpx.Response) -> ServerError:
    """Return the error for an answer that a Statebridge server does not give."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    return ServerError(
        f"{response.request.url.copy_with(query=None)}: the answer ({response.status_code}, "
        f"{kind[:60]}) is not that of a Statebridge server of this version; check STATEBRIDGE_URL"
    )
