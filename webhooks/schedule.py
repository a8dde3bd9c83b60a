"""When a message that did not arrive is sent again: after 5 s, then later and later, for a day."""

from __future__ import annotations

FIRST_SECONDS = 5.0
FACTOR = 2.5
LONGEST_SECONDS = 3600.0
JITTER = 0.2  # of the delay, at most that much earlier: what failed together does not come back together
GIVE_UP_SECONDS = 86400.0


def delay(attempts: int, jitter: float) -> float:
    """Seconds to wait after so many failed attempts (1 or more); `jitter` is 0 to 1, by chance."""
    steps = min(attempts - 1, 20)  # the longest is reached long before, and no number overflows
    return min(FIRST_SECONDS * FACTOR**steps, LONGEST_SECONDS) * (1 - JITTER * jitter)


def next_attempt(created_at: float, attempts: int, *, now: float, jitter: float) -> float | None:
    """When to try again; None where the day is over by then."""
    at = now + delay(attempts, jitter)
    return at if at < created_at + GIVE_UP_SECONDS else None
