"""The published experiment as a plain loop: one row, one condition, hooks and `generate`.

It shares no code with the library. Source: arXiv 2606.03280.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.reference.decoding import (
    GoldMeasures,
    answer_ids,
    encode,
    generate,
    gold_measures,
    kl_divergence,
    text_of,
)
from tests.reference.draws import published_donors, published_noise
from tests.reference.formulas import (
    Row,
    Translate,
    mean_norm,
    relay_prompt,
    relayed_prompt,
    state_written,
    task_prompt,
)
from tests.reference.hooks import blocks, capture, writing

STRICT = "shuffled_translation_strict_matched"
SHUFFLES = ("shuffled_translation", STRICT)
TRANSLATED = ("additive", "replace", "scale_corrected", "best_alpha", *SHUFFLES)
DETERMINISTIC = ("no_inject", "nl_relay", "b_to_b_self_inject", "zero_replacement")
CONDITIONS = (*DETERMINISTIC, *TRANSLATED, "same_norm_random")


@dataclass(frozen=True)
class OraclePair:
    """Two models and the block whose output is read (sender) or written (receiver)."""

    sender: Any
    receiver: Any
    sender_layer: int
    receiver_layer: int
    tokenizer: Any
    """The receiver's, and the sender's unless it has its own."""
    sender_tokenizer: Any = None

    @property
    def reads_with(self) -> Any:
        """The sender's tokenizer."""
        return self.sender_tokenizer or self.tokenizer

    def reversed(self) -> OraclePair:
        """Return the pair with the roles swapped, each model keeping its layer."""
        return OraclePair(
            sender=self.receiver,
            receiver=self.sender,
            sender_layer=self.receiver_layer,
            receiver_layer=self.sender_layer,
            tokenizer=self.reads_with,
            sender_tokenizer=self.tokenizer,
        )


@dataclass(frozen=True)
class Settings:
    """Settings that the published run fixes; see `run_cell`."""

    max_new_tokens: int = 64
    relay_max_new_tokens: int = 128
    repetition_penalty: float = 1.3
    no_repeat_ngram_size: int = 3
    scale: float = 0.01
    """`additive`: factor on the translated last position."""
    alpha: float = 1.0
    """`scale_corrected` and the shuffles: share of the translated state."""
    best_alpha: float = 0.30
    max_prompt_tokens: int = 256
    decode: bool = True
    """Whether to generate; without it `prediction`, `token_ids` are None."""
    gold: bool = True
    """Whether to measure the gold answer; without it the `gold_*` and `kl_*` are None."""


@dataclass(frozen=True)
class OracleRow:
    """One row in one cell; a field that a condition has no use for is None.

    Norms are means over positions of the L2 norm. Where the published result files leave
    a field out (`prompt_len_a` of conditions without a sender, say), it is None here.
    """

    row_id: str
    gold: str
    prediction: str | None = None
    token_ids: tuple[int, ...] | None = None
    """New tokens, the end token included where it was reached."""
    prompt_len_sender: int | None = None
    prompt_len_receiver: int | None = None
    token_ids_match: bool | None = None
    seq_len_match: bool | None = None
    translated_norm_mean: float | None = None
    """Norm of the source state: t (`additive`: its last position), noise, own state or zeros."""
    receiver_norm_mean: float | None = None
    injected_norm_mean: float | None = None
    """Norm of the state that was added (`additive`) or written (the others)."""
    source_cosine_mean: float | None = None
    """Cosine of the source and the own state where it is written; `points` alone measures it."""
    donor_row_id: str | None = None
    donor_self_fallback: bool | None = None
    relay: str | None = None
    relay_prompt_len: int | None = None
    gold_logprob: float | None = None
    gold_token_count: int | None = None
    gold_rank: int | None = None
    kl_from_no_inject: float | None = None
    written: Tensor | None = None
    """(1, T, width): what was written over the receiver's prompt."""


