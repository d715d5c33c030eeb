"""The channel of text: the receiver reads what a model wrote, in words.

`relay`: the sender writes key facts from the context, and the receiver reads them with the
question. `debate` (arXiv 2501.14082 after arXiv 2305.14325): in the first round both models answer
from their own prompt, the sender from the one in which its states are taken, the receiver from
the question alone; in each further round a model reads its own last answer and the other's. The
receiver's last answer is scored; the sender's, which nobody would read, is not generated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

from statebridge.channels.channel import CHANNELS, LaneRow, Operations, Reading
from statebridge.channels.prompts import answer_ids, check_answer_window, check_window, tokenise
from statebridge.channels.workload import Workload
from statebridge.errors import PairError
from statebridge.experiment.cells import Cell
from statebridge.records import Side, Turn
from statebridge.runs.plan import TokenIds

WriteText = Callable[[Side, int, Sequence[TokenIds], int], list[list[int]]]
"""Called with the side that writes, its turn from 0, prompts, and the most new tokens."""


@CHANNELS.add("text")
class TextChannel:
    """Lets the models write, and gives the receiver what they wrote in its prompt."""

    def check(self, workload: Workload) -> None:
        """Refuse prompts too short for what is written into them.

        A relay is cut like every prompt; a debate, and a turn of a chat template, cannot be.

        Raises:
            PairError: Names the first row whose prompt, with the longest texts, is too long.
        """
        plan = workload.plan
        prompts, rows = plan.experiment.prompts, range(plan.limit)
        used = {cell.condition.prompt for cell in plan.cells}
        if "relay" in used and prompts.chat != "none":
            texts = fill(workload, prompts.relay_receiver, rows, [{"relay": ""} for _ in rows])
            _check_room(workload, "receiver", texts, 1)
        if "debate" in used:
            for side in get_args(Side):
                nothing: list[Mapping[Side, str]] = [{"sender": "", "receiver": ""} for _ in rows]
                _check_room(workload, side, _debate_texts(workload, side, rows, nothing), 2)

    def carry(
        self, operations: Operations, cells: Sequence[Cell], rows: Sequence[int]
    ) -> list[LaneRow]:
        """Let the models write, and the receiver answer; once for cells that read the same."""
        results: list[LaneRow] = []
        for alike in _reading_alike(cells):
            write = partial(operations.write_text, alike[0], rows)
            readings = conversation(operations.workload, alike[0], rows, write)
            results += operations.answer(alike, rows, readings)
        return results


def _reading_alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells of a group whose receivers read the same text, together."""
    alike: dict[tuple[int, int | None], list[Cell]] = {}
    for cell in cells:
        # A cell has a seed here only where what is written is sampled.
        alike.setdefault((cell.condition.rounds, cell.seed), []).append(cell)
    return list(alike.values())


def conversation(
    workload: Workload, cell: Cell, rows: Sequence[int], write: WriteText
) -> list[Reading]:
    """Let the models write as a cell declares, and return what the receiver reads last.

    Raises:
        PairError: A prompt is longer than the limit or the window, and cannot be cut because the
            question is at its end.
    """
    if cell.condition.prompt == "debate":
        return _debate(workload, cell.condition.rounds, rows, write)
    return _relay(workload, rows, write)


def _relay(workload: Workload, rows: Sequence[int], write: WriteText) -> list[Reading]:
    prompts = workload.plan.experiment.prompts
    new_tokens = workload.plan.experiment.decoding.relay_max_new_tokens
    texts = fill(workload, prompts.relay_sender, rows)
    read = text_prompts(workload, "sender", texts, rows, new_tokens)
    turns = [(turn,) for turn in _written(workload, "sender", 0, read, new_tokens, write)]
    filled = [{"relay": turn.text} for (turn,) in turns]
    return _readings(workload, fill(workload, prompts.relay_receiver, rows, filled), rows, turns)


def _debate(
    workload: Workload, rounds: int, rows: Sequence[int], write: WriteText
) -> list[Reading]:
    turns: list[tuple[Turn, ...]] = [() for _ in rows]
    last: list[Mapping[Side, str]] | None = None
    new_tokens = workload.plan.experiment.decoding.relay_max_new_tokens
    for round_index in range(rounds - 1):
        answers: dict[Side, list[Turn]] = {}
        for side in get_args(Side):
            texts = _debate_texts(workload, side, rows, last)
            prompts = text_prompts(workload, side, texts, rows, new_tokens, whole=True)
            answers[side] = _written(workload, side, round_index, prompts, new_tokens, write)
            turns = [(*before, new) for before, new in zip(turns, answers[side], strict=True)]
        last = [{side: answers[side][i].text for side in answers} for i in range(len(rows))]
    texts = _debate_texts(workload, "receiver", rows, last)
    return _readings(workload, texts, rows, turns, whole=True)


