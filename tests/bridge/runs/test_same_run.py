"""Which runs are the same one, when a directory's manifest was written by another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statebridge.runs.same_run import OtherRunError, check_same

FILE = Path("run/manifest.json")
IDENTITY: dict[str, Any] = {
    "experiment": {"name": "mine", "prompts": {"task": "Q"}, "seeds": [1, 2]},
    "versions": {"torch": "2.13.0"},
    "threads": 2,
}


def changed(**parts: Any) -> dict[str, Any]:
    return IDENTITY | parts


@pytest.mark.parametrize(
    "later",
    [
        changed(experiment=IDENTITY["experiment"] | {"sweep": None}),
        changed(experiment=IDENTITY["experiment"] | {"prompts": {"task": "Q", "sender": None}}),
        changed(sender_device=None),
    ],
)
def test_a_new_field_that_says_nothing_changes_nothing(later: dict[str, Any]) -> None:
    check_same(later, IDENTITY, FILE)
    check_same(IDENTITY, later, FILE)


@pytest.mark.parametrize(
    ("later", "what"),
    [
        (changed(experiment=IDENTITY["experiment"] | {"decode": True}), "experiment.decode"),
        (changed(experiment=IDENTITY["experiment"] | {"seeds": [1, 3]}), "experiment.seeds"),
        (changed(experiment=IDENTITY["experiment"] | {"seeds": [1]}), "experiment.seeds"),
        (changed(versions={"torch": "2.14.0"}), "versions.torch"),
        (changed(versions={}), "versions.torch"),
        (changed(threads=4), "threads"),
        (changed(sender_device="cpu"), "sender_device"),
    ],
)
def test_what_differs_is_named(later: dict[str, Any], what: str) -> None:
    with pytest.raises(OtherRunError) as caught:
        check_same(later, IDENTITY, FILE)
    assert caught.value.what == what
    assert str(caught.value).startswith(f"run: was started with another {what} (")


def test_the_fields_that_differ_are_named_alone() -> None:
    side = {"model": "m", "layer": 0.67, "adapter": None}
    earlier = changed(experiment={"receiver": side, "seeds": [1, 2]}, pair={"receiver": 4})
    later = changed(
        experiment={"receiver": side | {"layer": 0.5}, "seeds": [3]},
        pair={"receiver": 3},
        versions={"torch": "2.14.0"},
    )
    with pytest.raises(OtherRunError) as caught:
        check_same(later, earlier, FILE)
    assert str(caught.value) == (
        "run: was started with another experiment.receiver.layer (0.67 there, 0.5 here); "
        "experiment.seeds ([1, 2] there, [3] here); versions.torch (2.13.0 there, 2.14.0 here); "
        "give a new --out, or run the experiment that the directory's manifest.json states"
    )


def test_long_values_are_shown_to_where_they_differ() -> None:
    folder = "/models/" + "shared/" * 12
    earlier, later = (changed(experiment={"sender": {"model": folder + end}}) for end in "ab")
    with pytest.raises(OtherRunError, match=f"{folder}a there, {folder}b here"):
        check_same(later, earlier, FILE)
