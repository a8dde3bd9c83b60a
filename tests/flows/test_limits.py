"""Whom a rate counts, and what who is counted out is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import TooManyRequests
from flows.limits import address_key, give_back, take
from storage.rates import LocalRates, Rate


async def test_the_wait_is_told_in_whole_seconds_that_are_enough(world):
    rate = Rate("slow", 0.3, 1)
    await take(world.context, rate, "a")
    with pytest.raises(TooManyRequests) as error:
        await take(world.context, rate, "a")
    assert error.value.retry_after == 4
    world.clock.pass_(4)
    await take(world.context, rate, "a")


async def test_what_is_counted_apart_and_given_back(world):
    rate, own = Rate("slow", 0.001, 1), LocalRates(world.clock)
    await take(world.context, rate, "a")
    await take(world.context, rate, "a", own)
    with pytest.raises(TooManyRequests):
        await take(world.context, rate, "a", own)
    await give_back(world.context, rate, "a")
    await take(world.context, rate, "a")


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
