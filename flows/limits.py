"""Rates in the terms of the use cases, and whom they count."""

from __future__ import annotations

import ipaddress
import math

from errors import TooManyRequests
from flows.context import Context
from storage.rates import Rate, Rates


async def take(context: Context, rate: Rate, key: str, rates: Rates | None = None) -> None:
    """Counts one, with the other nodes unless `rates` says otherwise. Raises TooManyRequests."""
    if not context.settings.limits.enabled:
        return
    if wait := await (rates or context.rates).take(rate, key):
        raise TooManyRequests(max(1, math.ceil(wait)))


async def give_back(context: Context, rate: Rate, key: str) -> None:
    """As if `take` had not counted one."""
    if context.settings.limits.enabled:
        await context.rates.give_back(rate, key)


def address_key(address: str) -> str:
    """One key for what one subscriber holds: an IPv4 address, an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
