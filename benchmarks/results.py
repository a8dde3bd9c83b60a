"""What benchmarks find, as plain data and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measuring import Load


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and what it should be."""

    what: str
    value: float
    bound: float
    at_least: bool = True  # else: at most

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work. `loads` are by who did it, "bare" and "saoma" among them where both did."""

    work: str
    loads: Mapping[str, Load] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)  # further figures, by what they are

    @property
    def ratio(self) -> float | None:
        """Of saoma's operations a second to bare Tornado's."""
        both = self._both()
        return both[1].per_second / both[0].per_second if both else None

    @property
    def ratio_by_cpu(self) -> float | None:
        """The same if nothing but the processor counted."""
        both = self._both()
        return both[0].cpu_microseconds / both[1].cpu_microseconds if both else None

    def _both(self) -> tuple[Load, Load] | None:
        bare, ours = self.loads.get("bare"), self.loads.get("saoma")
        return (bare, ours) if bare and ours else None


def of_bare(loads: Mapping[str, Load], bound: float) -> Goal:
    """How many of bare Tornado's operations saoma does."""
    return Goal("of bare", loads["saoma"].per_second / loads["bare"].per_second, bound)


def table(rows: Iterable[Row], *, judge: bool) -> Iterator[str]:
    """In Markdown: the goals, who did how much, the further figures. `judge` False says nothing of goals."""
    rows = list(rows)
    yield from _lines(
        ("work", "bare", "saoma", "ratio", "by CPU", "goal", "met"),
        (cells for row in rows for cells in _summary(row, judge=judge)),
    )
    yield ""
    yield from _lines(
        ("work", "by", "a second", "CPU µs", "p50 ms", "p90 ms", "p99 ms", "max ms", "MB", "driver busy"),
        (_load(row.work, name, load) for row in rows for name, load in row.loads.items()),
    )
    if any(row.facts for row in rows):
        yield ""
        yield from _lines(
            ("work", "figure", ""),
            ((row.work, name, _short(value)) for row in rows for name, value in row.facts.items()),
        )


def _summary(row: Row, *, judge: bool) -> Iterator[tuple[str, ...]]:
    both = ("bare", "saoma")
    speeds = [f"{row.loads[name].per_second:,.0f}/s" if name in row.loads else "–" for name in both]
    ratios = ["–" if ratio is None else f"{ratio:.2f}" for ratio in (row.ratio, row.ratio_by_cpu)]
    start = (row.work, *speeds, *ratios)
    if not row.goals or not judge:
        yield (*start, "–", "–")
        return
    for goal in row.goals:
        sign = "≥" if goal.at_least else "≤"
        met = "yes" if goal.met else "NO"
        yield (*start, f"{goal.what} {sign} {_short(goal.bound)}", f"{met} ({_short(goal.value)})")
        start = ("",) * len(start)


def _load(work: str, name: str, load: Load) -> tuple[str, ...]:
    times = (f"{value:.2f}" for value in (load.p50, load.p90, load.p99, load.max))
    return (
        work,
        name,
        f"{load.per_second:,.0f}",
        f"{load.cpu_microseconds:,.0f}",
        *times,
        f"{load.megabytes:.0f}" if load.megabytes else "–",
        f"{load.driver_share:.0%}",
    )


def _short(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
