"""`POST /wechat/callback` by which somebody logs in: a follower who is known has scanned a page's code.

Each event is for a ticket of its own which waits. It is verified, decrypted (AES), parsed, recognised as new;
the person is found, the ticket goes from WAITING to CONFIRMED, a "not you?" link and the mark "done" are
stored, all durably; whoever waits is woken; the answer tells the person of the login (sealed, AES). Against a
handler of Tornado's that does nothing with the same bodies. No socket waits here: that is `push.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import measuring, servers
from benchmarks.measuring import Load, Plan
from benchmarks.results import Goal, Row, of_bare
from benchmarks.servers import Process, Work, WrongAnswers
from emulator import Code, Courier, Platform
from emulator.phone import scan_fields
from storage.base import Transaction
from storage.records import Profile
from tickets import Device, State, Ticket
from wechat.callback import Mode

PEOPLE = 1000
LIFE_SECONDS = 3600.0  # of tickets and of events, so that all can be made beforehand
A_SECOND = {32: 2000, 1: 500}  # events, by callers: a round takes about as long as is planned for
GOALS = {Mode.PLAIN: 0.5, Mode.SAFE: 0.45}  # of what the bare handler can do
P99_MILLISECONDS = 15.0
BATCH = 1000


def people() -> Iterator[Work]:
    """Who is known, follows, and was asked of the platform just now."""

    async def work(transaction: Transaction) -> None:
        now = time.time() - 1
        for number in range(PEOPLE):
            openid = openid_of(number)
            await transaction.users.upsert_identity(
                "wechat", openid, following=True, event_at=now, new_id=f"user{number}", now=now
            )
            await transaction.users.update_profile("wechat", openid, Profile("小明"), unionid="", now=now)

    yield work


def openid_of(number: int) -> str:
    return f"o{number % PEOPLE:027d}"


def code_of(scene: str) -> Code:
    """As WeChat makes them; nobody looks it up."""
    return Code(f"gQ{scene}{scene}", f"http://weixin.qq.com/q/02{scene[:20]}", 0, scene, None)


def waiting(scenes: Sequence[str]) -> Iterator[Work]:
    """Their tickets, WAITING."""
    for first in range(0, len(scenes), BATCH):
        yield partial(_store, scenes[first : first + BATCH])


async def _store(scenes: Sequence[str], transaction: Transaction) -> None:
    now = time.time()
    for scene in scenes:
        code = code_of(scene)
        ticket = Ticket(
            id=scene,
            secret_hash=secrets.token_bytes(32),
            method="wechat",
            client="browser",
            created_at=now,
            expires_at=now + LIFE_SECONDS,
            code=code.url,
            code_ticket=code.ticket,
            language="zh-CN",
            device=Device("Chrome", "Windows", "203.0.113.7"),
        )
        await transaction.tickets.create(ticket)


def confirmed(scenes: Sequence[str]) -> Iterator[Work]:
    """Raises WrongAnswers where an event has not had its effect."""

    async def work(some: Sequence[str], transaction: Transaction) -> None:
        for scene in some:
            ticket = await transaction.tickets.get(scene, now=0)
            if ticket is None or ticket.state is not State.CONFIRMED:
                raise WrongAnswers(f"a ticket is {ticket.state if ticket else 'gone'} after its event")

    for first in range(0, len(scenes), BATCH):
        yield partial(work, scenes[first : first + BATCH])


def posts(mode: Mode, scenes: Sequence[str]) -> Iterator[bytes]:
    """What WeChat sends when these codes are scanned."""
    platform = Platform(servers.account(mode), base_url="", now=time.time, token=secrets.token_urlsafe)
    courier = Courier(platform)
    for number, scene in enumerate(scenes):
        push = courier.build(openid_of(number), scan_fields(code_of(scene)))
        path = push.url.removeprefix(servers.BASE_URL)
        yield servers.request("POST", path, {**push.headers, "Accept": "*/*"}, push.body)


@dataclass(frozen=True, slots=True)
class Events:
    """One mode's events for one number of callers, a file for each round."""

    mode: Mode
    callers: int
    scenes: Sequence[str]
    files: Iterator[Path]

    def accept(self, server: Process) -> Load:
        return measuring.load(
            server,
            "replay",
            requests=next(self.files),
            callers=self.callers,
            contains="<ToUserName>" if self.mode is Mode.PLAIN else "<Encrypt>",
        )


def prepare(plan: Plan, mode: Mode, callers: int, folder: Path) -> Events:
    size = max(callers, int(plan.seconds * A_SECOND[callers]))
    scenes = [secrets.token_urlsafe(18) for _ in range(size * (plan.rounds + 1))]
    files = [
        measuring.write_requests(
            folder / f"{mode}-{callers}-{start}", posts(mode, scenes[start : start + size])
        )
        for start in range(0, len(scenes), size)
    ]
    return Events(mode, callers, scenes, iter(files))


def run(plan: Plan) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        bare = stack.enter_context(servers.bare())
        for mode in (Mode.PLAIN, Mode.SAFE):
            prepared = [prepare(plan, mode, callers, folder) for callers in A_SECOND]
            scenes = [scene for events in prepared for scene in events.scenes]
            section = servers.wechat(servers.account(mode), timestamp_window=LIFE_SECONDS, pool_size=0)
            with servers.saoma(
                {"wechat": section},
                before=[*people(), *waiting(scenes)],
                after=confirmed(scenes),
            ) as saoma:
                for events in prepared:
                    rows.append(_row(plan, events, bare, saoma, folder))
    return rows


def _row(plan: Plan, events: Events, bare: Process, saoma: Process, folder: Path) -> Row:
    ignored = measuring.write_requests(folder / "ignored", posts(events.mode, events.scenes[:BATCH]))
    sides = {
        "bare": partial(
            measuring.load, bare, "replay", requests=ignored, callers=events.callers, seconds=plan.seconds
        ),
        "saoma": partial(events.accept, saoma),
    }
    loads = measuring.interleaved(sides, plan.rounds)
    name = "plain" if events.mode is Mode.PLAIN else "AES"
    goals: tuple[Goal, ...] = ()
    if events.callers > 1:
        p99 = Goal("p99, ms", loads["saoma"].p99, P99_MILLISECONDS, at_least=False)
        goals = (of_bare(loads, GOALS[events.mode]), p99)
    callers = f"{events.callers} caller{'s' if events.callers > 1 else ''}"
    return Row(f"event, {name}, {callers}", loads, goals)
