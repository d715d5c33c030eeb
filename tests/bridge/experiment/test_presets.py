"""The named conditions, published and private, and the presets made of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from statebridge.errors import ExperimentError
from statebridge.experiment import CONDITIONS, PRESETS, Condition, experiment_cells
from statebridge.experiment.presets import resolve_conditions
from tests.bridge.experiment.refusal import BASE, parsed

TRANSLATORS = "translators: {42: a.pt, 123: b.pt, 456: c.pt}\n"
DETERMINISTIC = {"no_inject", "nl_relay", "b_to_b_self_inject", "zero_replacement"}
STRICT = "shuffled_translation_strict_matched"


PUBLISHED = (
    "no_inject",
    "nl_relay",
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "b_to_b_self_inject",
    "same_norm_random",
    "shuffled_translation",
    "zero_replacement",
)
PRIVATE = (
    "question_only",
    "skyline",
    "private_last",
    "private_last_shuffled",
    "private_last_matched",
    "private_last_matched_shuffled",
    "private_last_random",
    "private_last_zero",
    "private_last_self",
)
FURTHER = (
    "private_relay",
    "private_question",
    "private_question_shuffled",
    "placeholder_only",
    "private_placeholder",
    "private_placeholder_shuffled",
)
ACTIVATIONS = (
    "activation_sum",
    "activation_mean",
    "activation_replace",
    "activation_replace_shuffled",
)


KV = {
    "kv-all": "kv_all",
    "kv-comm": "kvcomm",
    "kv-random": "kv_random",
    "kv-middle": "kv_middle",
}


SOFT = {
    "soft-vocab": ("vocab_all", "vocab_last"),
    "soft-cipher": ("cipher",),
    "soft-resampled": ("resampled",),
}
LATENTMAS = ("latentmas", "latentmas-unaware", "latentmas-aware")
LATENT = ("latent", "latents_only")


def test_latent_steps_have_their_ablations_and_controls() -> None:
    names = {preset: [c.name for c in PRESETS[preset]] for preset in LATENTMAS}
    assert set(names["latentmas"]) == {*names["latentmas-unaware"], *names["latentmas-aware"]}
    for preset, suffix, floor in (
        ("latentmas-unaware", "", "question_only"),
        ("latentmas-aware", "_aware", "skyline"),
    ):
        of = {name: CONDITIONS[name] for name in names[preset]}
        assert {floor, f"kv_all{suffix}"} < set(of)
        for own in LATENT:
            rolled = of[f"{own}{suffix}"].rollout
            assert rolled is not None
            twins = {end: of[f"{own}{suffix}_{end}"] for end in ("shuffled", "null", "neutral")}
            assert {twin.rollout for twin in twins.values()} == {rolled}
            assert {twin.role for twin in twins.values()} == {"control"}
            assert of[f"{own}{suffix}"].is_shuffled_twin(twins["shuffled"])
        assert all(c.private == (not suffix) for name, c in of.items() if name != "skyline")
        maps = {c.rollout.by for c in of.values() if c.rollout is not None}
        assert maps == {"realigned", "identity", "random"}


@pytest.mark.parametrize(
    ("preset", "own", "private"),
    [("fuse", "fused", False), ("fuse-private", "fused_question", True)],
)
def test_fused_caches_have_their_controls(preset: str, own: str, private: bool) -> None:
    of = {condition.name: condition for condition in PRESETS[preset]}
    ends = ("shuffled", "null", "neutral", "zero", "shut")
    assert list(of)[:2] == ["question_only", "skyline"]
    assert set(of) - {"question_only", "skyline"} == {
        own,
        f"{own}_open",
        *(f"{own}_{end}" for end in ends),
    }
    assert {of[f"{own}_{end}"].role for end in ends} == {"control"}
    assert of[own].role == of[f"{own}_open"].role == "channel"
    assert of[own].is_shuffled_twin(of[f"{own}_shuffled"])
    assert {c.private for name, c in of.items() if name.startswith("fused")} == {private}


def test_states_are_read_under_their_controls() -> None:
    of = {condition.name: condition for condition in PRESETS["state-reading"]}
    for own, noise in (("state_read", "zero"), ("oracle_read", "random")):
        twins = [of[f"{own}_{end}"] for end in ("shuffled", "null", "neutral", noise)]
        assert of[own].is_shuffled_twin(twins[0])
        assert {twin.role for twin in twins} == {"control"}
        assert {(twin.prompt, twin.positions) for twin in twins} == {("placeholder", "placeholder")}
    # Replaced, as Patchscopes do; added at the receiver's norm, as activation oracles do.
    assert (of["state_read"].operator, of["state_read"].match_norm) == ("blend", False)
    assert (of["oracle_read"].operator, of["oracle_read"].match_norm) == ("add", True)


def test_state_deltas_have_their_controls() -> None:
    of = {condition.name: condition for condition in PRESETS["state-deltas"]}
    twins = [of[f"deltas_{end}"] for end in ("shuffled", "null", "neutral", "random")]
    assert {twin.role for twin in twins} == {"control"}
    assert of["deltas"].is_shuffled_twin(twins[0])
    assert of["sent_text"].is_shuffled_twin(of["sent_text_shuffled"])
    assert of["deltas"].role == of["sent_text"].role == of["deltas_states"].role == "channel"
    assert of["deltas_random"].seeded


SENDERS = {
    "two-senders": ("kv_two", "kv_two_moved", "kv_chain", "kv_debate", "latent_chain"),
    "two-models": ("kv_models", "kv_models_debate"),
    "soft-senders": ("cipher_two", "cipher_chain", "cipher_debate"),
}


@pytest.mark.parametrize("preset", SENDERS)
def test_several_senders_have_the_controls_of_one(preset: str) -> None:
    of = {condition.name: condition for condition in PRESETS[preset]}
    for own in SENDERS[preset]:
        twins = [of[f"{own}_{end}"] for end in ("shuffled", "null", "neutral")]
        assert of[own].is_shuffled_twin(twins[0])
        assert {twin.role for twin in twins} == {"control"}
        assert {(twin.senders, twin.rollout) for twin in twins} == {
            (of[own].senders, of[own].rollout)
        }
        assert of[own].senders is not None


@pytest.mark.parametrize(
    ("preset", "owns"),
    {
        "kv": ("kv_all",),
        "kv-comm": ("kvcomm",),
        "kv-map": ("kv_mapped",),
        "latentmas": ("latent",),
        **SOFT,
    }.items(),
)
def test_strict_presets_have_noise_and_zeros_too(preset: str, owns: tuple[str, ...]) -> None:
    less = {"kv": "kv-all", "latentmas": "latentmas-unaware"}.get(preset, preset)
    added = [f"{own}_{end}" for own in owns for end in ("noise", "zero")]
    strict = [condition.name for condition in PRESETS[f"{preset}-strict"]]
    assert strict == [*(condition.name for condition in PRESETS[less]), *added]
    for own in owns:
        for end, filled in (("noise", "random"), ("zero", "zero")):
            twin = CONDITIONS[f"{own}_{end}"]
            assert (twin.filled_with, twin.role) == (filled, "control")
            assert CONDITIONS[own].same_but(twin, "filled_with")


def test_the_presets_are_the_published_and_the_private_ones() -> None:
    private = {"private", "private-all", "activations", "positive-control"}
    strict = {"published-strict", "private-strict", "activations-strict"}
    in_front = {
        "kv",
        "kv-map",
        *SENDERS,
        *(f"{preset}-strict" for preset in ("kv", "kv-comm", "kv-map", "latentmas", *SOFT)),
        "state-deltas",
        "state-reading",
        "fuse",
        "fuse-private",
        *KV,
        *LATENTMAS,
        *SOFT,
    }
    assert set(PRESETS) == {"published", *strict, *private, *in_front}
    names = {preset: [c.name for c in conditions] for preset, conditions in PRESETS.items()}
    assert names["published"] == list(PUBLISHED)
    assert names["published-strict"] == [*names["published"], STRICT]
    assert names["private"] == list(PRIVATE)
    assert sorted(names["private-all"]) == sorted((*PRIVATE, *FURTHER))
    bounds = ["question_only", "skyline"]
    assert names["activations"] == [*bounds, "private_relay", *ACTIVATIONS]
    for preset in ("private", "activations"):
        assert names[f"{preset}-strict"][: len(names[preset])] == names[preset]
    strict_only = names["activations-strict"][len(names["activations"]) :]
    ways = ("activation_sum", "activation_mean")
    ends = ("_null", "_neutral")
    others = [f"{way}{end}" for way in ways for end in ("_shuffled", *ends)]
    assert strict_only == [*(f"activation_replace{end}" for end in ends), *others]
    assert all(CONDITIONS[way].is_shuffled_twin(CONDITIONS[f"{way}_shuffled"]) for way in ways)
    elsewhere = {*names["private-strict"][len(PRIVATE) :], *strict_only}
    contexts = {CONDITIONS[name].sender_context for name in elsewhere}
    assert contexts == {None, "empty", "neutral"}
    assert {CONDITIONS[name].role for name in elsewhere} == {"control"}
    control = ["private_last_self", "activation_replace", "activation_replace_shuffled"]
    assert names["positive-control"] == [*bounds, *control]
    for preset, own in (KV | {"kv-map": "kv_mapped"}).items():
        controls = [f"{own}_shuffled", f"{own}_null", f"{own}_neutral"]
        controls += ["kv_mapped_mean"] if preset == "kv-map" else []
        assert names[preset] == [*bounds, own, *controls]
        assert [CONDITIONS[name].role for name in controls] == ["control"] * len(controls)
        assert CONDITIONS[own].is_shuffled_twin(CONDITIONS[controls[0]])
        assert len({CONDITIONS[name].layers for name in (own, *controls)}) == 1
    prepended = {name for preset in KV for name in names[preset][2:]}
    assert set(names["kv"]) == {*bounds, *prepended}
    prepended |= set(names["kv-map"][2:])
    filled = {name for name, condition in CONDITIONS.items() if condition.filled_with is not None}
    for preset, channels in SOFT.items():
        ends = ("", "_shuffled", "_null", "_neutral")
        found = [f"{own}{end}" for own in channels for end in ends]
        assert names[preset] == [*bounds, "private_relay", *found]
        for own in channels:
            assert CONDITIONS[own].is_shuffled_twin(CONDITIONS[f"{own}_shuffled"])
            assert [CONDITIONS[f"{own}{end}"].role for end in ends[1:]] == ["control"] * 3
        prepended |= set(found)
    others = (*LATENTMAS, "fuse", "fuse-private")
    prepended |= {name for preset in others for name in names[preset]} - set(bounds)
    others = (*SENDERS, "state-deltas", "state-reading")
    prepended |= {name for preset in others for name in names[preset]} - set(bounds)
    known = {*PUBLISHED, STRICT, *PRIVATE, *FURTHER, *ACTIVATIONS, *elsewhere, *prepended}
    assert set(CONDITIONS) == {*known, *filled, "debate", "fused_self"}
    published = (CONDITIONS[name] for name in (*PUBLISHED, STRICT))
    assert {c.name for c in published if not c.seeded} == DETERMINISTIC


def test_what_is_published_is_shared_and_what_is_private_is_not() -> None:
    assert not any(CONDITIONS[name].private for name in (*PUBLISHED, STRICT))
    shown = {"skyline": "task", "private_relay": "relay"}
    for name in (*PRIVATE, *FURTHER, *ACTIVATIONS):
        condition = CONDITIONS[name]
        assert condition.private == (name not in shown)
        assert condition.prompt == shown.get(name, condition.prompt)
        if name.startswith(("private_last", "activation")):
            assert condition.positions == "last"
    assert parsed(BASE + "translators: {42: a, 123: b, 456: c}\n").resolved_conditions == tuple(
        PRESETS["published"]
    )


@pytest.mark.parametrize(("preset", "cells"), [("private", 4 + 5 * 3), ("private-all", 6 + 9 * 3)])
def test_three_seeds_give_the_cells_of_the_private_presets(preset: str, cells: int) -> None:
    made = experiment_cells(parsed(f"{BASE}{TRANSLATORS}conditions: {preset}\n"))
    assert len(made) == len({cell.name for cell in made}) == cells


@pytest.mark.parametrize(("preset", "cells"), [("published", 22), ("published-strict", 25)])
def test_three_seeds_give_the_published_files_and_zero(preset: str, cells: int) -> None:
    made = experiment_cells(parsed(f"{BASE}{TRANSLATORS}conditions: {preset}\n"))
    assert len(made) == len({cell.name for cell in made}) == cells
    # 21 and 24 published files; zero_replacement is the extra of the same paper.
    assert sum(cell.condition.name != "zero_replacement" for cell in made) == cells - 1
    seeds = Counter(cell.condition.name for cell in made)
    assert {name for name, count in seeds.items() if count == 1} == DETERMINISTIC
    assert {count for name, count in seeds.items() if name not in DETERMINISTIC} == {3}
    assert all((cell.seed is None) == (cell.condition.name in DETERMINISTIC) for cell in made)
    assert [cell.name for cell in made if cell.condition.name == "replace"] == [
        "replace/seed42",
        "replace/seed123",
        "replace/seed456",
    ]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("no_inject", ("none", "blend", 1.0, False, "all", "all")),
        ("nl_relay", ("none", "blend", 1.0, False, "all", "all")),
        ("additive", ("translated", "add", 0.01, False, "all", "last")),
        ("replace", ("translated", "blend", 1.0, False, "all", "all")),
        ("scale_corrected", ("translated", "blend", 1.0, True, "all", "all")),
        ("best_alpha", ("translated", "blend", 0.30, True, "all", "all")),
        ("b_to_b_self_inject", ("receiver", "blend", 1.0, False, "all", "all")),
        ("same_norm_random", ("random", "blend", 1.0, True, "all", "all")),
        ("shuffled_translation", ("shuffled", "blend", 1.0, True, "all", "all")),
        (STRICT, ("shuffled", "blend", 1.0, True, "all", "all")),
        ("zero_replacement", ("zero", "blend", 1.0, False, "all", "all")),
    ],
)
def test_each_condition_is_the_published_one(name: str, written: tuple[Any, ...]) -> None:
    c = CONDITIONS[name]
    assert written == (
        c.source,
        c.operator,
        c.weight,
        c.match_norm,
        c.positions,
        c.source_positions,
    )
    assert c.prompt == ("relay" if name == "nl_relay" else "task")
    assert c.lone_rows == ("drop" if name == STRICT else "self")


def test_names_and_objects_mix_in_their_order() -> None:
    own = Condition(name="half", source="receiver", weight=0.5)
    found = resolve_conditions(["zero_replacement", own, "no_inject"])
    assert [condition.name for condition in found] == ["zero_replacement", "half", "no_inject"]
    assert resolve_conditions([CONDITIONS["replace"]]) == (CONDITIONS["replace"],)


def test_what_several_presets_have_is_taken_once() -> None:
    names = [c.name for c in resolve_conditions(["private", "activations", "question_only"])]
    own = [c.name for c in PRESETS["activations"] if c not in PRESETS["private"]]
    assert names == [*(c.name for c in PRESETS["private"]), *own]
    assert resolve_conditions(["published", "published-strict"]) == PRESETS["published-strict"]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("publishd", "did you mean published or published-strict?"),
        ("replce", "did you mean replace"),
        ("", "known: "),
        (["no_inject", "no_inject"], "no_inject is listed twice"),
        (["published", "published"], "published is listed twice"),
        ("privat", "did you mean private"),
        (
            [Condition(name="skyline", source="none", prompt="question_only")],
            "cannot mean something else",
        ),
        ([], "the list is empty"),
        (
            [
                Condition(name="a", source="zero"),
                Condition(name="a", source="receiver"),
            ],
            "two conditions are named a",
        ),
        (
            [Condition(name="replace", source="zero")],
            "replace is a published condition and cannot mean something else",
        ),
    ],
)
def test_what_names_nothing_or_two_things_is_refused(declared: Any, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        resolve_conditions(declared)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
