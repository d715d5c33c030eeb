"""Training a small GPT-NeoX model to answer generated multi-hop rows, on one core.

The loss is that of the answers plus a share of that of all tokens: on answers alone, models
of this size stay at chance.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle

import torch
from torch.nn.functional import cross_entropy
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scripts.demo_pair.lessons import (
    Lesson,
    LessonWriter,
    held_out_rows,
    identities,
    training_rows,
)
from scripts.demo_pair.spelling import SpelledNames
from scripts.demo_pair.untaught import Shape
from statebridge.experiment.experiment import Prompts
from statebridge.records import DatasetRow

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a course, easier or harder."""

    share: float
    """Share of the course's steps."""
    distractors: tuple[int, ...]
    """Taken in turn, batch by batch."""
    single: float
    """Share of lessons whose first question walks one link only."""
    further: int
    """Questions on the same context after the first."""
    stack: bool = False
    """Whether the block of the second link first becomes a copy of that of the first."""


@dataclass(frozen=True, slots=True)
class Course:
    """How one model is taught."""

    shape: Shape
    steps: int
    stages: tuple[int, ...]
    """The blocks after which the hints of each stage are due; see `Hint`."""
    blind: float = 0.0
    """See `LessonWriter`; nothing is blind before blocks are stacked."""
    phases: tuple[Phase, ...] = (
        Phase(0.5, distractors=(1, 2), single=0.6, further=3),
        Phase(0.2, distractors=(1, 2), single=0.1, further=2, stack=True),
        Phase(0.3, distractors=(2, 4), single=0.1, further=2),
    )
    batch: int = 32
    matrix_rate: float = 0.005
    """Highest learning rate of the blocks' matrices, under Muon. It took some two thirds of the
    steps that AdamW took, which matters on one core."""
    rate: float = 2e-3
    """Highest learning rate of everything else, under AdamW."""
    warm_up: int = 50
    all_tokens: float = 0.3
    """Weight of the loss on all tokens, beside that of the answers."""
    hints: float = 0.5
    """Weight of the mean loss on hints."""
    seed: int = 0
    """Seed of the weights, the rows and the lessons; the held-out rows have another seed."""
    report_every: int = 50
    held_out: int = 200


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the training log."""

    step: int
    loss_answers: float
    loss_all: float
    loss_hints: tuple[float, ...]
    accuracy: float
    question_only: float
    seconds: float = field(compare=False)


COURSES = {
    "sender": Course(Shape(blocks=5, width=96, heads=4), steps=1200, stages=(0, 1, 2, 3)),
    "receiver": Course(
        Shape(blocks=6, width=112, heads=4), steps=1000, stages=(0, 1, 2, 3), blind=0.2
    ),
}


SPELLING_COURSES = {
    side: replace(
        course,
        steps=150,
        phases=(Phase(1.0, distractors=(2, 4), single=0.1, further=2),),
        matrix_rate=0.0015,
        rate=7e-4,
        warm_up=20,
        seed=1,
        report_every=25,
    )
    for side, course in COURSES.items()
}
"""The last stretch, in which the vectors of names are linear in their spelling."""


def teach(
    course: Course,
    tokenizer: PreTrainedTokenizerFast,
    model: GPTNeoXForCausalLM,
    names: SpelledNames | None = None,
) -> Iterator[Progress]:
    """Teach a model in place; yield a line of the log every `report_every` steps and at the end.

    At the end the weights are rounded to what float16 can hold, before they are measured.
    The same course gives the same weights, bit by bit, on one machine with one thread. With
    `names`, their vectors are made and kept linear in spelling.
    """
    rows = held_out_rows(course.held_out)
    batches = _batches(course, tokenizer, identities(rows))
    optimisers, schedules = _optimisers(course, model, 0)
    table = model.get_input_embeddings().weight
    if names is not None:
        names.start(table)
    start = time.monotonic()
    sums = [0.0] * 6
    since = 0
    for step in range(1, course.steps + 1):
        model.train()
        lessons, stack = next(batches)
        if stack:
            _stack(model, course.stages)
            # What the optimisers know of the block that is copied into is of another block.
            optimisers, schedules = _optimisers(course, model, step - 1)
        losses = lesson_losses(model, lessons, course.stages)
        loss = losses[0] + course.all_tokens * losses[1] + course.hints * sum(losses[2:]) / 4
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        if names is not None:
            names.keep(table)
        sums = [total + each.item() for total, each in zip(sums, losses, strict=True)]
        since += 1
        if step == course.steps:
            _round_to_half(model)
        if step % course.report_every == 0 or step == course.steps:
            yield Progress(
                step,
                round(sums[0] / since, 5),
                round(sums[1] / since, 5),
                tuple(round(total / since, 5) for total in sums[2:]),
                accuracy(model, tokenizer, rows),
                accuracy(model, tokenizer, rows, template="Q: {question}\nA:"),
                round(time.monotonic() - start, 1),
            )
            sums, since = [0.0] * 6, 0


def _optimisers(
    course: Course, model: GPTNeoXForCausalLM, done: int
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LambdaLR]]:
    """Return fresh optimisers and their rates: up, level, down over the course's last third."""
    table = model.get_input_embeddings().weight
    matrices = [w for w in model.parameters() if w.ndim == 2 and w is not table]
    others = [w for w in model.parameters() if w.ndim != 2 or w is table]
    optimisers = [
        torch.optim.Muon(matrices, lr=course.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=course.rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]

    def rate(step: int) -> float:
        left = 1 - (done + step) / course.steps
        return max(0.0, min(1.0, (step + 1) / course.warm_up, 3 * left))

    return optimisers, [torch.optim.lr_scheduler.LambdaLR(one, rate) for one in optimisers]


@torch.no_grad()
def _round_to_half(model: GPTNeoXForCausalLM) -> None:
    for weight in model.parameters():
        weight.copy_(weight.half())


def _batches(
    course: Course, tokenizer: PreTrainedTokenizerFast, forbidden: frozenset[str]
) -> Iterator[tuple[list[Lesson], bool]]:
    rng = random.Random(f"statebridge.teaching|{course.seed}")
    counts = sorted({count for phase in course.phases for count in phase.distractors})
    # Seed 0 makes the held-out rows.
    sources = {
        count: training_rows(1000 * (course.seed + 1) + count, count, forbidden) for count in counts
    }
    stacked = not any(phase.stack for phase in course.phases)
    for phase in course.phases:
        stacked = stacked or phase.stack
        blind = course.blind if stacked else 0.0
        writer = LessonWriter(tokenizer, blind, phase.single, phase.further)
        steps = range(math.ceil(phase.share * course.steps))
        for step, count in zip(steps, cycle(phase.distractors), strict=False):
            lessons = [writer.write(next(sources[count]), rng) for _ in range(course.batch)]
            yield lessons, phase.stack and step == 0


def _stack(model: GPTNeoXForCausalLM, stages: Sequence[int]) -> None:
    """Copy the block that looks up a link into the one that looks up the next.

    The second look-up is the first one over again, from where the first one led; without the
    copy it stays at chance for a thousand steps. After progressive stacking (Gong et al.,
    ICML 2019).
    """
    blocks = model.gpt_neox.layers
    blocks[stages[2]].load_state_dict(blocks[stages[1]].state_dict())


def lesson_losses(
    model: GPTNeoXForCausalLM,
    lessons: Sequence[Lesson],
    stages: Sequence[int],
) -> list[torch.Tensor]:
    """Return mean cross-entropies in nats: of answers, of all tokens, of each stage's hints.

    What a state says before the last block is read as the last one is: through the final norm
    and the table of tokens.
    """
    length = max(len(lesson.ids) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    targets = torch.full((len(lessons), length), IGNORED)
    is_answer = torch.zeros(len(lessons), length, dtype=torch.bool)
    for place, lesson in enumerate(lessons):
        count = len(lesson.ids)
        ids[place, :count] = torch.tensor(lesson.ids)
        targets[place, :count] = ids[place, :count]
        is_answer[place, :count] = torch.tensor(lesson.answers)
    # Padded on the right: causal attention never looks there, and there is no target.
    output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    losses = cross_entropy(
        output.logits[:, :-1].flatten(0, 1),
        targets[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    real = targets[:, 1:].flatten() != IGNORED
    means = [losses[is_answer[:, 1:].flatten()].mean(), losses[real].mean()]
    for stage, block in enumerate(stages):
        due = [
            (place, hint.position, hint.token)
            for place, lesson in enumerate(lessons)
            for hint in lesson.hints
            if hint.stage == stage
        ]
        places, positions, tokens = torch.tensor(due).T
        states = output.hidden_states[block + 1][places, positions]
        normed = model.gpt_neox.final_layer_norm(states)
        means.append(cross_entropy(model.get_output_embeddings()(normed), tokens))
    return means


@torch.no_grad()
def accuracy(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[DatasetRow],
    template: str | None = None,
) -> float:
    """Return the share of rows after whose prompt the likeliest token is the answer's.

    Each answer is one token of the pair's tokenizer, so that no decoding is needed. The
    template is the task prompt unless given.
    """
    model.eval()
    task = template or Prompts().task
    prompts = [
        tokenizer.encode(task.format(context=row.context, question=row.question)) for row in rows
    ]
    golds = [tokenizer.encode(f" {row.answer}")[0] for row in rows]
    right = 0
    for first in range(0, len(rows), 64):
        some = prompts[first : first + 64]
        ids = torch.zeros(len(some), max(map(len, some)), dtype=torch.long)
        for place, prompt in enumerate(some):
            ids[place, : len(prompt)] = torch.tensor(prompt)
        last = torch.tensor([len(prompt) - 1 for prompt in some])
        hidden = model.gpt_neox(input_ids=ids, use_cache=False).last_hidden_state
        best = model.get_output_embeddings()(hidden[torch.arange(len(some)), last]).argmax(-1)
        right += int((best == torch.tensor(golds[first : first + 64])).sum())
    return right / len(rows)
