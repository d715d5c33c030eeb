"""Prompts put through a tokenizer's chat template, as the one turn of a user.

An instruction-tuned model reads its prompts so; a base model reads the text as it is. The
generation prompt follows the turn, and the template's special tokens are the only ones: the
tokenizer adds none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any
from unicodedata import category, east_asian_width

from statebridge.errors import PairError
from statebridge.experiment.experiment import Chat

TEMPLATE_DATE = "26 Jul 2024"
"""Day for templates that ask for one (that in Llama 3's own file), so that a run reads the same
prompts on any day."""


_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")


def _on_one_day(template: Any) -> Any:
    """Return a chat template that asks for the present moment with that day, at midnight."""
    if not isinstance(template, str):
        return template
    return _NOW.sub(lambda found: repr(datetime(2024, 7, 26).strftime(found[2])), template)


def takes_template(tokenizer: Any, chat: Chat, name: str) -> bool:
    """Whether a model's prompts are put through its chat template.

    Raises:
        PairError: A template is required, and the tokenizer has none.
    """
    if chat == "none":
        return False
    if getattr(tokenizer, "chat_template", None):
        return True
    if chat == "required":
        raise PairError(
            f"{name}: its tokenizer has no chat template, and prompts.chat is required; use an "
            "instruction-tuned model, or chat: none (auto takes a template where there is one)"
        )
    return False


def as_turns(tokenizer: Any, texts: Sequence[str], name: str) -> list[str]:
    """Return each text as a user's turn with the generation prompt after it.

    Raises:
        PairError: The template cannot be used.
    """
    template = _on_one_day(tokenizer.chat_template)
    try:
        return [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                tokenize=False,
                add_generation_prompt=True,
                date_string=TEMPLATE_DATE,
                chat_template=template,
            )
            for text in texts
        ]
    except Exception as error:  # whatever a template of somebody else's may raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PairError(
            f"{name}: its chat template fails on a single user turn: {reason}; use chat: none"
        ) from None


def encoded(
    tokenizer: Any, texts: Sequence[str], chat: Chat, name: str
) -> tuple[list[list[int]], bool]:
    """Return the token ids of each text as the model reads it, and whether in its template.

    Raises:
        PairError: As `takes_template` and `as_turns`.
    """
    templated = takes_template(tokenizer, chat, name)
    if not texts:
        return [], templated
    if templated:
        turns = as_turns(tokenizer, texts, name)
        return tokenizer(turns, add_special_tokens=False)["input_ids"], True
    return _begun(tokenizer, texts), False


def _begun(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of plain texts that go on: without an end token that is appended.

    What a model reads is to be continued; after its end token it would begin another text.
    """
    found = tokenizer(list(texts))["input_ids"]
    appended = _appended(tokenizer)
    return [ids[: len(ids) - appended] for ids in found] if appended else found


def _appended(tokenizer: Any) -> int:
    """Return how many special tokens a tokenizer puts after every text."""
    with_specials = tokenizer("a")["input_ids"]
    alone = tokenizer("a", add_special_tokens=False)["input_ids"]
    extra = len(with_specials) - len(alone)
    if extra <= 0 or not alone:
        return 0
    starts = [i for i in range(extra + 1) if with_specials[i : i + len(alone)] == alone]
    return extra - starts[0] if starts else 0


def encoded_answer(
    tokenizer: Any, text: str, answer: str, chat: Chat, name: str
) -> tuple[int, ...]:
    """Return the ids of the answer as they follow a prompt.

    The ids of prompt + answer after the prompt's own, where the prompt's ids are a prefix of
    them; else (a tokenizer that merges across the join) the ids of the answer alone. White space
    around the answer is no part of it. A space begins the answer after plain text, except where
    `begins_word` says that none belongs there; the turn of a template begins without one.

    Raises:
        PairError: As `takes_template` and `as_turns`.
    """
    written = answer.strip()
    if takes_template(tokenizer, chat, name):
        text = as_turns(tokenizer, [text], name)[0]
        prompt, joined = tokenizer([text, text + written], **_NO_SPECIALS)["input_ids"]
    else:
        written = written if begins_word(text) else f" {written}"
        prompt, joined = _begun(tokenizer, [text, text + written])
    if joined[: len(prompt)] == prompt and len(joined) > len(prompt):
        return tuple(joined[len(prompt) :])
    if not written.startswith(" "):
        # Some tokenizers begin every text with a space; after a line end they add none.
        start, joined = tokenizer(["\n", f"\n{written}"], **_NO_SPECIALS)["input_ids"]
        if joined[: len(start)] == start and len(joined) > len(start):
            return tuple(joined[len(start) :])
    return tuple(tokenizer(written, **_NO_SPECIALS)["input_ids"])


_NO_SPECIALS = {"add_special_tokens": False}


def begins_word(text: str) -> bool:
    """Whether a word begins right after a text, with no space between.

    So it is after white space, an opening bracket or quotation mark, and a full-width character,
    whose scripts write no spaces.

    Examples:
        >>> [begins_word(text) for text in ("A:", "A:\\n", "A: ", "A: (", 'A: "', "答：")]
        [False, True, True, True, True, True]
    """
    if not text or text[-1].isspace():
        return True
    last, before = text[-1], text[-2:-1]
    if last in "\"'`":
        return before == "" or before.isspace()
    return category(last) in ("Ps", "Pi") or east_asian_width(last) in ("W", "F")


def template_tail(tokenizer: Any, chat: Chat, name: str) -> int:
    """Return how many tokens at the end of every prompt are the template's; 0 without one."""
    (first, second), templated = encoded(tokenizer, ["a", "7"], chat, name)
    if not templated:
        return 0
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