def run_cell(
    pair: OraclePair,
    rows: Sequence[Row],
    condition: str,
    seed: int | None = None,
    translate: Translate | None = None,
    *,
    all_rows: Sequence[Row] | None = None,
    noise: Mapping[str, Tensor] | None = None,
    donors: Mapping[str, str] | None = None,
    **settings: Any,
) -> list[OracleRow]:
    """Run one condition under one seed over `rows`, one after another, in their order.

    `all_rows` is the whole dataset where `rows` is a part of it: draws are made over all of
    it in its order, as the published run made them. `noise` (row id to (1, T, width)) and
    `donors` (row id to row id; a row that has none is left out) replace the published
    draws. `settings` are the fields of `Settings`. The strict shuffle leaves out rows
    whose prompt length no other row has.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; known: {', '.join(CONDITIONS)}")
    chosen = Settings(**settings)
    dataset = list(rows if all_rows is None else all_rows)
    lengths = [len(_receiver_ids(pair, row, chosen)) for row in dataset]
    if condition in SHUFFLES and donors is None:
        assert seed is not None, "a shuffle draws its donors from a seed"
        taken = published_donors(lengths, seed, strict=condition == STRICT)
        donors = {dataset[i]["id"]: dataset[donor]["id"] for i, donor in taken.items()}
    if condition == "same_norm_random" and noise is None:
        assert seed is not None, "same_norm_random draws its noise from a seed"
        drawn = published_noise(lengths, pair.receiver.config.hidden_size, seed)
        noise = {row["id"]: draw for row, draw in zip(dataset, drawn, strict=True)}

    by_id = {row["id"]: row for row in dataset}
    results = []
    for row in rows:
        donor, draw = None, None
        if condition in SHUFFLES:
            assert donors is not None
            if row["id"] not in donors:
                continue
            donor = by_id[donors[row["id"]]]
        if condition == "same_norm_random":
            assert noise is not None
            draw = noise[row["id"]]
        results.append(_run_row(pair, row, condition, translate, donor, draw, chosen))
    return results


def _run_row(
    pair: OraclePair,
    row: Row,
    condition: str,
    translate: Translate | None,
    donor: Row | None,
    draw: Tensor | None,
    chosen: Settings,
) -> OracleRow:
    found: dict[str, Any] = {}

    # What the receiver reads.
    prompt = task_prompt(row)
    if condition == "nl_relay":
        to_sender = encode(pair.reads_with, relay_prompt(row), chosen.max_prompt_tokens)
        relay_ids = _decode(
            pair.sender, pair.reads_with, to_sender, chosen.relay_max_new_tokens, chosen
        )
        found["relay"] = text_of(pair.reads_with, relay_ids)
        found["relay_prompt_len"] = len(to_sender)
        prompt = relayed_prompt(row, found["relay"])
    ids = encode(pair.tokenizer, prompt, chosen.max_prompt_tokens)
    found["prompt_len_receiver"] = len(ids)

    # What is written over its own states at the layer.
    written = None
    if condition not in ("no_inject", "nl_relay"):
        h = capture(pair.receiver, pair.receiver_layer, ids)
        found["token_ids_match"] = found["seq_len_match"] = True
        if condition in TRANSLATED:
            sender_ids = encode(pair.reads_with, task_prompt(row), chosen.max_prompt_tokens)
            found["prompt_len_sender"] = len(sender_ids)
            found["token_ids_match"] = sender_ids == ids
            found["seq_len_match"] = len(sender_ids) == len(ids)
            source = _translated(pair, donor or row, translate, chosen).to(h.dtype)
            if condition == "additive":
                source = source[:, -1:, :]
            elif source.shape != h.shape:
                raise ValueError(f"{row['id']}: {tuple(source.shape)} for {tuple(h.shape)}")
        elif condition == "b_to_b_self_inject":
            source = h
        elif condition == "zero_replacement":
            source = torch.zeros_like(h)
        else:
            assert draw is not None
            source = draw.to(h.dtype)
        amounts = {"scale": chosen.scale, "alpha": chosen.alpha, "best_alpha": chosen.best_alpha}
        written = state_written(condition, source, h, **amounts)
        added = chosen.scale * source if condition == "additive" else written
        found["translated_norm_mean"] = mean_norm(source)
        found["receiver_norm_mean"] = mean_norm(h)
        found["injected_norm_mean"] = mean_norm(added)
    if donor is not None:
        found["donor_row_id"] = donor["id"]
        found["donor_self_fallback"] = donor["id"] == row["id"]

    # What it answers, and how likely the gold answer was.
    if chosen.decode:
        with writing(blocks(pair.receiver)[pair.receiver_layer], written):
            new = _decode(pair.receiver, pair.tokenizer, ids, chosen.max_new_tokens, chosen)
        found["token_ids"] = tuple(new)
        found["prediction"] = text_of(pair.tokenizer, new)
    if chosen.gold:
        answer = answer_ids(pair.tokenizer, prompt, row["answer"])
        here = _gold(pair, ids, answer, written)
        plain = _gold(pair, _receiver_ids(pair, row, chosen), answer, None)
        found["gold_logprob"] = here.logprob
        found["gold_token_count"] = len(answer)
        found["gold_rank"] = here.rank
        found["kl_from_no_inject"] = kl_divergence(plain.next_token, here.next_token)
    return OracleRow(row_id=row["id"], gold=row["answer"], written=written, **found)


def _receiver_ids(pair: OraclePair, row: Row, chosen: Settings) -> list[int]:
    return encode(pair.tokenizer, task_prompt(row), chosen.max_prompt_tokens)


@torch.no_grad()
def _translated(
    pair: OraclePair, row: Row, translate: Translate | None, chosen: Settings
) -> Tensor:
    if translate is None:
        raise ValueError("this condition needs a translator")
    ids = encode(pair.reads_with, task_prompt(row), chosen.max_prompt_tokens)
    return translate(capture(pair.sender, pair.sender_layer, ids))


def _decode(
    model: Any, tokenizer: Any, ids: list[int], max_new_tokens: int, chosen: Settings
) -> list[int]:
    return generate(
        model,
        ids,
        end=tokenizer.eos_token_id,
        max_new_tokens=max_new_tokens,
        repetition_penalty=chosen.repetition_penalty,
        no_repeat_ngram_size=chosen.no_repeat_ngram_size,
    )


def _gold(
    pair: OraclePair, ids: list[int], answer: list[int], state: Tensor | None
) -> GoldMeasures:
    return gold_measures(pair.receiver, pair.receiver_layer, ids, answer, state)
