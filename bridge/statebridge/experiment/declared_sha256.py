"""A SHA-256 in what a person declares: sixty-four digits, or a refusal that says so."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

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
