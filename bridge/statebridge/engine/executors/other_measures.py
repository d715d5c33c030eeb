"""Log-probabilities beside that of the gold answer: of its aliases, wrong options, and its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from statebridge.engine.executors.measures import CHUNK, GoldMeasures
from statebridge.errors import ExperimentError
from statebridge.runs.plan import OtherAnswers, Plan, TokenIds


@dataclass(frozen=True, slots=True)
class OtherMeasures:
    """Log-probabilities in one lane, in nats; None where they are not measured."""

    answer: float | None = None
    """Log-probability of the gold answer or any alias of it."""
    aliases: Mapping[str, float] | None = None
    options: Mapping[str, float] | None = None
    end: float | None = None


NOT_MEASURED = OtherMeasures()


def other_texts(
    plan: Plan, answers: Sequence[TokenIds], others: Sequence[tuple[TokenIds, ...]]
) -> list[list[TokenIds]]:
    """Return the texts of each pass that `other_measures` needs, one for each lane.

    Args:
        answers: Gold token ids of each lane.
        others: Ids of each lane's other answers, in the order of `OtherAnswers.texts`.
    """
    # A lane without a text at a place runs its answer once more, and is passed over.
    passes = [
        [
            ids[place] if place < len(ids) else answer
            for ids, answer in zip(others, answers, strict=True)
        ]
        for place in range(max(map(len, others), default=0))
    ]
    if plan.end_ids:
        # Any token in the last place gives the logits after the whole answer.
        passes.append([(*answer, answer[-1]) for answer in answers])
    return passes


def other_measures(
    plan: Plan,
    rows: Sequence[int],
    answers: Sequence[TokenIds],
    others: Sequence[tuple[TokenIds, ...]],
    gold: Sequence[GoldMeasures],
    logits: Iterator[torch.Tensor],
) -> list[OtherMeasures]:
    """Measure each lane, in float64.

    Args:
        rows: The lanes' rows, by index in the dataset.
        answers: Gold token ids of each lane.
        others: Ids of each lane's other answers, in the order of `OtherAnswers.texts`.
        gold: Measures of the gold answers.
        logits: For each pass of `other_texts`, (lanes, longest text, vocabulary) after the
            prompt and after each token of the text but its last.

    Raises:
        ExperimentError: A channel left out the other answers.
    """
    asked = plan.experiment.likelihoods
    if asked is None:
        return [NOT_MEASURED] * len(rows)
    found: list[list[float]] = [[] for _ in rows]
    ends: Sequence[float | None] = [None] * len(rows)
    most = max(map(len, others))
    for place, texts in enumerate(other_texts(plan, answers, others)):
        after = next(logits)
        if place == most:
            ends = _end_logprobs(after, answers, plan.end_ids)
            continue
        for lane, value in enumerate(text_logprobs(after, texts)):
            if place < len(others[lane]):
                found[lane].append(value)
    results: list[OtherMeasures] = []
    for lane, row in enumerate(rows):
        beside = plan.other_answers[row] if plan.other_answers else OtherAnswers()
        if len(others[lane]) != len(beside.texts):
            raise ExperimentError(
                f"likelihoods: row {plan.rows[row].row_id}: the channel gave {len(others[lane])} "
                f"other answers after its prompt, not {len(beside.texts)}; a channel that makes a "
                "Reading gives them as its `others`"
            )
        count = len(beside.aliases)
        aliases, wrong = found[lane][:count], found[lane][count:]
        names = dict(zip(others[lane], aliases, strict=False))
        names[answers[lane]] = gold[lane].logprob
        results.append(
            OtherMeasures(
                _any_of(names) if asked.aliases else None,
                dict(zip(beside.aliases, aliases, strict=True)) if asked.aliases else None,
                dict(zip(beside.wrong, wrong, strict=True)) if asked.options else None,
                ends[lane],
            )
        )
    return results


def _any_of(names: Mapping[TokenIds, float]) -> float:
    """Return the log-probability that one of some texts follows.

    A text that begins with another one is part of that one's probability.
    """
    apart = [
        value
        for ids, value in names.items()
        if not any(len(k) < len(ids) and ids[: len(k)] == k for k in names)
    ]
    highest = max(apart)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in apart))


def text_logprobs(logits: torch.Tensor, texts: Sequence[TokenIds]) -> list[float]:
    """Return the log-probability, in nats, of each lane's text.

    Args:
        logits: (lanes, longest text, vocabulary) after the prompt and after each token of the
            text but its last.
    """
    totals: list[float] = []
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        longest = max(map(len, chunk))
        scores = logits[start : start + CHUNK, :longest].double().log_softmax(dim=-1)
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in chunk])
        real = torch.arange(longest) < torch.tensor([len(text) for text in chunk])[:, None]
        of_text = scores.gather(2, ids.to(scores.device)[..., None])[..., 0]
        totals += torch.where(real.to(scores.device), of_text, 0).sum(dim=1).tolist()
    return totals


def _end_logprobs(
    logits: torch.Tensor, answers: Sequence[TokenIds], end_ids: TokenIds
) -> list[float]:
    """Return the log-probability, in nats, of a token that ends each lane's answer."""
    lanes = torch.arange(len(answers), device=logits.device)
    places = torch.tensor([len(answer) for answer in answers], device=logits.device)
    ends = torch.tensor(end_ids, device=logits.device)
    after = logits[lanes, places]
    found: list[float] = []
    for start in range(0, len(answers), CHUNK):
        scores = after[start : start + CHUNK].double().log_softmax(dim=-1)
        found += scores[:, ends].logsumexp(dim=-1).tolist()
    return found
