"""Whether every prompt of an experiment fits, found out without weights.

The checks are the run's own: those of `prepare`, and those that the paths and the checks inside
the sender make before their first pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from statebridge.channels.prompts import TEXTLESS
from statebridge.channels.text import Conversation
from statebridge.channels.workload import Workload
from statebridge.engine.executors.plain_path import remote_jobs
from statebridge.engine.planning.groups import choose_max_lanes, grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.engine.sender_checks.plan import plan_sender_checks
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.runs.plan import TranslatorKey
from statebridge.translators import Translator


def check_prompts(experiment: Experiment, pair: Pair, rows: Sequence[DatasetRow]) -> str:
    """Make every prompt that the conditions use, and say how long they are.

    Args:
        experiment: As declared.
        pair: Both models' structures; see `TracedModel.without_weights`.
        rows: The whole dataset.

    Raises:
        PairError: A prompt, or a gold answer after it, that does not fit; positions of two
            prompts that do not meet.
        ExperimentError: Explicit positions that a prompt does not have, or checks inside the
            sender that cannot be made.
    """
    work = prepare(experiment, pair, rows, _fitting(experiment, pair))
    used = {condition.prompt for condition in experiment.resolved_conditions}
    found = [
        _lengths(prompt, [len(ids) for ids in work.plan.prompts.read(prompt)[: work.plan.limit]])
        for prompt in TEXTLESS
        if prompt in used
    ]
    if "relay" in used:
        found.append(_check_relay(work))
    if "debate" in used:
        found.append("debate: room for every round")
    if experiment.runs_remotely:
        jobs = remote_jobs(grouped(work.plan, choose_max_lanes(work)))
        found.append(f"about {jobs} remote jobs")
    if experiment.sender_checks:
        plan_sender_checks(work)
        found.append("sender_checks: answers fit the sender")
    return "; ".join(found)


def _fitting(experiment: Experiment, pair: Pair) -> dict[TranslatorKey, Translator]:
    """Return maps of the pair's widths: whether the declared ones have them is checked apart."""
    with torch.device("meta"):
        fitting = Translator("affine", pair.sender.width, pair.receiver.width)
    return {
        (name, seed): fitting for name in experiment.translator_sets for seed in experiment.seeds
    }


def _check_relay(work: Workload) -> str:
    """Check the sender's prompts, and the receiver's shortest ones: with an empty relay."""
    prompts, decoding = work.plan.experiment.prompts, work.plan.experiment.decoding
    talk = Conversation(work, range(work.plan.limit))
    texts = talk.fill(prompts.relay_sender)
    sent = talk.prompts("sender", texts, decoding.relay_max_new_tokens)
    texts = talk.fill(prompts.relay_receiver, [{"relay": ""}] * work.plan.limit)
    talk.prompts("receiver", texts, decoding.max_new_tokens)
    return _lengths("relay, to the sender", [len(ids) for ids in sent])


def _lengths(what: str, lengths: Sequence[int]) -> str:
    mean = sum(lengths) / len(lengths)
    return f"{what}: {min(lengths)} to {max(lengths)} tokens, {mean:.1f} on average"
