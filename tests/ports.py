"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket

# Below those which the system gives to clients and to who asks for any: none of these is taken meanwhile.
FIRST, LAST = 10_000, 32_000


def free_port() -> int:
    """One on loopback that nobody has now, and that other tests running beside this one hardly get."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    """Whether somebody on loopback takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True
