"""Whole logins with the team's own app: a browser asks for a ticket, a phone scans and confirms, the browser
collects its session. Four requests one after the other, on SQLite, and with the tickets in Redis.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import measuring, servers
from benchmarks.measuring import Load, Plan
from benchmarks.page import APP
from benchmarks.results import Goal, Row
from benchmarks.servers import Process
from tests.storage.servers import RedisServer

CALLERS = 16
PEOPLE = 200
GOALS = {"SQLite": 600.0, "Redis": 500.0}  # logins a second


@contextmanager
def redis() -> Iterator[str]:
    """Its address; it runs beside the driver, on the core of this process."""
    server = RedisServer()
    server.start()
    try:
        yield server.url
    finally:
        server.remove()


def asked_of_driver(plan: Plan, people: int = PEOPLE) -> dict[str, Any]:
    """Whole logins by so many people, as the driver's arguments."""
    return {
        "origin": servers.BASE_URL,
        "issuer": APP["issuer"],
        "key": APP["key"],
        "people": people,
        "name": secrets.token_hex(8),
        "callers": CALLERS,
        "seconds": plan.seconds,
    }


def logins(server: Process, plan: Plan, people: int = PEOPLE) -> Load:
    return measuring.load(server, "login", **asked_of_driver(plan, people))


def run(plan: Plan) -> list[Row]:
    with redis() as address:
        shared = {"redis": {"url": address}, "server": {"secret_key": secrets.token_hex(32)}}
        with servers.saoma({"app": APP}) as sqlite, servers.saoma({"app": APP, **shared}) as with_redis:
            sides = {"SQLite": partial(logins, sqlite, plan), "Redis": partial(logins, with_redis, plan)}
            loads = measuring.interleaved(sides, plan.rounds)
    return [
        Row(
            f"own-app login, {store}",
            {"saoma": found},
            (Goal("logins/s", found.per_second, GOALS[store]),),
        )
        for store, found in loads.items()
    ]
