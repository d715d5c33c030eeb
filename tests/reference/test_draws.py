"""The draws and prompt lengths are the published ones."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.reference.decoding import encode
from tests.reference.draws import published_donors, published_noise
from tests.reference.formulas import relay_prompt, relayed_prompt, task_prompt
from tests.shared_data import SHARED, needs_shared


def test_noise_is_the_published_stream() -> None:
    # Rows 0 to 4 of results/final/h1_same_norm_random_fwd_seed42.json of the published
    # repository (translated_norm_mean, computed on another device: last bits may differ).
    lengths = [45, 49, 29, 42, 52]
    published = [32.21969223, 32.13009262, 32.07500076, 32.16309738, 31.98186492]
    found = [float(x.norm(dim=-1).mean()) for x in published_noise(lengths, 1024, 42)]
    assert found == pytest.approx(published, abs=1e-5)


def test_donors_by_hand() -> None:
    generator = random.Random(7)
    first, second = [0, 2, 3], [1, 4]
    generator.shuffle(first)
    generator.shuffle(second)
    pairs = {first[0]: first[1], first[1]: first[2], first[2]: first[0], 1: 4, 4: 1}
    assert published_donors([3, 9, 3, 3, 9, 4], 7, strict=False) == pairs | {5: 5}
    assert published_donors([3, 9, 3, 3, 9, 4], 7, strict=True) == pairs


@cache
def shared_rows() -> list[dict[str, Any]]:
    text = (SHARED / "multihop" / "clean_eval.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@cache
def published(name: str) -> list[dict[str, Any]]:
    path = SHARED / "published" / f"h1_{name}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["per_sample"]
    return rows


@cache
def neox_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SHARED / "tokenizer")


@cache
def shared_lengths() -> list[int]:
    return [len(encode(neox_tokenizer(), task_prompt(row), 256)) for row in shared_rows()]


@needs_shared
def test_prompt_lengths_are_the_published_ones() -> None:
    lengths = shared_lengths()
    assert [row["clean_eval_id"] for row in shared_rows()] == [
        row["sample_id"] for row in published("no_inject_fwd_deterministic")
    ]
    for name in ("no_inject_fwd_deterministic", "additive_fwd_seed42", "replace_fwd_seed456"):
        assert lengths == [row["prompt_len_b"] for row in published(name)]
        if "no_inject" not in name:
            assert lengths == [row["prompt_len_a"] for row in published(name)]
    assert max(lengths) == 89
    assert sum(count == 1 for count in Counter(lengths).values()) == 13
    assert len(set(lengths)) == 56


@needs_shared
def test_relay_prompt_lengths_are_the_published_ones() -> None:
    for row, result in zip(shared_rows(), published("nl_relay_fwd_deterministic"), strict=True):
        assert len(encode(neox_tokenizer(), relay_prompt(row), 256)) == result["sender_prompt_len"]
        ids = encode(neox_tokenizer(), relayed_prompt(row, result["relay"]), 256)
        assert len(ids) == result["prompt_len_b"]


@needs_shared
@pytest.mark.parametrize("seed", [42, 123, 456])
def test_donors_are_a_derangement_but_for_thirteen(seed: int) -> None:
    lengths = shared_lengths()
    donors = published_donors(lengths, seed, strict=False)
    assert sorted(donors) == sorted(donors.values()) == list(range(396))
    assert all(lengths[row] == lengths[donor] for row, donor in donors.items())
    alone = {row for row, donor in donors.items() if row == donor}
    assert alone == {i for i, length in enumerate(lengths) if lengths.count(length) == 1}
    assert len(alone) == 13
    strict = published_donors(lengths, seed, strict=True)
    assert len(strict) == 383
    assert not alone & set(strict)
    assert all(row != donor for row, donor in strict.items())
    # Shuffling a list of one draws nothing, so leaving lone rows out changes no other donor.
    assert all(donors[row] == donor for row, donor in strict.items())


@needs_shared
def test_donors_are_the_published_ones() -> None:
    # shuffle_donor_idx of rows 0 to 12 in results/final/
    # h1_shuffled_translation_fwd_seed42_alpha1p0.json of the published repository.
    expected = [46, 344, 2, 288, 66, 265, 214, 7, 213, 301, 73, 24, 161]
    donors = published_donors(shared_lengths(), 42, strict=False)
    assert [donors[row] for row in range(13)] == expected
