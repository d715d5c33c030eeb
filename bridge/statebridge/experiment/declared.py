"""Types of the values that a person declares in a file: numbers, hashes, layers, names."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from statebridge.errors import StatebridgeError
from statebridge.registry import Registry


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        words = "true (as YAML reads yes and on)" if value else "false (as YAML reads no and off)"
        raise ValueError(f"give a number, not {words}")
    return value


NO_BOOLEAN = BeforeValidator(_no_boolean)
"""Refuses true and false, which YAML also makes of yes, no, on and off, as a number. It comes
after a number's bounds, `Annotated[int, Field(ge=1), NO_BOOLEAN]`: before them it would hide them
from the JSON Schema."""

SHA256 = re.compile(r"[0-9a-f]{64}")


def _whole(given: str) -> str:
    if SHA256.fullmatch(given) is None:
        raise ValueError(f"give the 64 lower-case hex digits of a SHA-256, not {given[:80]!r}")
    return given


Sha256 = Annotated[
    str,
    AfterValidator(_whole),
    WithJsonSchema({"type": "string", "pattern": f"^{SHA256.pattern}$"}),
]
"""A whole SHA-256 in lower-case hex digits."""


def is_model_folder(model: str) -> bool:
    """Whether a model is a local folder: its name starts with `.`, `/`, `~` or a Windows drive.

    Any other name is the id of a model on the hub.
    """
    return model.startswith((".", "/", "~")) or PureWindowsPath(model).drive != ""


def _layer(value: Any) -> Any:
    right = "give a relative depth between 0 and 1 (0.67), an index (8) or a module path"
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        raise ValueError(right)
    if value == 1.0 and isinstance(value, float):
        raise ValueError(
            "1.0 would be the last block and 1 the second one; write -1 for the last, or 1"
        )
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"{right}, not {value:g}")
    return value


Layer = Annotated[
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, gt=0, lt=1)]
    | Annotated[str, Field(min_length=1)],
    BeforeValidator(_layer),
]
"""Relative depth in (0, 1), block index (negative ones count from the end), or module path."""


class NameIn:
    """Annotation of a text field: only the names of a registry are valid.

        kind: Annotated[str, NameIn(KINDS)] = "affine"

    The registry is read when a value is checked or a JSON Schema is made, so things that are added
    after an import are known.

    Args:
        registry: The registry.
        also: Further valid names.
    """

    def __init__(self, registry: Registry[Any], also: tuple[str, ...] = ()) -> None:
        self._registry, self._also = registry, also

    def _check(self, name: str) -> str:
        if name not in self._also:
            try:
                self._registry.get(name, also=self._also)
            except StatebridgeError as error:
                raise ValueError(str(error)) from None
        return name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check the name after its type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """List the names, as for a literal."""
        return {**handler(schema), "enum": [*self._registry.names(), *self._also]}
