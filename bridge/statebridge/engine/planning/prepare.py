"""Preparing an experiment: prompts, donors and draws, and what is checked before a pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from statebridge.channels.channel import CHANNELS
from statebridge.channels.inputs.draws import Noise, choose_donors, noise_of
from statebridge.channels.inputs.prompts import TEXTLESS, build_prompts
from statebridge.channels.inputs.token_ids import answers_after, fill, others_after
from statebridge.channels.messages.message_maps import empty_message_map
from statebridge.channels.workload import Workload
from statebridge.data.training_texts import answer_names
from statebridge.engine.planning.other_answers import end_ids, other_answers
from statebridge.errors import ExperimentError, PairError, ResultError
from statebridge.experiment.cells import experiment_cells
from statebridge.experiment.conditions import Prompt
from statebridge.experiment.experiment import DEFAULT_SET, Experiment, Fit
from statebridge.experiment.layer_search import Choose
from statebridge.experiment.message import LayerShare
from statebridge.models.families import turning_point
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.results.layer_search import split_rows
from statebridge.runs.plan import OtherAnswers, Plan, PromptTable, TokenIds, TranslatorKey
from statebridge.translators import Translator


def prepare(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    translators: Mapping[TranslatorKey, Translator] | Mapping[int, Translator],
) -> Workload:
    """Tokenise, choose donors and draws, and check what can be checked before a forward pass.

    The plan of the workload has no groups yet; `planning.groups.grouped` makes them.

    Args:
        translators: By name of their set and seed, or by seed where there is one set.

    Raises:
        PairError: Sender and receiver tokenise differently where positions must meet,
            widths that differ where raw states are sent, prompts beyond the window.
        TranslatorError: A translator's widths do not fit the pair.
        ExperimentError: Explicit positions that a prompt does not have, an unknown channel.
    """
    cells = experiment_cells(experiment)
    conditions = experiment.resolved_conditions
    # The span of a question follows from the sender's prompt, whatever is written there.
    reads_sender = any(c.reads_sender or c.positions == "question" for c in conditions)
    used = {condition.prompt for condition in conditions}
    prompts = build_prompts(
        pair,
        rows,
        experiment.prompts,
        experiment.decoding,
        sender=reads_sender,
        used=used,
        contexts={c.sender_context for c in conditions if c.sender_context is not None},
        deals={(c.senders.readers, c.sender_context) for c in conditions if c.senders is not None}
        | {(c.senders.readers, None) for c in conditions if c.senders is not None},
    )
    limit = min(experiment.limit or len(rows), len(rows))
    row_ids = [row.row_id for row in rows]
    answers = [answer_names(row) for row in rows]
    shuffles = any(condition.shuffled for condition in conditions)
    beside = other_answers(experiment, rows, limit)
    ends = experiment.likelihoods is not None and experiment.likelihoods.end
    plan = Plan(
        experiment=experiment,
        rows=rows,
        limit=limit,
        cells=cells,
        prompts=prompts,
        answers=_answers(experiment, pair, rows[:limit], prompts, used),
        other_answers=beside,
        others=_others(experiment, pair, rows[:limit], prompts, used, beside),
        end_ids=end_ids(pair.receiver) if ends else (),
        donors={
            seed: choose_donors(prompts.lengths, row_ids, seed, experiment.rng, answers)
            for seed in (experiment.seeds if shuffles else ())
        },
    )
    plan = replace(plan, measured_on=_measured_on(plan))
    _check_turns(plan, pair, sent=reads_sender)
    return on_pair(plan, pair, translators)


def on_pair(
    plan: Plan,
    pair: Pair,
    translators: Mapping[TranslatorKey, Translator] | Mapping[int, Translator],
) -> Workload:
    """Return a plan, made here or elsewhere, made ready on a pair that this process holds.

    Raises:
        StatebridgeError: As `prepare`.
    """
    return with_translators(Workload(plan, pair, {}, _noise(plan, pair)), translators)


def with_translators(
    workload: Workload,
    translators: Mapping[TranslatorKey, Translator] | Mapping[int, Translator],
) -> Workload:
    """Return the workload with translators, after every channel has checked it.

    Raises:
        StatebridgeError: As `prepare`.
    """
    keyed = {
        (DEFAULT_SET, key) if isinstance(key, int) else key: translator
        for key, translator in translators.items()
    }
    workload, cells = replace(workload, translators=keyed), workload.plan.cells
    for channel in dict.fromkeys(cell.condition.channel_name for cell in cells):
        own = [cell for cell in cells if cell.condition.channel_name == channel]
        CHANNELS.get(channel)().check(workload, own)
    return workload


def _check_turns(plan: Plan, pair: Pair, *, sent: bool) -> None:
    """Refuse prompts on both sides of a length at which a model encodes positions otherwise.

    The plain path has one length of the receiver's prompts in a batch; the sender's prompts of one
    group, and all prompts of the shared path, meet in one.

    Raises:
        PairError: Names the model and the length.
    """
    new = plan.experiment.decoding.max_new_tokens
    read = [
        len(ids)
        for found in (plan.prompts.receiver, *plan.prompts.private.values())
        for ids in found
    ]
    sides = [(pair.receiver, read, new)] if plan.experiment.path == "shared" else []
    if sent:
        dealt = (part for rows in plan.prompts.dealt.values() for part in zip(*rows, strict=True))
        prompts = plan.prompts.sender, *plan.prompts.contexts.values(), *dealt
        sides.append((pair.sender, [len(ids) for found in prompts for ids in found], 0))
    for model, lengths, more in sides:
        turn = turning_point(model.module)
        if turn is not None and min(lengths) <= turn < max(lengths) + more:
            raise PairError(
                f"{model.name}: encodes positions otherwise in texts of more than {turn} tokens, "
                f"and the prompts have {min(lengths)} to {max(lengths)}, so that rows that run "
                "together would change each other; use execution.path: plain for the receiver, and "
                "rows on one side of that length for the sender (decoding.max_prompt_tokens)"
            )


def stand_ins(experiment: Experiment, pair: Pair) -> dict[TranslatorKey, Translator]:
    """Return maps of the pair's widths, to prepare with before the declared ones are there."""
    needed = {
        experiment.translator_set(condition): condition.map_kind
        for condition in experiment.resolved_conditions
        if condition.translates
    }
    fitting: dict[str, Translator] = {}
    for name, declared in experiment.translator_sets.items():
        with torch.device("meta"):
            fit = declared if isinstance(declared, Fit) else None
            fitting[name] = empty_message_map(pair, needed.get(name), fit)
    return {(name, seed): made for name, made in fitting.items() for seed in experiment.seeds}


