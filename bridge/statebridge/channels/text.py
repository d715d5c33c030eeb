"""The channel of text: the receiver reads text that a model wrote.

`relay`: the sender writes key facts from the context, and the receiver reads them with the
question. `debate` (arXiv 2501.14082 after arXiv 2305.14325): in the first round both models answer
from their own prompt, the sender from the one in which its states are taken, the receiver from
the question alone; in each further round a model reads its own last answer and the other's. The
receiver's last answer is scored; the sender's, which nobody would read, is not generated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from statebridge.channels.channel import CHANNELS, LaneRow, Operations, Reading
from statebridge.channels.inputs.prompt_limit import limited_prompts
from statebridge.channels.inputs.token_ids import (
    answers_after,
    check_window,
    fill,
    others_after,
    tokenise,
)
from statebridge.channels.workload import Workload
from statebridge.errors import ExperimentError, PairError
from statebridge.experiment.cells import Cell
from statebridge.models.chat import takes_template
from statebridge.records import Side, Turn
from statebridge.runs.plan import TokenIds

WriteText = Callable[[Side, int, Sequence[TokenIds], int], list[list[int]]]
"""Called with the side that writes, its turn from 0, prompts, and the most new tokens."""


@CHANNELS.add("text")
class TextChannel:
    """Lets the models write, and gives the receiver their text in its prompt."""

    def check(self, workload: Workload, cells: Sequence[Cell]) -> None:
        """Refuse prompts too short for the text that is written into them.

        Where `decoding.truncate` is `right`, a relay is cut like every prompt, unless it is a turn
        of a chat template; a debate never is.

        Raises:
            PairError: Names the first row whose prompt, with the longest texts, is too long.
            ExperimentError: A condition whose prompt holds no text.
        """
        for condition in (cell.condition for cell in cells):
            if not condition.uses_text:
                raise ExperimentError(
                    f"condition {condition.name}: channel text takes prompt relay or debate, not "
                    f"{condition.prompt}"
                )
        experiment = workload.plan.experiment
        prompts = experiment.prompts
        talk = Conversation(workload, range(workload.plan.limit))
        used = {cell.condition.prompt for cell in cells}
        if "relay" in used:
            talk.relay_prompts()
        if "relay" in used and (prompts.chat != "none" or experiment.decoding.truncate != "right"):
            nothing = [{"relay": ""}] * workload.plan.limit
            talk.check_room("receiver", talk.fill(prompts.relay_receiver, nothing), 1)
        if "debate" in used:
            last: Mapping[Side, str] = {"sender": "", "receiver": ""}
            for side in get_args(Side):
                talk.check_room(side, talk.debate_texts(side, [last] * workload.plan.limit), 2)

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Let the models write, and the receiver answer; once for cells that read the same."""
        talk = Conversation(operations.workload, rows)
        alike: dict[tuple[int, int | None], list[Cell]] = {}
        for cell in cells:
            # A cell has a seed here only where texts are sampled.
            alike.setdefault((cell.condition.rounds, cell.seed), []).append(cell)
        results: list[LaneRow] = []
        for same in alike.values():
            write = partial(operations.write_text, same[0], rows)
            condition = same[0].condition
            readings = (
                talk.debate(condition.rounds, write)
                if condition.prompt == "debate"
                else talk.relay(write)
            )
            results += operations.answer(same, rows, readings)
        return results