def _debate_texts(
    workload: Workload,
    side: Side,
    rows: Sequence[int],
    last: Sequence[Mapping[Side, str]] | None,
) -> list[str]:
    prompts = workload.plan.experiment.prompts
    if last is None:
        first = prompts.to_sender if side == "sender" else prompts.question_only
        return fill(workload, first, rows)
    other: Side = "receiver" if side == "sender" else "sender"
    template = prompts.debate_sender if side == "sender" else prompts.debate_receiver
    written = [{"own": of_row[side], "other": of_row[other]} for of_row in last]
    return fill(workload, template, rows, written)


def fill(
    workload: Workload,
    template: str,
    rows: Sequence[int],
    written: Sequence[Mapping[str, str]] | None = None,
) -> list[str]:
    """Fill a template with each row's context and question, and with what was written."""
    return [
        template.format(
            context=workload.plan.rows[row].context,
            question=workload.plan.rows[row].question,
            **({} if written is None else written[place]),
        )
        for place, row in enumerate(rows)
    ]


def text_prompts(
    workload: Workload,
    side: Side,
    texts: Sequence[str],
    rows: Sequence[int],
    new_tokens: int,
    *,
    whole: bool = False,
) -> list[TokenIds]:
    """Tokenise prompts for a model, cut at the prompt limit, and check that they fit it.

    Raises:
        PairError: As `tokenise`, the window is too small, or one that must stay `whole` is
            longer than the limit.
    """
    model, experiment = workload.side(side), workload.plan.experiment
    row_ids = [workload.plan.rows[row].row_id for row in rows]
    limit = experiment.decoding.max_prompt_tokens
    ids = tokenise(model, texts, row_ids, limit + whole, experiment.prompts.chat)
    for row_id, prompt in zip(row_ids, ids, strict=True):
        if len(prompt) > limit:
            raise PairError(
                f"row {row_id}: the {side}'s prompt in the debate is longer than {limit} tokens, "
                "and what is cut would be the question; raise decoding.max_prompt_tokens"
            )
    check_window(model, [len(prompt) for prompt in ids], row_ids, new_tokens)
    return list(ids)


def _written(
    workload: Workload,
    side: Side,
    turn: int,
    prompts: Sequence[TokenIds],
    new_tokens: int,
    write: WriteText,
) -> list[Turn]:
    """Let a model write after each prompt."""
    tokenizer = workload.side(side).tokenizer
    written = write(side, turn, prompts, new_tokens)
    return [
        Turn(side, tokenizer.decode(new, skip_special_tokens=True).strip(), len(prompt), len(new))
        for prompt, new in zip(prompts, written, strict=True)
    ]


def _readings(
    workload: Workload,
    texts: Sequence[str],
    rows: Sequence[int],
    turns: Sequence[tuple[Turn, ...]],
    *,
    whole: bool = False,
) -> list[Reading]:
    """Return the receiver's last prompts with the gold answers after them."""
    plan, receiver = workload.plan, workload.pair.receiver
    new_tokens = plan.experiment.decoding.max_new_tokens
    prompts = text_prompts(workload, "receiver", texts, rows, new_tokens, whole=whole)
    chat = plan.experiment.prompts.chat
    answers = [
        answer_ids(receiver, text, plan.rows[row].answer, chat)
        for text, row in zip(texts, rows, strict=True)
    ]
    check_answer_window(receiver, prompts, answers, [plan.rows[row].row_id for row in rows])
    return [Reading(*parts) for parts in zip(prompts, answers, turns, strict=True)]


def _check_room(workload: Workload, side: Side, texts: Sequence[str], messages: int) -> None:
    plan, model = workload.plan, workload.side(side)
    decoding, chat = plan.experiment.decoding, plan.experiment.prompts.chat
    row_ids = [row.row_id for row in plan.rows[: plan.limit]]
    limit, written = decoding.max_prompt_tokens, messages * decoding.relay_max_new_tokens
    for row_id, ids in zip(row_ids, tokenise(model, texts, row_ids, limit + 1, chat), strict=True):
        longest = len(ids) + written
        if longest > limit:
            raise PairError(
                f"row {row_id}: the {side}'s prompt may have {longest} tokens, {written} of them "
                f"written before, and cannot be cut at {limit}; raise decoding.max_prompt_tokens, "
                "or lower decoding.relay_max_new_tokens"
            )
        if model.window is not None and longest + decoding.max_new_tokens > model.window:
            raise PairError(
                f"row {row_id}: the {side}'s prompt may have {longest} tokens, which with "
                f"{decoding.max_new_tokens} new ones reach beyond the context window of "
                f"{model.name} ({model.window}); lower decoding.relay_max_new_tokens"
            )