def _measured_on(plan: Plan) -> dict[LayerShare, tuple[int, ...]]:
    """Return the rows on which the importance of layers is measured, for each choice of layers.

    They are of the half that a layer search chooses on, unless a choice asks for the first rows.
    """
    found: dict[LayerShare, tuple[int, ...]] = {}
    ids = [row.row_id for row in plan.rows[: plan.limit]]
    for choice in (cell.condition.layers for cell in plan.cells):
        if not isinstance(choice, LayerShare) or choice.by != "importance":
            continue
        chosen = list(range(plan.limit))
        if choice.held_out:
            settings = Choose()
            try:
                split = split_rows(ids, settings.share, settings.seed, least=1)
            except ResultError:
                raise ExperimentError(
                    f"layers: importance is measured on held-out rows, and {len(ids)} leave none; "
                    "run more rows, or choose layers by another rule"
                ) from None
            chosen = [place for place, row_id in enumerate(ids) if row_id in split.choosing]
        found[choice] = tuple(chosen[: choice.rows])
    return found


def _answers(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    used: Collection[Prompt],
) -> dict[Prompt, tuple[TokenIds, ...]]:
    chat = experiment.prompts.chat
    return {
        prompt: answers_after(pair.receiver, texts, ids, rows, chat)
        for prompt, texts, ids in _textless(experiment, rows, prompts, used)
    }


def _others(
    experiment: Experiment,
    pair: Pair,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    used: Collection[Prompt],
    beside: tuple[OtherAnswers, ...],
) -> dict[Prompt, tuple[tuple[TokenIds, ...], ...]]:
    if not beside:
        return {}
    chat = experiment.prompts.chat
    return {
        prompt: others_after(pair.receiver, texts, ids, rows, beside, chat)
        for prompt, texts, ids in _textless(experiment, rows, prompts, used)
    }


def _textless(
    experiment: Experiment,
    rows: Sequence[DatasetRow],
    prompts: PromptTable,
    used: Collection[Prompt],
) -> Iterator[tuple[Prompt, list[str], tuple[TokenIds, ...]]]:
    """Yield the prompts in use that hold no text of a model, as texts and as ids."""
    # A placeholder prompt has another text than this one, but the same end, and so the same answer.
    declared = experiment.prompts
    for prompt in (prompt for prompt in TEXTLESS if prompt in used):
        template = declared.question_only if prompt == "question_only" else declared.task
        yield prompt, fill(template, rows), prompts.read(prompt)[: len(rows)]


def _noise(plan: Plan, pair: Pair) -> dict[tuple[Prompt, int], Noise]:
    noise: dict[tuple[Prompt, int], Noise] = {}
    experiment, row_ids = plan.experiment, [row.row_id for row in plan.rows]
    drawing = {c.prompt for c in experiment.resolved_conditions if c.draws_noise}
    width = pair.receiver.width
    for prompt in drawing:
        lengths = [len(ids) for ids in plan.prompts.read(prompt)]
        for seed in experiment.seeds:
            noise[prompt, seed] = noise_of(experiment.rng, seed, row_ids, lengths, width)
    return noise
