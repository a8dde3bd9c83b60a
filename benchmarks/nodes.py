"""Whole logins with the team's own app on two nodes, against one: tickets in Redis, all else in MongoDB.

With two, each login's requests go to both in turn. There are two cores: one is the first node's alone, the
other is shared by the second node, Redis, MongoDB and the driver. So the figure to go by is the processor
time that a login takes, of the nodes together and of each store: what each could do on a machine of its own
follows from it. Where mongod is not installed, FerretDB stands in its place and takes far more time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from redis import Redis

from benchmarks import measuring, servers
from benchmarks.login import asked_of_driver
from benchmarks.measuring import Load, Plan, interleaved
from benchmarks.page import APP
from benchmarks.results import Row
from benchmarks.servers import OTHER_CORE, SERVER_CORE, Process
from tests.storage.servers import MongodbServer, RedisServer, find_command


def run(plan: Plan) -> list[Row]:
    redis, mongodb = RedisServer(), MongodbServer(find_command())
    with ExitStack() as stack:
        for store in (redis, mongodb):
            stack.callback(store.remove)
            store.start()
        document = {
            "app": APP,
            "redis": {"url": redis.url},
            "storage": {"url": f"{mongodb.url}/saoma"},
            "server": {"secret_key": secrets.token_hex(32)},
        }
        nodes = [
            stack.enter_context(servers.saoma(document, core=core)) for core in (SERVER_CORE, OTHER_CORE)
        ]
        stores = {"Redis": redis.pid, "the database": mongodb.pid}
        facts: dict[str, float] = {}
        sides = {
            "one node": partial(_logins, nodes[:1], stores, redis.url, plan, facts),
            "two nodes": partial(_logins, nodes, stores, redis.url, plan, facts),
        }
        loads = interleaved(sides, plan.rounds)
    return [Row("own-app login, Redis and MongoDB", loads, facts=facts)]


def _logins(
    nodes: Sequence[Process], stores: dict[str, int], redis: str, plan: Plan, facts: dict[str, float]
) -> Load:
    """A round on these nodes, which leaves its figures of the stores in `facts`."""
    before = {name: servers.cpu_seconds(pid) for name, pid in stores.items()}
    asked, used = _commands(redis), sum(node.cpu_seconds() for node in nodes)
    run = partial(
        measuring.driver,
        "login",
        address=",".join(node.address for node in nodes),
        **asked_of_driver(plan),
    )
    load = measuring.seen(nodes[0], run)
    used = sum(node.cpu_seconds() for node in nodes) - used
    which = "one node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    for name, pid in stores.items():
        took = servers.cpu_seconds(pid) - before[name]
        facts[f"CPU µs of {name} a login, {which}"] = 1e6 * took / load.operations
    facts[f"commands to Redis a login, {which}"] = (_commands(redis) - asked) / load.operations
    return replace(load, cpu_microseconds=1e6 * used / load.operations)


def _commands(redis: str) -> int:
    with Redis.from_url(redis) as client:
        done: int = client.info("stats")["total_commands_processed"]
    return done
