"""What a check of forward-auth costs, against a Tornado handler that does nothing.

The request is the same for both: nginx's, with the cookie of somebody who is logged in.
"""

from __future__ import annotations

import time

from benchmarks import measuring, servers
from benchmarks.measuring import Plan
from benchmarks.results import Row, of_bare
from storage.base import Transaction
from storage.records import Profile, Session
from tickets import hash_secret

TOKEN = "t" * 43
REQUEST = servers.request(
    "GET",
    "/api/authz/auth-request",
    {
        "Cookie": f"theme=dark; __Host-saoma-session={TOKEN}; app=0123456789abcdef",
        "X-Original-URL": "https://app.example.com/reports?year=2024",
    },
)
CALLERS = 16
GOAL = 0.7  # of what the bare handler can do


async def log_in(transaction: Transaction) -> None:
    now, end = time.time(), time.time() + 86400
    user = await transaction.users.upsert_identity(
        "wechat", "openid", following=True, event_at=now, new_id="user", now=now
    )
    await transaction.users.update_profile("wechat", "openid", Profile("小明"), unionid="union", now=now)
    session = Session(
        "session", hash_secret(TOKEN), "ticket", user.id, "wechat", "browser", "", now, now, end
    )
    await transaction.sessions.create(session)


def run(plan: Plan) -> list[Row]:
    with (
        servers.data_folder() as folder,
        servers.bare() as bare,
        servers.saoma({}, before=[log_in]) as saoma,
    ):
        file = measuring.write_requests(folder / "requests", [REQUEST])
        sides = {"bare": (bare, file), "saoma": (saoma, file)}
        loads = measuring.replayed(sides, plan, callers=CALLERS)
    return [Row("forward-auth", loads, (of_bare(loads, GOAL),))]
