"""What a check of forward-auth costs, against a bare Tornado handler that does nothing.

`python -m benchmarks.forward_auth [--short]` takes turns between the two, each in a process of its own on one
core, with the driver (wrk) on the other. The request is the same for both: nginx's, with a logged-in session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from benchmarks import measuring
from benchmarks.measuring import Load
from composition import Server, open_storage
from config import Settings
from storage.base import Transaction
from storage.records import Profile, Session
from tickets import hash_secret

MODULE = "benchmarks.forward_auth"
RESULTS = Path(__file__).parent / "results"
PATH = "/api/authz/auth-request"
TOKEN = "t" * 43
HEADERS = {
    "Cookie": f"theme=dark; saoma-session={TOKEN}; app=0123456789abcdef",
    "X-Original-URL": "https://app.example.com/reports?year=2024",
    "Connection": "keep-alive",
}
LONG, SHORT = (9, 3), (2, 1)  # rounds, and the seconds of each
CONNECTIONS = 16
GOAL = 0.7  # of what the bare handler can do


class Nothing(RequestHandler):
    def get(self) -> None:
        pass


async def serve_nothing() -> None:
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(PATH, Nothing)]))
    server.add_sockets(sockets)
    await _until_told(sockets[0].getsockname()[1])
    server.stop()
    await server.close_all_connections()


async def serve_saoma() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate({"folder": Path(folder), "storage": {"url": "sqlite:saoma.db"}})
        storage = await open_storage(settings)
        await storage.transact(_log_in)
        server = Server(settings, sockets=bind_sockets(0, "127.0.0.1"), storage=storage)
        server.start()
        await _until_told(server.port)
        await server.stop()


async def _log_in(transaction: Transaction) -> None:
    now, end = time.time(), time.time() + 86400
    user = await transaction.users.upsert_identity(
        "wechat", "openid", following=True, event_at=now, new_id="user", now=now
    )
    await transaction.users.update_profile("wechat", "openid", Profile("小明"), unionid="union", now=now)
    session = Session(
        "session", hash_secret(TOKEN), "ticket", user.id, "wechat", "browser", "", now, now, end
    )
    await transaction.sessions.create(session)


async def _until_told(port: int) -> None:
    """Says where it listens; returns when nobody reads any more."""
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


def compare(rounds: int, seconds: int) -> dict[str, object]:
    runs: dict[str, list[Load]] = {"bare": [], "check": []}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(measuring.server(MODULE, name)) for name in runs}
        for number in range(rounds + 1):
            for name, server in servers.items():
                load = measuring.wrk(server, PATH, HEADERS, connections=CONNECTIONS, seconds=seconds)
                if number:  # the first one warms up
                    runs[name].append(load)
                    print(f"{name:6} {load.per_second:8.0f}/s {load.cpu_microseconds:6.1f} µs", flush=True)
    speed = {name: statistics.median(load.per_second for load in loads) for name, loads in runs.items()}
    cpu = {name: statistics.median(load.cpu_microseconds for load in loads) for name, loads in runs.items()}
    return {
        "what": "GET /api/authz/auth-request, logged in, against a bare Tornado handler",
        "machine": measuring.machine(),
        "connections": CONNECTIONS,
        "seconds": seconds,
        "requests_per_second": speed,
        "cpu_microseconds_per_request": cpu,
        "ratio_of_requests": speed["check"] / speed["bare"],
        "ratio_of_cpu": cpu["bare"] / cpu["check"],
        "goal": GOAL,
        "runs": {name: [asdict(load) for load in loads] for name, loads in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("serve", nargs="?", choices=["bare", "check"], help="what the comparison starts")
    parser.add_argument("--short", action="store_true", help="a glance")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve_nothing() if given.serve == "bare" else serve_saoma())
        return
    result = compare(*(SHORT if given.short else LONG))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "forward_auth.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(
        f"{result['ratio_of_requests']:.2f} of the requests, {result['ratio_of_cpu']:.2f} by CPU; goal {GOAL}"
    )


if __name__ == "__main__":
    main()
