"""The OpenAPI description: `python -m statebridge_server.openapi > server/openapi.json`."""

from __future__ import annotations

import json

from statebridge_server.api.app import bare_app


def openapi_text() -> str:
    """Return the description as the committed file holds it."""
    return json.dumps(bare_app().openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(openapi_text(), end="")
