"""Lessons of the taught pair: its tokenizer, and token sequences made of generated rows.

A lesson is a task prompt with its answer and the end token, followed by further questions on
the same context. The further ones are asked over single links or over decoy chains; they are
found by reading the row's facts back through the templates that wrote them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from statebridge.data import generate_multihop, iter_multihop, row_identity
from statebridge.data.multihop import Wording, plainly
from statebridge.data.multihop_domains import DOMAINS, QUESTIONS, Domain
from statebridge.experiment.experiment import Prompts
from statebridge.records import DatasetRow

END = "<|endoftext|>"
SLOT = "<|slot|>"
HOPS = (2,)
DISTRACTORS = 4
"""Two decoy chains: each context has three candidate answers."""
WORLDS = ("geography", "work")
WORDING: Wording = "plain"
"""Each fact has one form: the pair is there to look things up, not to read widely."""
HELD_OUT_SEED = 0
"""The generator's seed of the rows that the pair is never taught."""

_BY_NAME = {domain.name: plainly(domain) for domain in DOMAINS}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of both models: each word of the generated rows is one token.

    Anything else falls back to bytes. The end token is id 0, the placeholder `<|slot|>` id 1,
    and there is no padding token, as in GPT-NeoX.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = sorted(
        {word for text in _every_wording() for word, _ in byte_level.pre_tokenize_str(text)}
        - set(byte_level.alphabet())
    )
    entries = [END, SLOT, *sorted(byte_level.alphabet()), *words]
    tokenizer = Tokenizer(
        # No merges: a word in the vocabulary is taken whole, any other byte by byte.
        models.BPE(vocab={e: i for i, e in enumerate(entries)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        extra_special_tokens=[SLOT],
    )


def _every_wording() -> Iterator[str]:
    prompts = Prompts()
    for row in generate_multihop(4000, (2, 3, 4), seed=1, domains=WORLDS, wording=WORDING):
        yield prompts.task.format(context=row.context, question=row.question)
        yield prompts.relay_sender.format(context=row.context)
    for domain in (_BY_NAME[name] for name in WORLDS):
        for kind in domain.kinds:
            yield from kind.names
            yield from (f" {name}" for name in kind.names)


def names_of_worlds() -> list[str]:
    """Return every name of the worlds, sorted."""
    kinds = (kind for world in WORLDS for kind in _BY_NAME[world].kinds)
    return sorted({name for kind in kinds for name in kind.names})


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence read back: link `step` of its domain leads from `a` to `b`."""

    step: int
    a: str
    b: str


def read_facts(row: DatasetRow) -> list[Fact]:
    """Return the facts of a generated row, in the order of its context.

    Raises:
        ValueError: A sentence was not written by the templates of the row's domain.
    """
    domain = _domain(row)
    return [_read_fact(sentence, domain) for sentence in sentences(row)]


def sentences(row: DatasetRow) -> list[str]:
    """Return the sentences of a row's context."""
    return re.split(r"(?<=\.) ", row.context)


def cut_around(text: str, name: str) -> tuple[str, str, str]:
    """Return the text before a name, the name with the space before it if any, the rest."""
    start = text.index(name)
    end = start + len(name)
    start -= text[start - 1] == " "
    return text[:start], text[start:end], text[end:]


def _domain(row: DatasetRow) -> Domain:
    return _BY_NAME[str(row.attributes["domain"])]


def _read_fact(sentence: str, domain: Domain) -> Fact:
    for pattern, step in _PATTERNS[domain.name]:
        match = pattern.fullmatch(sentence)
        if match:
            return Fact(step, match["a"], match["b"])
    raise ValueError(f"no template of domain {domain.name} reads {sentence!r}")


def _patterns(domain: Domain) -> list[tuple[re.Pattern[str], int]]:
    found = []
    for step, link in enumerate(domain.links):
        for text in link.facts:
            pattern = re.escape(text)
            for place, kind in (("a", domain.kinds[step]), ("b", domain.kinds[step + 1])):
                names = "|".join(map(re.escape, kind.names))
                pattern = pattern.replace(rf"\{{{place}\}}", f"(?P<{place}>{names})")
            found.append((re.compile(pattern), step))
    return found


_PATTERNS = {name: _patterns(domain) for name, domain in _BY_NAME.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that names `name`, and the names that its links lead to, the answer last."""

    question: str
    name: str
    found: tuple[str, ...]


def questions_on(row: DatasetRow, rng: random.Random) -> list[Asked]:
    """Return a question over each link and each chain of two links, the row's own one first.

    The others are worded anew and are in random order.
    """
    domain, facts = _domain(row), read_facts(row)
    chains = [
        (first, second)
        for first, second in product(facts, facts)
        if second.step == first.step + 1 and first.b == second.a
    ]
    own = next(chain for chain in chains if chain[-1].b == row.answer)
    others = [(fact,) for fact in facts] + [chain for chain in chains if chain != own]
    rng.shuffle(others)
    asked = [Asked(row.question, own[0].a, tuple(fact.b for fact in own))]
    for chain in others:
        phrase = domain.kinds[chain[0].step].mention.format(a=chain[0].a)
        for fact in chain:
            phrase = rng.choice(domain.links[fact.step].phrases).format(x=phrase)
        question = QUESTIONS[0].format(x=phrase)
        asked.append(Asked(question, chain[0].a, tuple(fact.b for fact in chain)))
    return asked


def training_rows(seed: int, distractors: int, forbidden: frozenset[str]) -> Iterator[DatasetRow]:
    """Yield generated rows without end, none of whose `row_identity` is forbidden."""
    rows = iter_multihop(HOPS, distractors, seed, domains=WORLDS, wording=WORDING)
    return (row for row in rows if row_identity(row) not in forbidden)


def held_out_rows(rows: int) -> list[DatasetRow]:
    """Return rows for evaluation: what `dataset: {generate: ...}` gives with these settings."""
    return generate_multihop(
        rows, HOPS, DISTRACTORS, HELD_OUT_SEED, domains=WORLDS, wording=WORDING
    )


def identities(rows: Iterable[DatasetRow]) -> frozenset[str]:
    """Return the `row_identity` of each row."""
    return frozenset(map(row_identity, rows))


@dataclass(frozen=True, slots=True)
class Hint:
    """The name that the state at one position should hold, after the block of a stage.

    Stages: 0, at the second name of a fact, the first one. 1 and 2, at the name in a question,
    where one and two links lead. 3, before an answer, the answer.
    """

    stage: int
    position: int
    token: int


@dataclass(frozen=True, slots=True)
class Lesson:
    """Token ids, which of them are answers (with the end token after each), and hints."""

    ids: list[int] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, answer: bool = False) -> None:
        """Append tokens, all of them part of an answer or none."""
        self.ids.extend(ids)
        self.answers.extend([answer] * len(ids))

    def hint(self, stage: int, tokens: Sequence[int]) -> None:
        """Hint at each of some tokens, at the last position so far."""
        self.hints.extend(Hint(stage, len(self.ids) - 1, token) for token in tokens)


class LessonWriter:
    """Turns rows into lessons.

    Args:
        tokenizer: Of both models.
        blind: The share of lessons in which the context cannot be read: half of them leave
            it out, half have each of its tokens replaced by the placeholder.
        single: The share of lessons that leave the row's own question out, and ask others at
            random, most of which walk one link only. The rest ask over two links first.
        further: How many further questions a lesson holds.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, blind: float, single: float, further: int
    ) -> None:
        self.tokenizer = tokenizer
        self.blind = blind
        self.single = single
        self.further = further
        self._slot = tokenizer.convert_tokens_to_ids(SLOT)

    def write(self, row: DatasetRow, rng: random.Random) -> Lesson:
        """Return one lesson of a row."""
        lesson = Lesson()
        if rng.random() < self.blind:
            if rng.random() < 0.5:
                lesson.add(self._ids("Context:"))
                lesson.add([self._slot] * len(self._ids(f" {row.context}")))
            self._ask(lesson, row.question, row.answer)
            return lesson
        lesson.add(self._ids("Context:"))
        for sentence, fact in zip(sentences(row), read_facts(row), strict=True):
            first, second = sorted((fact.a, fact.b), key=sentence.index)
            before, name, after = cut_around(f" {sentence}", second)
            lesson.add(self._ids(before + name))
            lesson.hint(0, self._name_ids(first))
            lesson.add(self._ids(after))
        asked = questions_on(row, rng)
        if rng.random() < self.single:
            asked = asked[1:]
        else:
            asked.sort(key=lambda each: -len(each.found))  # the row's own one stays first
        for each in asked[: 1 + self.further]:
            self._ask(lesson, each.question, each.found[-1], each)
        return lesson

    def _ask(self, lesson: Lesson, question: str, answer: str, asked: Asked | None = None) -> None:
        lesson.add(self._ids("\nQ:" if lesson.ids else "Q:"))
        if asked is None:
            lesson.add(self._ids(f" {question}\nA:"))
        else:
            before, name, after = cut_around(f" {question}", asked.name)
            lesson.add(self._ids(before + name))
            lesson.hint(1, self._name_ids(asked.found[0]))
            lesson.hint(2, self._name_ids(asked.found[-1]))
            lesson.add(self._ids(f"{after}\nA:"))
            lesson.hint(3, self._name_ids(answer)[:1])
        lesson.add([*self._name_ids(answer), 0], answer=True)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def _name_ids(self, name: str) -> list[int]:
        # A name of two words is in quotation marks, and so has no space before it.
        return self._ids(name if " " in name else f" {name}")
