from __future__ import annotations

import statebridge.tasks


def test_public_names() -> None:
    assert sorted(statebridge.tasks.__all__) == [
        "COUNTRIES",
        "Country",
        "SilentVerdict",
        "chance_level",
        "countries_rows",
        "silent_verdict",
        "tip_sheets_rows",
    ]
    for name in statebridge.tasks.__all__:
        assert hasattr(statebridge.tasks, name)
