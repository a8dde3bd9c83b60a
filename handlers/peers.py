"""Whose request it is: the peer's address, or what a trusted proxy says (security rule 14)."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache

from tornado.httputil import HTTPServerRequest

_LONGEST_ADDRESS = 45  # in text: of IPv6 with an IPv4 address at its end

log = logging.getLogger("saoma.proxy")


THIS_MACHINE = ("127.0.0.1", "::1")


class Peers:
    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted_proxies)
        self._warned = False

    def address_of(self, request: HTTPServerRequest) -> str:
        """The client's IP address as text.

        The addresses of X-Forwarded-For are read from the right, as far as each hop is a proxy of ours: what
        stands left of them was written by the client.
        """
        peer = request.remote_ip or ""
        peer = _normal(peer) or peer
        forwarded = request.headers.get_list("X-Forwarded-For")
        if not forwarded:
            return peer
        if not self._trusts(peer):
            self._warn(peer)
            return peer
        for hop in reversed(",".join(forwarded).split(",")):
            address = _normal(hop.strip().strip("[]"))
            if address is None:
                break
            peer = address
            if not self._trusts(peer):
                break
        return peer

    def counts(self, address: str) -> bool:
        """Whether a connection from there is one client's, who may have no more than so many.

        Proxies bring everybody's; so does, named or not, whatever runs on this machine.
        """
        peer = _normal(address) or address
        return not (self._trusts(peer) or peer in THIS_MACHINE)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)

    def _warn(self, peer: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "X-Forwarded-For from %s is ignored: it is not in server.trusted_proxies (told once)", peer
            )


def _normal(address: str) -> str | None:
    """One spelling for one address; None for what is none. ::ffff:1.2.3.4 is how some call 1.2.3.4."""
    return _spelled(address) if len(address) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)
def _spelled(address: str) -> str | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.scope_id is not None:  # of an interface of the proxy's: any text may stand there
        return None
    return str(parsed.ipv4_mapped or parsed)
