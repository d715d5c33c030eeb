"""A field of an experiment file that names a registered thing."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from statebridge.errors import StatebridgeError
from statebridge.registry import Registry


class RegisteredName:
    """Annotation of a text field: only the names of a registry are valid.

    The JSON Schema lists them. The registry is read when a file is checked, so things that are
    added after an import are known.

        kind: Annotated[str, RegisteredName(KINDS)] = "affine"

    Args:
        registry: The registry.
        also: Further valid names.
    """

    def __init__(self, registry: Registry[Any], also: tuple[str, ...] = ()) -> None:
        self._registry, self._also = registry, also

    def _known(self, name: str) -> str:
        if name not in self._also:
            try:
                self._registry.get(name)
            except StatebridgeError as error:
                raise ValueError(str(error)) from None
        return name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "enum": [*self._registry.names(), *self._also]}
