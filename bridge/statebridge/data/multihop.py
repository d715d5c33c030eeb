"""Our own multi-hop rows: chains of invented facts, so that everything runs offline.

A row walks two to four links of a domain (person, city, province, country, continent, ...)
and asks for the end of the chain by its start. Its distractors are facts of decoy chains of
the same links between other things, the decoy answer first. Facts hold for one row only and
the names are drawn evenly, so neither knowledge nor a favourite answer helps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Literal

from statebridge.data.multihop_domains import DOMAINS, QUESTIONS, Domain
from statebridge.data.rows import row_identity
from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow

KNOWN_HOPS = (2, 3, 4)
Wording = Literal["varied", "plain"]
ALL_NAMES = (0.0, 1.0)
MAX_DISTRACTORS = 50
"""With more, the lists of names are too short for distinct decoys."""


def generate_multihop(
    rows: int,
    hops: Sequence[int] = KNOWN_HOPS,
    distractors: int = 2,
    seed: int = 0,
    *,
    domains: Sequence[str] | None = None,
    wording: Wording = "varied",
    names: tuple[float, float] = ALL_NAMES,
) -> list[DatasetRow]:
    """Return generated rows; see `iter_multihop`.

    Args:
        rows: How many, at least 1. The first rows are the same however many are asked for.
        hops: Chain lengths, from 2, 3 and 4, taken in turn.
        distractors: Facts per row that do not bear on the question, 0 to 50.
        seed: Any integer.
        domains: Names of the domains that take turns; all if not given.
        wording: `plain` words each fact and each question in one way only.
        names: Part of each list of names to draw from, as shares of its length.

    Raises:
        DatasetError: One of the above is out of range, or an unknown domain.
    """
    if rows < 1:
        raise DatasetError(f"generated rows: rows is {rows}; ask for at least 1")
    made = iter_multihop(hops, distractors, seed, domains=domains, wording=wording, names=names)
    return list(islice(made, rows))


def iter_multihop(
    hops: Sequence[int] = KNOWN_HOPS,
    distractors: int = 2,
    seed: int = 0,
    *,
    domains: Sequence[str] | None = None,
    wording: Wording = "varied",
    names: tuple[float, float] = ALL_NAMES,
) -> Iterator[DatasetRow]:
    """Yield generated rows without end: ids `mh_gen_000000`, ...

    Attributes: hops, domain, answer_type (the kind of thing asked for). The answer occurs
    once in the context. No two rows have the same context, question and answer. Each row
    has a generator of its own, keyed by seed and index; hops and domains take turns.

    Raises:
        DatasetError: `hops` or `distractors` is out of range, or an unknown domain (raised
            here, not later).
    """
    chosen = tuple(hops)
    wrong = next((h for h in chosen if h not in KNOWN_HOPS), None)
    if not chosen or wrong is not None:
        found = "empty" if wrong is None else f"{wrong!r}"
        raise DatasetError(f"generated rows: hops is {found}; give one or more of 2, 3, 4")
    if not 0 <= distractors <= MAX_DISTRACTORS:
        raise DatasetError(
            f"generated rows: distractors is {distractors}; give 0 to {MAX_DISTRACTORS}"
        )
    worlds = DOMAINS if domains is None else tuple(_domain(name) for name in domains)
    if not worlds:
        raise DatasetError("generated rows: domains is empty; name at least one")
    if names != ALL_NAMES:
        worlds = tuple(with_part_of_names(domain, names) for domain in worlds)
        _check_names_suffice(worlds, chosen, distractors, names)
    questions: tuple[str, ...] = QUESTIONS
    if wording == "plain":
        worlds, questions = tuple(map(plainly, worlds)), QUESTIONS[:1]
    return _rows(chosen, distractors, seed, worlds, questions)


def plainly(domain: Domain) -> Domain:
    """Return a domain in which each link has one fact and one phrase."""
    first, second, third, fourth = (
        replace(link, facts=link.facts[:1], phrases=link.phrases[:1]) for link in domain.links
    )
    return replace(domain, links=(first, second, third, fourth))


def with_part_of_names(domain: Domain, part: tuple[float, float]) -> Domain:
    """Return a domain that draws from a part of each list of names.

    Args:
        domain: Its kinds that share a list of names share the part too.
        part: Where the part starts and ends, as shares of the list: (0, 0.8) and (0.8, 1) have no
            name in common.
    """
    kept = {id(kind.names): part_of_names(kind.names, part) for kind in domain.kinds}
    first, second, third, fourth, fifth = (
        replace(kind, names=kept[id(kind.names)]) for kind in domain.kinds
    )
    return replace(domain, kinds=(first, second, third, fourth, fifth))


def part_of_names(names: tuple[str, ...], part: tuple[float, float]) -> tuple[str, ...]:
    """Return the part of a list of names, the same for the same list and shares."""
    start, end = (round(share * len(names)) for share in part)
    # The lists are in alphabetical order, and a part is to be like the whole.
    order = random.Random("statebridge.multihop.names").sample(names, len(names))  # noqa: S311
    return tuple(sorted(order[start:end]))


def _check_names_suffice(
    domains: Sequence[Domain], hops: Sequence[int], distractors: int, part: tuple[float, float]
) -> None:
    for domain in domains:
        for length in hops:
            chains = 1 + -(-distractors // length)
            for start in range(len(domain.links) - length + 1):
                lists = [kind.names for kind in domain.kinds[start : start + length + 1]]
                short = next((n for n in lists if len(n) < chains * lists.count(n)), None)
                if short is not None:
                    raise DatasetError(
                        f"generated rows: names {list(part)} leaves {len(short)} names of a list, "
                        f"and a row needs {chains * lists.count(short)} of them; widen the part"
                    )


def _domain(name: str) -> Domain:
    by_name = {domain.name: domain for domain in DOMAINS}
    if name not in by_name:
        raise DatasetError(f"generated rows: unknown domain {name!r}; {nearest(name, by_name)}")
    return by_name[name]


def _rows(
    hops: tuple[int, ...],
    distractors: int,
    seed: int,
    domains: tuple[Domain, ...],
    questions: Sequence[str],
) -> Iterator[DatasetRow]:
    seen: set[bytes] = set()
    for index in count():
        # Text seeds go through SHA-512: neighbouring rows and seeds do not resemble each other.
        rng = random.Random(f"statebridge.multihop|{seed}|{index}")  # noqa: S311
        length = hops[index % len(hops)]
        domain = domains[index // len(hops) % len(domains)]
        while True:
            row = _row(f"mh_gen_{index:06d}", domain, length, distractors, rng, questions)
            identity = bytes.fromhex(row_identity(row))
            if identity not in seen:
                break
        seen.add(identity)
        yield row


def _row(
    row_id: str,
    domain: Domain,
    hops: int,
    distractors: int,
    rng: random.Random,
    questions: Sequence[str],
) -> DatasetRow:
    start = rng.randrange(len(domain.links) - hops + 1)
    kinds = domain.kinds[start : start + hops + 1]
    links = domain.links[start : start + hops]
    decoys = -(-distractors // hops)

    free = {id(kind.names): rng.sample(kind.names, len(kind.names)) for kind in kinds}
    chains = [[free[id(kind.names)].pop() for kind in kinds] for _ in range(1 + decoys)]

    def fact(chain: list[str], step: int) -> str:
        return rng.choice(links[step].facts).format(a=chain[step], b=chain[step + 1])

    facts = [fact(chains[0], step) for step in range(hops)]
    decoy_steps = [(chain, step) for chain in chains[1:] for step in reversed(range(hops))]
    facts += [fact(chain, step) for chain, step in decoy_steps[:distractors]]
    rng.shuffle(facts)

    phrase = kinds[0].mention.format(a=chains[0][0])
    for link in links:
        phrase = rng.choice(link.phrases).format(x=phrase)
    return DatasetRow(
        row_id,
        context=" ".join(facts),
        question=rng.choice(questions).format(x=phrase),
        answer=chains[0][-1],
        attributes={"hops": hops, "domain": domain.name, "answer_type": kinds[-1].name},
    )
