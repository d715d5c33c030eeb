"""The page that `benchmarks/service.py` writes of its record."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

KINDS = ("library", "http", "loaded")
"""Kinds of turn; `benchmarks/service.py` says what each is."""

MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds": lambda turn: turn["seconds"],
    "seconds of the groups": lambda turn: turn["groups"],
    "CPU seconds of the process that computes": lambda turn: turn["cpu_seconds"]["worker"],
}


def ratios(record: dict[str, Any], kind: str, base: str, what: str) -> list[float]:
    """One kind's measure over another's of the same round."""
    measure, turns = MEASURES[what], record["turns"]
    return [
        measure(ours) / measure(theirs)
        for ours, theirs in zip(turns[kind], turns[base], strict=True)
    ]


def page(record: dict[str, Any]) -> str:
    """The Markdown page of a record."""
    plan, machine, turns = record["plan"], record["machine"], record["turns"]
    lanes = turns["library"][0]["lanes"]
    lines = [
        f"{record['date']}, {machine['cores']} cores, {machine['gigabytes']} GB, load average "
        f"before {machine['load_average_before'][0]}, torch {record['torch']}, "
        f"{record['threads']} threads; {plan['size']}, {lanes} lanes, {plan['new_tokens']} new "
        f"tokens, {plan['rounds']} rounds.",
        "",
        "| | s, median | spread | s of the groups |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        seconds = [turn["seconds"] for turn in turns[kind]]
        middle = statistics.median(seconds)
        spread = (max(seconds) - min(seconds)) / middle
        groups = statistics.median(turn["groups"] for turn in turns[kind])
        lines.append(f"| {kind} | {middle:.2f} | {spread:.1%} | {groups:.2f} |")
    lines += ["", "| ratio within a round | median | smallest | largest |", "|---|---|---|---|"]
    for kind, base in (("http", "library"), ("loaded", "http")):
        for what in MEASURES:
            found = ratios(record, kind, base, what)
            lines.append(
                f"| {kind} / {base}, {what} | {statistics.median(found):.3f} | "
                f"{min(found):.3f} | {max(found):.3f} |"
            )
    loads = [turn["load"] for turn in turns["loaded"]]
    lines += [
        "",
        "| answers to the pollers, ms | median of the rounds | largest |",
        "|---|---|---|",
    ]
    for name in ("p50", "p90", "p99", "max"):
        times = [load["milliseconds"][name] for load in loads]
        lines.append(f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} |")
    requests = sum(load["requests"] for load in loads)
    seconds = sum(load["seconds"] for load in loads)
    cpu = {
        "load generator": sum(load["cpu_seconds"] for load in loads),
        "API process": sum(turn["cpu_seconds"]["api"] for turn in turns["loaded"]),
    }
    failed = sum(load["requests"] - load["statuses"].get("200", 0) for load in loads)
    lines += [
        "",
        f"{requests} requests, {requests / seconds:.0f} a second, {failed} not answered with 200, "
        f"{sum(load['broken'] for load in loads)} broken, {sum(load['late'] for load in loads)} "
        f"left out as late, {sum(load['events'] for load in loads)} events. Of one core's time "
        + " and ".join(f"the {name} took {value / seconds:.1%}" for name, value in cpu.items())
        + ".",
        "",
    ]
    return "\n".join(lines)
