"""Tasks of our own for the private setting, and whether a silent receiver is at chance."""

from __future__ import annotations

from statebridge.tasks.countries import COUNTRIES, Country, countries_rows
from statebridge.tasks.silent_check import SilentVerdict, chance_level, silent_verdict
from statebridge.tasks.tip_sheets import tip_sheets_rows

__all__ = [
    "COUNTRIES",
    "Country",
    "SilentVerdict",
    "chance_level",
    "countries_rows",
    "silent_verdict",
    "tip_sheets_rows",
]
