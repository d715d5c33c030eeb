"""Reads a report's HTML and finds pairs of statements of which one must be wrong.

A *statement* is what one sentence or table row has of a condition against a baseline by a metric:
its difference, interval, verdict, counts, share of the gap. Statements are read from the printed
words alone, as a reader does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from itertools import combinations

Key = tuple[str, str, str, str]
"""Part of the report, condition, baseline and metric."""

NUMBER = r"[+−]?\d+(?:\.\d+)?(?:e−?\d+)?"
INTERVAL = rf"\[({NUMBER})(?: %)?, ({NUMBER})(?: %)?\]"
NAME = r"[A-Za-z0-9_.]+"
POINT = rf"(?:control with [^,]+, )?({NAME}): ({NUMBER})( %)?(?: \[.*?\])?(?:, (.*))?$"
WORDS = r"better|worse|higher|lower|equivalent|inconclusive|no verdict"
TINY = 1e-9


@dataclass
class Statement:
    """The parts that a sentence or row gives; None where it does not."""

    where: str
    delta: float | None = None
    interval: tuple[float, float] | None = None
    mean: float | None = None
    baseline_mean: float | None = None
    verdict: str | None = None
    within: bool = False
    """Whether it lies within a margin."""
    gained: int | None = None
    lost: int | None = None
    p_holm: float | None = None
    rounding: float = 0.00006
    """Half of the last printed digit, and a little."""


@dataclass
class Share:
    """A share of the gap."""

    where: str
    value: float
    low: float
    high: float
    gap: float


@dataclass
class Headline:
    """The sentence above the findings."""

    part: str
    metric: str
    text: str
    baseline: str = ""
    """From the first finding below it."""


@dataclass
class Page(HTMLParser):
    """The texts and tables of a page, in their order."""

    blocks: list[tuple[str, str]] = field(default_factory=list)
    """(tag, text) of each heading, paragraph and list item."""
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    """(title, rows with the header first)."""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append((dict(attrs).get("aria-label") or "", []))
        elif tag == "tr" and self.tables:
            self.tables[-1][1].append([])
        elif tag in ("th", "td"):
            self._open = "cell"
            self.tables[-1][1][-1].append("")
        elif tag in ("h2", "h3", "p", "li"):
            self._open = tag
            self.blocks.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "h2", "h3", "p", "li"):
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "cell":
            self.tables[-1][1][-1][-1] += data
        elif self._open is not None:
            tag, text = self.blocks[-1]
            self.blocks[-1] = (tag, text + data)


def unlinked(html: str) -> str:
    """Return a page with its terms and names as plain text, as a reader sees them."""
    return re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", html)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def digits(text: str) -> float:
    """Half of the last digit of a printed number, and a little."""
    decimals = len(text.partition(".")[2])
    return 0.6 * 10.0**-decimals


def contradictions(html: str) -> list[str]:
    """Return each pair of statements that cannot both hold, and each that fails by itself."""
    page = Page()
    page.feed(html)
    read = Reader()
    read.tables(page)
    read.texts(page)
    read.charts(html)
    return list(read.found())


class Reader:
    """Collects the statements of a page."""

    def __init__(self) -> None:
        self.statements: dict[Key, list[Statement]] = {}
        self.shares: dict[Key, list[Share]] = {}
        self.headlines: list[Headline] = []

    def add(self, key: Key, statement: Statement) -> None:
        self.statements.setdefault(key, []).append(statement)

    def tables(self, page: Page) -> None:
        for title, rows in page.tables:
            about = re.fullmatch(rf"(.+) against ({NAME})", title)
            if about is None or ":" in title or not rows:
                continue
            header = rows[0]
            for row in rows[1:]:
                cells = dict(zip(header, row, strict=True))
                ends = re.fullmatch(INTERVAL, cells["interval"])
                p = cells["p (Holm)"]
                # The median of differences is not the difference of two means.
                of_median = "delta, median row" in cells
                delta = cells["delta, median row" if of_median else "delta"]
                self.add(
                    ("main", cells["condition"], about[2], metric_of(about[1])),
                    Statement(
                        f"table {title!r}, {cells['condition']}",
                        delta=number(delta),
                        interval=None if ends is None else (number(ends[1]), number(ends[2])),
                        mean=None if of_median else number(cells["mean"]),
                        baseline_mean=None if of_median else number(cells["baseline mean"]),
                        verdict=cells["verdict"].replace("_", " "),
                        within="different" in cells["verdict"] or cells["verdict"] == "equivalent",
                        gained=None if cells["gained"] == "–" else int(cells["gained"]),
                        lost=None if cells["lost"] == "–" else int(cells["lost"]),
                        p_holm=None if p == "–" else number(p.replace("<", "")),
                        rounding=digits(delta),
                    ),
                )

    def charts(self, html: str) -> None:
        """Read the first screen: what its figure has for a reader who does not see it."""
        for article in re.findall(r"<article>(.*?)</article>", unlinked(html), re.DOTALL):
            metric = re.search(
                r'class="what note">(change in )?(?:right answers, by )?(.*?)'
                r"(?: of the median row)?, better to the right",
                article,
            )
            floor = re.search(rf"floor</span> ({NAME})", article)
            if metric is None or floor is None:
                continue
            part = "unseen" if "no map was trained on" in article else "main"
            for label in re.findall(r'role="img" aria-label="([^"]*)"', article):
                for text in unescape(label).split("; "):
                    point = re.match(POINT, text)
                    if point is not None:
                        scale = 100 if point[3] else 1
                        value = number(point[2]) / scale
                        self.add(
                            (part, point[1], floor[1], metric_of(metric[2])),
                            Statement(
                                f"figure, {text}",
                                mean=None if metric[1] else value,
                                delta=value if metric[1] else None,
                                verdict=word(point[4] or ""),
                                within="different within" in (point[4] or ""),
                                rounding=digits(point[2]) / scale,
                            ),
                        )

    def texts(self, page: Page) -> None:
        part, metric, baseline = "main", "", ""
        controls = 0
        inside = False
        for tag, text in page.blocks:
            if tag == "h2":
                inside = text == "Verdict"
            if not inside:
                continue
            if text == "Positive control":
                part = "control"
                metric = ""
            judged = re.search(r"\(by ([^()]+)\)\.$", text)
            if tag == "p" and judged is not None:
                metric = metric_of(judged[1])
                if not part.startswith("control"):
                    # A verdict on some of the rows has other numbers than the tables of all.
                    part = "unseen" if text.startswith("On the ") else "main"
                else:
                    controls += 1
                    part = f"control {controls}"
                self.headlines.append(Headline(part, metric, text))
            elif tag == "li" and metric:
                baseline = self._sentence(part, metric, baseline, text)

    def _sentence(self, part: str, metric: str, baseline: str, text: str) -> str:
        """Read one finding; return the baseline that later ones are against."""
        split = re.match(
            r"On the other \d+ rows, whose answers a map was trained on, by (.+?): ", text
        )
        if split is not None:
            # Rows that a map has seen, beside a verdict on those that it has not.
            self._clauses(f"{part}, seen", baseline, metric_of(split[1]), text, split.end())
            return baseline
        gap = re.match(rf"By (.+), the gap from ({NAME}) to ({NAME}) is ({NUMBER})", text)
        if gap is not None:
            for share in re.finditer(rf"({NAME}) ({NUMBER}) % {INTERVAL}", text):
                value, low, high = (number(share[i]) / 100 for i in (2, 3, 4))
                self.shares.setdefault((part, share[1], gap[2], metric_of(gap[1])), []).append(
                    Share(text, value, low, high, number(gap[4]))
                )
            return gap[2]
        whole = re.match(
            rf"(?:Text relay\. )?({NAME}): ({NUMBER}) against ({NUMBER}) under ({NAME}), a "
            rf"difference of ({NUMBER})",
            text,
        )
        if whole is not None:
            if not self.headlines[-1].baseline:
                self.headlines[-1].baseline = whole[4]
            counts = re.search(r"(\d+) rows gained and (\d+) lost", text)
            meaning = text.rpartition("lost")[2] if counts else text
            self.add(
                (part, whole[1], whole[4], metric),
                Statement(
                    text,
                    delta=number(whole[5]),
                    interval=first_interval(text),
                    mean=None if "(median row" in text else number(whole[2]),
                    baseline_mean=None if "(median row" in text else number(whole[3]),
                    verdict=word(meaning),
                    within="within ±" in meaning and "Inconclusive" not in meaning,
                    gained=int(counts[1]) if counts else None,
                    lost=int(counts[2]) if counts else None,
                    rounding=digits(whole[5]),
                ),
            )
            return whole[4]
        own = re.match(
            rf"The row's own state \(({NAME})\) against another row's \(({NAME})\), by (.+?): "
            rf"({NUMBER}) (.*)",
            text,
        )
        if own is not None:
            self._clause((part, own[1], own[2], metric_of(own[3])), own[4], own[5], text)
            return baseline
        listed = re.match(rf"(By [^,]+, more sensitive[^:]*|Against {NAME}|Controls): ", text)
        if listed is not None:
            against, by = baseline, metric
            if listed[1].startswith("By "):
                by = metric_of(listed[1][3:].partition(",")[0])
            elif listed[1].startswith("Against"):
                against = listed[1].split()[1]
            self._clauses(part, against, by, text, listed.end())
        return baseline

    def _clauses(self, part: str, against: str, metric: str, text: str, start: int) -> None:
        for clause in text[start:].rstrip(".").split("; "):
            one = re.match(rf"({NAME}) ({NUMBER}) (.*)", clause)
            if one is not None:
                self._clause((part, one[1], against, metric), one[2], one[3], text)

    def _clause(self, key: Key, delta: str, rest: str, where: str) -> None:
        self.add(
            key,
            Statement(
                where,
                delta=number(delta),
                interval=first_interval(rest),
                verdict=word(re.sub(INTERVAL, "", rest)),
                within="within ±" in rest,
                rounding=digits(delta),
            ),
        )

    def found(self) -> Iterator[str]:
        for key, statements in self.statements.items():
            for statement in statements:
                for why in wrong_by_itself(statement):
                    yield f"{' / '.join(key)}: {why}: {statement.where}"
            for one, other in combinations(statements, 2):
                for why in wrong_together(one, other):
                    yield f"{' / '.join(key)}: {why}: {one.where} || {other.where}"
        for key, shares in self.shares.items():
            for share in shares:
                for statement in self.statements.get(key, []):
                    for why in wrong_share(share, statement):
                        yield f"{' / '.join(key)}: {why}: {share.where} || {statement.where}"
        for headline in self.headlines:
            yield from self._headline(headline)

    def _headline(self, headline: Headline) -> Iterator[str]:
        text = headline.text
        for (part, condition, baseline, metric), statements in self.statements.items():
            if (part, baseline, metric) != (headline.part, headline.baseline, headline.metric):
                continue
            verdicts = {statement.verdict for statement in statements}
            for pattern, wanted in (
                (rf"[Gg]ain over {re.escape(baseline)} from ([^;]*?)(?:, but|;| \(by)", "better"),
                (r"([^;.]*) destructive", "worse"),
                (r"([^;.]*) harmful", "worse"),
                (r"([^;.]*) inconclusive", "inconclusive"),
            ):
                named = {name for part in re.findall(pattern, text) for name in _names(part)}
                if condition in named and not verdicts & {wanted, "different within"}:
                    yield f"{condition} is not {wanted}: {text}"


def _names(text: str) -> list[str]:
    return re.findall(NAME, text)


def metric_of(label: str) -> str:
    """One name for the words that a report has for a metric."""
    return label.lower().replace(" (nats)", "").removeprefix("log gold").strip()


def first_interval(text: str) -> tuple[float, float] | None:
    ends = re.search(INTERVAL, text)
    return None if ends is None else (number(ends[1]), number(ends[2]))


def word(text: str) -> str | None:
    """The verdict that a text gives, in one word."""
    lower = text.lower()
    for one in ("no verdict", "inconclusive", "equivalent", "better", "worse", "higher", "lower"):
        if one in lower:
            return one
    return None


def side(statement: Statement) -> int:
    return 0 if statement.delta is None else (statement.delta > 0) - (statement.delta < 0)


def wrong_by_itself(s: Statement) -> Iterator[str]:
    slack = s.rounding + TINY
    if s.delta is not None and s.interval is not None:
        low, high = s.interval
        if not low - 2 * slack <= s.delta <= high + 2 * slack:
            yield "the difference is outside its interval"
        if low == high:
            yield "the interval has no width"
        excludes = low > 0 or high < 0
        if s.verdict in ("better", "worse") and not excludes:
            yield f"{s.verdict}, but the interval holds zero"
        if s.verdict == "equivalent" and excludes:
            yield "equivalent, but the interval excludes zero"
        if s.verdict == "inconclusive" and excludes:
            named = "Holm" in s.where or "the test does not reject" in s.where
            explained = named or s.where.startswith("table") or s.mean is None
            if not explained or (s.p_holm is not None and s.p_holm < 0.05):
                yield "inconclusive, but the interval excludes zero"
    if None not in (s.delta, s.mean, s.baseline_mean):
        assert s.delta is not None
        assert s.mean is not None
        assert s.baseline_mean is not None
        if abs(s.mean - s.baseline_mean - s.delta) > 2.1e-4:
            yield "the difference is not that of the means"
    if s.gained is not None and s.lost is not None and s.delta is not None and s.mean is not None:
        # Counts are signed by what is better, so their sign is the verdict's.
        if s.verdict == "better" and s.gained < s.lost and s.where.startswith("table"):
            yield "better, but more rows are lost than gained"
        if s.verdict == "worse" and s.gained > s.lost and s.where.startswith("table"):
            yield "worse, but more rows are gained than lost"
    if s.verdict in ("better", "worse") and s.p_holm is not None and s.p_holm >= 0.05:
        yield f"{s.verdict}, but p is {s.p_holm}"
    if s.verdict == "no verdict" and s.p_holm is not None and s.p_holm < 0.05:
        yield f"no verdict, but p is {s.p_holm}"


ALIKE = {"–": "no verdict", "none": "no verdict", "different within": "different"}


def wrong_together(one: Statement, other: Statement) -> Iterator[str]:
    slack = max(one.rounding, other.rounding) + TINY
    deltas = (one.delta, other.delta)
    if None not in deltas and abs((one.delta or 0.0) - (other.delta or 0.0)) > 2 * slack:
        yield f"two differences, {one.delta} and {other.delta}"
    if None not in (one.mean, other.mean):
        assert one.mean is not None
        assert other.mean is not None
        if abs(one.mean - other.mean) > 2 * slack:
            yield f"two means, {one.mean} and {other.mean}"
    ends = zip(one.interval or (), other.interval or (), strict=False)
    if any(abs(a - b) > 2.1e-4 for a, b in ends):
        yield f"two intervals, {one.interval} and {other.interval}"
    verdicts = [ALIKE.get(s.verdict or "", s.verdict) for s in (one, other)]
    # A difference within a margin has its side in a sentence and its name in a table.
    named_twice = "different" in verdicts and one.within and other.within
    if None not in verdicts and verdicts[0] != verdicts[1] and not named_twice:
        yield f"two verdicts, {verdicts[0]} and {verdicts[1]}"


def wrong_share(share: Share, s: Statement) -> Iterator[str]:
    if s.delta is None or share.gap <= 0:
        return
    rounding = 0.011 + 2 * s.rounding / share.gap
    if abs(share.value - s.delta / share.gap) > rounding:
        yield f"a share of {share.value:.0%}, but a difference of {s.delta} in {share.gap}"
    if s.interval is None:
        return
    low, high = (end / share.gap for end in s.interval)
    if share.high - share.low < 0.4 * (high - low) - 2 * rounding:
        yield f"a share to within {share.high - share.low:.0%}, a difference to {high - low:.0%}"
    if (share.low > rounding and low < 0) or (share.high < -rounding and high > 0):
        yield "a share that excludes zero, a difference that does not"
    if s.verdict in ("better", "worse") and share.low < -rounding and share.high > rounding:
        yield f"{s.verdict}, but the share may be zero"
