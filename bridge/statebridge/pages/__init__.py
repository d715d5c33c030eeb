"""Pages in a browser: the same for a server, for run directories on a laptop, and for a site.

Templates, style and script are here, and what they show of results. A server fills them from its
database (`statebridge_server.pages`), `statebridge view` from run directories (`local_server`), and
`statebridge site` writes files (`site`). Nothing here needs torch. `score_view` and `side_by_side`
load scipy; a server imports them when they are asked for.
"""

from __future__ import annotations

from statebridge.pages.experiment_view import (
    ExperimentView,
    LogLine,
    experiment_facts,
    seconds_left,
)
from statebridge.pages.rendering import (
    REPORT_POLICY,
    SECURITY_HEADERS,
    STATIC,
    NavItem,
    render,
    static_headers,
)

__all__ = [
    "REPORT_POLICY",
    "SECURITY_HEADERS",
    "STATIC",
    "ExperimentView",
    "LogLine",
    "NavItem",
    "experiment_facts",
    "render",
    "seconds_left",
    "static_headers",
]
