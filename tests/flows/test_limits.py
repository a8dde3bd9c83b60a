"""Token buckets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import TooManyRequests
from flows import limits
from flows.limits import Bucket, RateLimit, address_key

rates = st.floats(0.01, 1000)
capacities = st.floats(1, 1000)
waits = st.lists(st.floats(0, 100), min_size=1, max_size=100)


@settings(deadline=None)
@given(rates, capacities, waits)
def test_never_more_than_the_capacity_and_what_came_back(rate: float, capacity: float, pauses: list[float]):
    bucket, now, taken = Bucket(rate, capacity, capacity, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += not bucket.wait(now)
        assert taken <= capacity + rate * now + 1e-6


@settings(deadline=None)
@given(rates, capacities, waits)
def test_whoever_waits_as_long_as_told_gets_one(rate: float, capacity: float, pauses: list[float]):
    bucket, now = Bucket(rate, capacity, capacity, 0.0), 0.0
    for pause in pauses:
        now += pause
        wait = bucket.wait(now)
        assert wait >= 0
        if wait:
            now += wait * 1.000001
            assert bucket.wait(now) == 0


@settings(deadline=None)
@given(rates, capacities, st.integers(1, 200))
def test_a_full_bucket_gives_its_capacity_at_once(rate: float, capacity: float, asked: int):
    bucket = Bucket(rate, capacity, capacity, 0.0)
    given_out = sum(not bucket.wait(0.0) for _ in range(asked))
    assert given_out == min(asked, int(capacity))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), max_size=50))
def test_a_clock_that_jumps_back_and_forth_fills_no_bucket_beyond_its_capacity(jumps: list[float]):
    bucket = Bucket(1.0, 5.0, 5.0, 1000.0)
    for jump in jumps:
        bucket.wait(1000.0 + jump)
        assert 0 <= bucket.level <= 5.0


def test_each_key_has_its_own_bucket():
    limit = RateLimit(rate=1, capacity=2)
    for key in ("a", "a", "b", "b"):
        limit.take(key, 0)
    with pytest.raises(TooManyRequests) as error:
        limit.take("a", 0)
    assert error.value.retry_after == 1
    limit.take("a", 1)
    limit.take("b", 1)


def test_the_wait_is_told_in_whole_seconds_that_are_enough():
    limit = RateLimit(rate=0.3, capacity=1)
    limit.take("a", 0)
    with pytest.raises(TooManyRequests) as error:
        limit.take("a", 0)
    assert error.value.retry_after == 4
    limit.take("a", 4)


def test_keys_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    limit = RateLimit(rate=1, capacity=1)
    for key in ("a", "b", "c"):
        limit.take(key, 0)
    with pytest.raises(TooManyRequests):
        limit.take("a", 0)  # used: no longer the one unused for longest
    limit.take("d", 0)
    assert len(limit._buckets) == 3
    limit.take("b", 0)  # forgotten, so full again
    with pytest.raises(TooManyRequests):
        limit.take("d", 0)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:0DB8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        # All of IPv4 lies in one network of 64 bits there.
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.6", "203.0.113.6"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_one_key_for_what_one_subscriber_holds(address: str, key: str):
    assert address_key(address) == key


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_ipv6_network_of_64_bits_is_one_key(network: int, one: int, other: int):
    import ipaddress

    keys = {
        address_key(str(ipaddress.IPv6Address((network << 64) + host)))
        for host in (one, other)
        if ipaddress.IPv6Address((network << 64) + host).ipv4_mapped is None
    }
    assert len(keys) <= 1
