"""A part of `make check-families`: architectures that each broke an assumption once."""

from __future__ import annotations

from pathlib import Path

import nnsight
import pytest
import torch
from scripts.check_families import Outcome, check_family, page

from statebridge.errors import PairError
from statebridge.models.families import find_blocks
from statebridge.models.messages.key_values import cache_heads
from statebridge.models.traced_model import TracedModel
from tests.tiny_families import registered, tiny_config, tiny_family
from tests.tiny_models import tiny_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("gemma4_text", "shared"),  # blocks differ in the width of their heads
        ("mamba", "plain"),  # no attention, so no heads
    ],
)
def test_a_family_gives_the_tokens_of_hugging_face(kind: str, path: str, tmp_path: Path) -> None:
    assert check_family(kind, tmp_path).path == path


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("gemma3n_text", "only models whose blocks put out one state of each token"),
        ("xlnet", "depends on the tokens after it, so it is no causal language model; give one"),
    ],
)
def test_a_family_that_cannot_be_used_is_refused_with_what_can(
    kind: str, why: str, tmp_path: Path
) -> None:
    found = check_family(kind, tmp_path)
    assert found.path == "refused"
    assert why in found.why


def test_a_wrapper_has_the_blocks_of_its_text() -> None:
    # Its vision tower has as many.
    assert find_blocks(tiny_family("got_ocr2"))[0] == "model.language_model.layers.0"


@pytest.mark.parametrize(
    ("kind", "have"), [("gemma4_text", "blocks with different"), ("mamba", "no")]
)
def test_messages_of_keys_need_one_shape_of_heads(kind: str, have: str) -> None:
    with pytest.raises(PairError, match=f"{kind} has {have} key-value heads, .* channel states"):
        cache_heads(tiny_config(kind))


def test_states_that_padding_would_change_are_of_a_row_alone() -> None:
    tokenizer = tiny_tokenizer()
    module = tiny_family("blenderbot-small")
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    traced = TracedModel.wrap(model, tokenizer, 1, name="counts-padding")
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [14, 15, 16]]
    together = traced.capture(traced.pack(prompts))
    for row, prompt in enumerate(prompts):
        alone = traced.capture(traced.pack([prompt]))[0]
        # Float32 sums of a batch and of one row.
        torch.testing.assert_close(together[row, -len(prompt) :], alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(PairError, match="a cache takes prompts of one length"):
        traced.key_values(traced.pack(prompts))


def test_the_page_counts_what_it_lists() -> None:
    found = page([Outcome("a", "shared"), Outcome("b", "refused", "why")])
    assert "1 are shared, 0 plain, 1 refused; of 0 no tiny" in " ".join(found.split())
    assert "| `b` | refused | why |" in found
    assert len(registered()) > 150
