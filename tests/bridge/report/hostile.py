"""Results whose texts try to be more than text."""

from __future__ import annotations

from statebridge.records import DatasetRow, LaneResult, ResultSet
from tests.bridge.stats.tables import cell

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>alert(1)//",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}{% raw %}alert(1)",
    "javascript:alert(1)",
    "]]>alert(1)&lt;b&gt;",
    "\u202egold alert(1) reversed\u202c",
    "half a pair \ud83d alert(1)",
    "line\u2028separator\u2029alert(1)\x00\x0b",
    "a" * 3000 + " alert(1)",
)


def hostile_results() -> ResultSet:
    """Two cells, with and without the word `gold`, over rows that are hostile throughout."""
    dataset = {
        f"row{i:04}": DatasetRow(f"row{i:04}", text, f"why? {text}", "gold", {"hops": i % 2})
        for i, text in enumerate(HOSTILE)
    }
    plain, changed = cell("no_inject", [0]), cell("replace", [0], 42)
    plain.lanes = [LaneResult(row_id, "gold", row.context) for row_id, row in dataset.items()]
    changed.lanes = [
        LaneResult(row_id, "gold", f"{row.context} gold") for row_id, row in dataset.items()
    ]
    return ResultSet([plain, changed], dataset)
