"""Left-padded batches of prompts."""

from __future__ import annotations

import pytest
import torch

from statebridge.models.token_batch import TokenBatch


def test_prompts_are_padded_on_the_left() -> None:
    batch = TokenBatch.pack([[5], [6, 0, 7]], pad_id=0)
    assert batch.ids.tolist() == [[0, 0, 5], [6, 0, 7]]
    assert batch.mask.tolist() == [[False, False, True], [True, True, True]]
    assert batch.lengths == (1, 3)
    assert batch.position_ids.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert batch.ids.dtype == torch.int64


def test_a_mask_goes_with_padding_only() -> None:
    padded = TokenBatch.pack([[5], [6, 7]], 0)
    assert padded.padded
    assert padded.inputs()["attention_mask"].tolist() == [[0, 1], [1, 1]]
    whole = TokenBatch.pack([[5, 0], [6, 7]], 0)
    assert not whole.padded
    assert set(whole.inputs()) == {"input_ids", "position_ids"}


def test_selected_rows_keep_the_width() -> None:
    batch = TokenBatch.pack([[5], [6, 7], [8, 9, 10]], 0).select([1, 0, 0])
    assert batch.ids.tolist() == [[0, 6, 7], [0, 0, 5], [0, 0, 5]]
    assert batch.lengths == (2, 1, 1)
    assert batch.padded, "a group's rows alone are as padded as the group"
    assert batch.position_ids.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []]])
def test_a_prompt_has_at_least_one_token(prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenBatch.pack(prompts, 0)
