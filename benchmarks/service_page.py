"""The page that `benchmarks/service.py` writes of its record."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from scipy.stats import t as student

from benchmarks.pollers import QUANTILES

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


def mean_ratio(found: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The geometric mean of paired ratios and its 95 % interval; None of fewer than two.

    The interval is Student's of the logarithms: of a few rounds it is wide, and rightly.
    """
    logs = [math.log(ratio) for ratio in found]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None
    half = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


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
    lines += [
        "",
        "| ratio within a round | mean | 95 % interval | smallest | largest |",
        "|---|---|---|---|---|",
    ]
    for kind, base in (("http", "library"), ("loaded", "http")):
        for what in MEASURES:
            found = ratios(record, kind, base, what)
            mean, interval = mean_ratio(found)
            shown = "–" if interval is None else "{:.3f} to {:.3f}".format(*interval)
            lines.append(
                f"| {kind} / {base}, {what} | {mean:.3f} | {shown} | "
                f"{min(found):.3f} | {max(found):.3f} |"
            )
    loads = [turn["load"] for turn in turns["loaded"]]
    lines += [*_latencies(turns["loaded"]), ""]
    requests = sum(load["requests"] for load in loads)
    seconds = sum(load["seconds"] for load in loads)
    cpu = {
        "load generator": sum(load["cpu_seconds"] for load in loads),
        "API process": sum(turn["cpu_seconds"]["api"] for turn in turns["loaded"]),
    }
    failed = sum(load["requests"] - load["statuses"].get("200", 0) for load in loads)
    lines += [
        f"{requests} requests, {requests / seconds:.0f} a second, {failed} not answered with 200, "
        f"{sum(load['broken'] for load in loads)} broken, {sum(load['late'] for load in loads)} "
        f"left out as late, {sum(load['events'] for load in loads)} events. Of one core's time "
        + " and ".join(f"the {name} took {value / seconds:.1%}" for name, value in cpu.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _latencies(loaded: list[dict[str, Any]]) -> list[str]:
    """The table of what clients saw, the server measured, and the load generator lost itself."""
    measured = [turn["server"] for turn in loaded]
    lines = [
        "",
        "| ms, median of the rounds (largest) | clients saw | inside the server | generator late |",
        "|---|---|---|---|",
    ]
    for name in QUANTILES:
        cells = [
            _middle([turn["load"]["milliseconds"][name] for turn in loaded]),
            "≤ " + _middle([math.inf if each[name] is None else each[name] for each in measured]),
            _middle([turn["load"]["own_delays"][name] for turn in loaded]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _middle(times: list[float]) -> str:
    return f"{statistics.median_high(times):.1f} ({max(times):.1f})"
