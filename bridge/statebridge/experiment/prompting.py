"""Prompt templates, and how text is decoded after them."""

from __future__ import annotations

import string
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from statebridge.experiment.dataset import Declared
from statebridge.experiment.declared import NO_BOOLEAN

Chat = Literal["none", "auto", "required"]


_NEEDED = {
    "task": ("question",),
    "question_only": ("question",),
    "relay_sender": ("context",),
    "relay_receiver": ("relay", "question"),
    "debate_sender": ("other",),
    "debate_receiver": ("other",),
}
"""Placeholders without which a prompt has no meaning, by template."""


def placeholders(template: str, allowed: Collection[str]) -> set[str]:
    """Return the placeholders of a template.

    Raises:
        ValueError: It is empty or no template, or one of them is not allowed.
    """
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"not a template: {error}; write a literal brace twice") from None
    used = {str(name) for _, name, _, _ in parts}
    if any(specification or conversion for _, _, specification, conversion in parts):
        raise ValueError("a placeholder takes no conversion or format: write {question} as it is")
    if not used <= set(allowed):
        raise ValueError(
            f"unknown placeholder {sorted(used - set(allowed))}; allowed: {sorted(allowed)}"
        )
    if not template:
        raise ValueError("the template is empty")
    return used


def check_read(used: Collection[str]) -> None:
    """Refuse a sender's template without a placeholder.

    Raises:
        ValueError: States why.
    """
    if not used:
        raise ValueError("has no {context} and no {question}, so that all rows would be alike")


class Prompts(Declared):
    """Prompt templates; those with a context are the exact strings of arXiv 2606.03280."""

    task: str = "Context: {context}\nQ: {question}\nA:"
    """Read by the sender, and by the receiver where a condition does not say otherwise."""
    sender: str | None = None
    """Read by the sender in place of `task`."""
    question_only: str = "Q: {question}\nA:"
    """Read by the receiver where the context is private to the sender."""
    placeholder_token: Annotated[str, Field(min_length=1)] | None = None
    """Text of the one token that stands for each of the context's in the `placeholder` prompt;
    the pad token if not given, which is the end token where the tokenizer has none."""
    neutral_text: Annotated[str, Field(min_length=1)] | None = None
    """Text that a condition of `sender_context: neutral` puts in place of the context, repeated
    and cut to as many tokens; a sentence on a blank page if not given."""
    relay_sender: str = "{context}\n\nKey facts:"
    relay_receiver: str = "{relay}\nQ: {question}\nA:"
    debate_sender: str = (
        "Context: {context}\nQ: {question}\nYour answer: {own}\nAnother answer: {other}\nA:"
    )
    """Read by the sender from a debate's second round on: `{own}` is its last answer, `{other}`
    the receiver's. In the first it reads `sender`, and the receiver `question_only`."""
    debate_receiver: str = "Q: {question}\nYour answer: {own}\nAnother answer: {other}\nA:"
    chat: Chat = "none"
    """Put every prompt through the model's chat template, as one user's turn: `none` of them,
    those of a model that has a template (`auto`), or all (`required`)."""

    @property
    def neutral(self) -> str:
        """The text in place of a context that says nothing of any row."""
        return self.neutral_text or " This page was left blank on purpose."

    @property
    def to_sender(self) -> str:
        """The template that the sender reads where its states are taken."""
        return self.task if self.sender is None else self.sender

    @field_validator(
        "task",
        "sender",
        "question_only",
        "relay_sender",
        "relay_receiver",
        "debate_sender",
        "debate_receiver",
    )
    @classmethod
    def _known_fields(cls, template: str | None, info: Any) -> str | None:
        if template is None:
            return None
        allowed = {"context", "question"}
        if info.field_name == "relay_receiver":
            allowed = {"context", "question", "relay"}
        if info.field_name in ("debate_sender", "debate_receiver"):
            allowed = {"context", "question", "own", "other"}
        if info.field_name == "question_only":
            allowed = {"question"}
        used = placeholders(template, allowed)
        needed = _NEEDED.get(info.field_name, ())
        missing = [name for name in needed if name not in used]
        if missing:
            raise ValueError(
                f"has no {{{missing[0]}}}, so that every row would read the same there; write "
                f"{{{missing[0]}}} where it belongs"
            )
        if info.field_name == "sender":
            check_read(used)
        return template


class Sample(Declared):
    """Sampling, with numbers keyed by (seed, row id)."""

    temperature: Annotated[float, NO_BOOLEAN] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1), NO_BOOLEAN] = 1.0
    """Sample from the fewest tokens whose probabilities reach this."""

    @field_validator("temperature")
    @classmethod
    def _above_zero(cls, temperature: float) -> float:
        if temperature <= 0:
            raise ValueError(
                f"{temperature:g} is no temperature; give one above 0, or leave sample out for "
                "greedy decoding"
            )
        return temperature


class Decoding(Declared):
    """Greedy or sampled decoding, with Hugging Face's meaning of the two processors."""

    max_new_tokens: Annotated[int, Field(ge=1, le=65536), NO_BOOLEAN] = 64
    relay_max_new_tokens: Annotated[int, Field(ge=1, le=65536), NO_BOOLEAN] = 128
    repetition_penalty: Annotated[float, Field(gt=0), NO_BOOLEAN] = 1.3
    no_repeat_ngram_size: Annotated[int, Field(ge=0), NO_BOOLEAN] = 3
    max_prompt_tokens: Annotated[int, Field(ge=1), NO_BOOLEAN] = 256
    """Most tokens of a prompt; see `truncate` for longer ones."""
    truncate: Literal["context", "right"] | None = None
    """A prompt that is too long is refused, unless it may be cut: `context` shortens the context
    at its end and keeps the question; `right` cuts the prompt itself, and with it the question, as
    the code of arXiv 2606.03280 does."""
    sample: Sample | None = None
    """Sample every text; each condition then runs under every seed. None decodes greedily."""