@dataclass(frozen=True, slots=True)
class Conversation:
    """Texts about some rows, in the order of `rows`; see the module for who writes which."""

    workload: Workload
    rows: Sequence[int]

    def relay(self, write: WriteText) -> list[Reading]:
        """Let the sender write, and return the receiver's prompts with its text."""
        prompts = self.workload.plan.experiment.prompts
        turns = [(turn,) for turn in self._turns("sender", 0, self.relay_prompts(), write)]
        written = [{"relay": turn.text} for (turn,) in turns]
        texts = self.fill(prompts.relay_receiver, written)
        return self._readings(texts, self.relay_received(texts), turns)

    def relay_prompts(self) -> list[TokenIds]:
        """Return the sender's prompts of a relay.

        Raises:
            PairError: A prompt is longer than the limit or the window, and may not be cut.
        """
        plan, sender = self.workload.plan, self.workload.pair.sender
        prompts, decoding = plan.experiment.prompts, plan.experiment.decoding
        rows = [plan.rows[row] for row in self.rows]
        ids = limited_prompts(sender, prompts.relay_sender, rows, prompts, decoding).ids
        self._check_window("sender", ids, decoding.relay_max_new_tokens)
        return list(ids)

    def debate(self, rounds: int, write: WriteText) -> list[Reading]:
        """Let both models write in all rounds but the last; return the receiver's last prompts.

        Raises:
            PairError: A prompt is longer than the limit or the window, and cannot be cut because
                the question is at its end.
        """
        decoding = self.workload.plan.experiment.decoding
        turns: list[tuple[Turn, ...]] = [() for _ in self.rows]
        last: list[Mapping[Side, str]] | None = None
        for round_index in range(rounds - 1):
            answers: dict[Side, list[Turn]] = {}
            for side in get_args(Side):
                texts = self.debate_texts(side, last)
                prompts = self.debate_prompts(side, texts, decoding.relay_max_new_tokens)
                answers[side] = self._turns(side, round_index, prompts, write)
                turns = [(*before, new) for before, new in zip(turns, answers[side], strict=True)]
            last = [{side: answers[side][i].text for side in answers} for i in range(len(turns))]
        texts = self.debate_texts("receiver", last)
        prompts = self.debate_prompts("receiver", texts, decoding.max_new_tokens)
        return self._readings(texts, prompts, turns)

    def debate_texts(self, side: Side, last: Sequence[Mapping[Side, str]] | None) -> list[str]:
        """Return a model's prompts in a round, with both models' last answers; None at first."""
        prompts = self.workload.plan.experiment.prompts
        if last is None:
            return self.fill(prompts.to_sender if side == "sender" else prompts.question_only)
        other: Side = "receiver" if side == "sender" else "sender"
        template = prompts.debate_sender if side == "sender" else prompts.debate_receiver
        return self.fill(template, [{"own": row[side], "other": row[other]} for row in last])

    def fill(self, template: str, written: Sequence[Mapping[str, str]] | None = None) -> list[str]:
        """Fill a template with each row's context and question, and with the text written."""
        return fill(template, [self.workload.plan.rows[row] for row in self.rows], written)

    def relay_received(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the receiver's prompts with a relay, whole unless they may be cut on the right.

        Raises:
            PairError: A prompt with its new tokens reaches beyond the window.
        """
        experiment, receiver = self.workload.plan.experiment, self.workload.pair.receiver
        decoding, chat = experiment.decoding, experiment.prompts.chat
        may_be_cut = decoding.truncate == "right" and not takes_template(
            receiver.tokenizer, chat, receiver.name
        )
        # A text may have more tokens when it is read than when it was written; there was room.
        limit = decoding.max_prompt_tokens if may_be_cut else None
        ids = tokenise(receiver, texts, self._row_ids(), limit, chat)
        self._check_window("receiver", ids, decoding.max_new_tokens)
        return list(ids)

    def debate_prompts(self, side: Side, texts: Sequence[str], new_tokens: int) -> list[TokenIds]:
        """Return a model's prompts in a debate, whole.

        Raises:
            PairError: A prompt is longer than the limit or the window.
        """
        model, experiment = self.workload.model(side), self.workload.plan.experiment
        limit = experiment.decoding.max_prompt_tokens
        ids = tokenise(model, texts, self._row_ids(), chat=experiment.prompts.chat)
        for row_id, prompt in zip(self._row_ids(), ids, strict=True):
            if len(prompt) > limit:
                raise PairError(
                    f"row {row_id}: the {side}'s prompt in the debate is longer than {limit} "
                    "tokens, and what is cut would be the question; raise "
                    "decoding.max_prompt_tokens"
                )
        self._check_window(side, ids, new_tokens)
        return list(ids)

    def _check_window(self, side: Side, prompts: Sequence[TokenIds], new_tokens: int) -> None:
        lengths = [len(ids) for ids in prompts]
        check_window(self.workload.model(side), lengths, self._row_ids(), new_tokens)

    def check_room(self, side: Side, texts: Sequence[str], messages: int) -> None:
        """Refuse prompts that the longest texts, so many in each, would make too long.

        Raises:
            PairError: Names the first such row.
        """
        model, experiment = self.workload.model(side), self.workload.plan.experiment
        decoding, chat = experiment.decoding, experiment.prompts.chat
        limit, written = decoding.max_prompt_tokens, messages * decoding.relay_max_new_tokens
        row_ids = self._row_ids()
        prompts = tokenise(model, texts, row_ids, chat=chat)
        for row_id, ids in zip(row_ids, prompts, strict=True):
            longest = len(ids) + written
            if longest > limit:
                raise PairError(
                    f"row {row_id}: the {side}'s prompt may have {longest} tokens, {written} of "
                    f"them written before, and cannot be cut at {limit}; raise "
                    "decoding.max_prompt_tokens, or lower decoding.relay_max_new_tokens"
                )
            if model.window is not None and longest + decoding.max_new_tokens > model.window:
                raise PairError(
                    f"row {row_id}: the {side}'s prompt may have {longest} tokens, which with "
                    f"{decoding.max_new_tokens} new ones reach beyond the context window of "
                    f"{model.name} ({model.window}); lower decoding.relay_max_new_tokens"
                )

    def _row_ids(self) -> list[str]:
        return [self.workload.plan.rows[row].row_id for row in self.rows]

    def _turns(
        self, side: Side, turn: int, prompts: Sequence[TokenIds], write: WriteText
    ) -> list[Turn]:
        """Let a model write after each prompt."""
        tokenizer = self.workload.model(side).tokenizer
        new_tokens = self.workload.plan.experiment.decoding.relay_max_new_tokens
        written = write(side, turn, prompts, new_tokens)
        return [
            Turn(side, tokenizer.decode(new, skip_special_tokens=True).strip(), len(ids), len(new))
            for ids, new in zip(prompts, written, strict=True)
        ]

    def _readings(
        self,
        texts: Sequence[str],
        prompts: Sequence[TokenIds],
        turns: Sequence[tuple[Turn, ...]],
    ) -> list[Reading]:
        """Return the receiver's last prompts with the gold answers after them."""
        plan, receiver = self.workload.plan, self.workload.pair.receiver
        rows = [plan.rows[row] for row in self.rows]
        chat = plan.experiment.prompts.chat
        answers = answers_after(receiver, texts, prompts, rows, chat)
        beside = [plan.other_answers[row] for row in self.rows] if plan.other_answers else None
        others: Sequence[tuple[TokenIds, ...]] = [()] * len(rows)
        if beside is not None:
            others = others_after(receiver, texts, prompts, rows, beside, chat)
        return [Reading(*parts) for parts in zip(prompts, answers, turns, others, strict=True)]
