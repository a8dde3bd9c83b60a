"""What benchmarks find, as plain data and as a table."""

from __future__ import annotations

from collections.abc import Mapping
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
