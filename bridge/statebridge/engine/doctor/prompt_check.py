"""The prompts of a run in words, and whether those fit that a model's text goes into."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.channels.inputs.prompts import TEXTLESS
from statebridge.channels.text import Conversation
from statebridge.channels.workload import Workload
from statebridge.engine.executors.plain_path import remote_jobs
from statebridge.engine.planning.groups import choose_max_lanes, grouped
from statebridge.engine.sender_checks.plan import plan_sender_checks


def describe_prompts(work: Workload) -> str:
    """Return how long the prompts are that the conditions use.

    Args:
        work: The run, prepared without weights.

    Raises:
        PairError: A prompt, or a gold answer after it, that does not fit.
        ExperimentError: Checks inside the sender that cannot be made.
    """
    experiment = work.plan.experiment
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


def _check_relay(work: Workload) -> str:
    """Make the sender's prompts, and the receiver's shortest ones: with an empty relay."""
    talk = Conversation(work, range(work.plan.limit))
    sent = talk.relay_prompts()
    nothing = [{"relay": ""}] * work.plan.limit
    talk.relay_received(talk.fill(work.plan.experiment.prompts.relay_receiver, nothing))
    return _lengths("relay, to the sender", [len(ids) for ids in sent])


def _lengths(what: str, lengths: Sequence[int]) -> str:
    mean = sum(lengths) / len(lengths)
    return f"{what}: {min(lengths)} to {max(lengths)} tokens, {mean:.1f} on average"
