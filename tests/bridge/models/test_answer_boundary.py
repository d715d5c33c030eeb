"""Where a prompt ends and its gold answer begins."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from statebridge.models.chat import begins_word, encoded_answer
from tests.reference.decoding import answer_ids, space_before_answer
from tests.tiny_models import tiny_llama_tokenizer, tiny_tokenizer

SPACED = ["A:", "A: it's 5'", "Q? (a)", 'He said "yes"', "Zoë", "答え:"]
UNSPACED = ["A: ", "Zoë\n", "A:\t", "A: (", "A: [", 'A: "', "A: '", "“", "答：", "答え", "「"]


@pytest.mark.parametrize("prompt", [*SPACED, *UNSPACED])
def test_a_space_begins_the_answer_only_where_one_is_written(prompt: str) -> None:
    assert begins_word(prompt) is (prompt in UNSPACED)
    assert (space_before_answer(prompt) == "") is (prompt in UNSPACED)
    whole = prompt + ("" if prompt in UNSPACED else " ") + "Rio Japan"
    for tokenizer in (tiny_tokenizer(), tiny_llama_tokenizer()):
        ids = encoded_answer(tokenizer, prompt, " Rio Japan\n", "none", "tiny")
        assert list(ids) == answer_ids(tokenizer, prompt, " Rio Japan\n")
        read = [*tokenizer(prompt)["input_ids"], *ids]
        assert tokenizer.decode(read, skip_special_tokens=True) == whole


def _metaspace() -> Any:
    """A tokenizer as Llama 2's: every text begins with a space, which merges with its word."""
    words = ["<unk>", "▁", "\n", "A", ":", "R", "i", "o", "Ri", "Rio", "▁Rio", "▁A"]
    merges = [("R", "i"), ("Ri", "o"), ("▁", "Rio"), ("▁", "A")]
    model = models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_tokenizer_that_begins_texts_with_a_space_adds_none() -> None:
    tokenizer = _metaspace()
    ids = encoded_answer(tokenizer, "A: ", "Rio", "none", "tiny")
    assert tokenizer.convert_ids_to_tokens([*tokenizer("A: ")["input_ids"], *ids]) == [
        "▁A",
        ":",
        "▁",
        "Rio",
    ]
    assert tokenizer.convert_ids_to_tokens(encoded_answer(tokenizer, "A:", "Rio", "none", "t")) == [
        "▁Rio"
    ]
