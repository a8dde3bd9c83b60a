"""`GET /login` by a browser without cookies: a ticket is made, stored durably and shown with its code.

Against an ordinary page of Tornado's without any code (`page.html`), and the same page with a code by other
makers. WeChat's codes come from the pool, filled beforehand by an emulated platform on the other core, which
is stopped while pages are asked for: no code is made meanwhile. So a round is no more pages than a pool has.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import bare, measuring, servers
from benchmarks.measuring import Load, Plan
from benchmarks.results import Goal, Row, of_bare
from benchmarks.servers import Process
from wechat.callback import Mode

CALLERS = 16
GOAL = 0.6  # of the bare page
TIMES_PYQRCODE = 40.0
POOL = 1000  # the most that the settings allow
SLOWEST = 400.0  # pages a second, so that a round on a slow machine takes no longer than others
SHOWN = 'data-state="WAITING"'
APP = {"issuer": "https://app.example.com", "key": "a secret that the app's backend shares with us"}


def asked(path: str) -> bytes:
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    headers = {
        "User-Agent": f"{agent} Chrome/140.0.0.0 Safari/537.36",
        "Accept": "text/html,application/xhtml+xml",
        "Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8",
    }
    return servers.request("GET", path, headers)


@contextmanager
def with_wechat() -> Iterator[tuple[Process, Process]]:
    """saoma, and the platform that it has its codes from."""
    account = servers.account(Mode.SAFE)
    with servers.emulator(account) as platform:
        section = servers.wechat(account, api_base=f"http://{platform.address}", pool_size=POOL)
        with servers.saoma({"wechat": section}) as saoma:
            yield saoma, platform


def from_the_pool(saoma: Process, platform: Process, requests: Path) -> Load:
    saoma.settle()  # the pool is full
    platform.send(signal.SIGSTOP)
    try:
        return measuring.load(saoma, "replay", requests=requests, callers=CALLERS, contains=SHOWN)
    finally:
        platform.send(signal.SIGCONT)


def run(plan: Plan) -> list[Row]:
    pages = min(POOL - CALLERS, int(plan.seconds * SLOWEST))
    with (
        servers.data_folder() as folder,
        servers.bare() as tornado,
        servers.saoma({"app": APP}) as own_app,
        with_wechat() as (wechat, platform),
    ):
        write = measuring.write_requests

        def side(server: Process, name: str, path: str) -> partial[Load]:
            file = write(folder / name, [asked(path)])
            return partial(
                measuring.load,
                server,
                "replay",
                requests=file,
                callers=CALLERS,
                seconds=plan.seconds,
                contains=SHOWN,
            )

        from_pool = write(folder / "pool", pages * [asked("/login")])
        loads = measuring.interleaved(
            {
                "bare": side(tornado, "bare", "/page"),
                "own app": side(own_app, "app", "/login"),
                "WeChat": partial(from_the_pool, wechat, platform, from_pool),
                **{maker: side(tornado, maker, f"/page/{maker}") for maker in bare.MAKERS},
            },
            plan.rounds,
        )
    others = {f"bare + {maker}": loads[maker] for maker in bare.MAKERS}
    rows = []
    for method, more in (("own app", others), ("WeChat", {})):
        both = {"bare": loads["bare"], "saoma": loads[method]}
        times = both["saoma"].per_second / loads["pyqrcode"].per_second
        goals = (of_bare(both, GOAL), Goal("times pyqrcode", times, TIMES_PYQRCODE))
        rows.append(Row(f"page, {method}", both | more, goals))
    return rows
