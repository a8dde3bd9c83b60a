"""Attempts: soon at first, then later and later, for a day."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as some

from webhooks.schedule import FIRST_SECONDS, GIVE_UP_SECONDS, JITTER, LONGEST_SECONDS, delay, next_attempt


def test_the_first_repeat_comes_soon_and_the_last_ones_by_the_hour():
    delays = [delay(attempts, 0) for attempts in range(1, 40)]
    assert delays[0] == FIRST_SECONDS == 5
    assert delays[-1] == LONGEST_SECONDS == 3600
    assert all(later >= earlier for earlier, later in itertools.pairwise(delays))


@given(some.integers(1, 10**9), some.floats(0, 1))
def test_chance_makes_it_somewhat_earlier_and_never_later(attempts, jitter):
    assert delay(attempts, 0) * (1 - JITTER) <= delay(attempts, jitter) <= delay(attempts, 0)


@given(some.floats(0, 1))
def test_a_day_of_failures_is_some_thirty_attempts(jitter):
    created_at = now = 1_800_000_000.0
    attempts = 1
    while (at := next_attempt(created_at, attempts, now=now, jitter=jitter)) is not None:
        assert now < at < created_at + GIVE_UP_SECONDS
        now, attempts = at, attempts + 1
    assert 25 <= attempts <= 45
    assert now > created_at + GIVE_UP_SECONDS - LONGEST_SECONDS, "until the day is over"


def test_what_is_first_tried_after_its_day_has_that_one_attempt():
    assert next_attempt(0, 1, now=GIVE_UP_SECONDS + 1, jitter=0) is None
