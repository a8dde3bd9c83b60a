"""One soak: a server, its platform, a site that is told of all, and the crowd."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import WebhookVerificationError
from tornado.httpclient import AsyncHTTPClient

from emulator import Emulator
from flows.sweeper import PAUSE_SECONDS
from tests.cluster.processes import Node
from tests.handlers.relying_party import SITE
from tests.handlers.test_app import APP
from tests.harness import CALLBACK, new_account
from tests.ports import free_port
from tests.receiver import LOOPBACK, SECRET, Message, Receiver, receiving
from tests.soak.crowd import Crowd
from tests.soak.samples import Sample, Used, growth, kept, sample, trend
from tests.soak.served import USED

TICKET_SECONDS = 45.0
SESSION_SECONDS = 120.0
FAILING = 0.02  # of what a site is told has to be told again
KEPT = 1  # descriptor: SQLite opens a file for its savepoints when it first needs one, and keeps it
END_SECONDS = 60.0  # until all descriptors of the load are back
MINUTE = 60.0
EXPIRING = ("tickets", "sessions", "deliveries", "links", "grants", "signatures")


class Watched(Node):
    """A server that tells what it has in use."""

    PROGRAM = ("-m", "tests.soak.served")

    async def used(self, visits: int) -> Used:
        """After so many visits, while nobody is there."""
        told = self.settings.with_name(USED)
        told.unlink(missing_ok=True)
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(END_SECONDS):
            while not told.exists():
                await asyncio.sleep(0.05)
        return Used(visits=visits, **json.loads(told.read_text()))


@dataclass
class Report:
    start: Sample | None = None
    end: Sample | None = None
    samples: list[Sample] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)  # after each part of the load
    visits: int = 0
    logins: int = 0
    told: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        first, last = self.samples[0], self.samples[-1]
        share = (last.processor - first.processor) / (last.seconds - first.seconds)
        lines = [
            f"{self.visits} visits, {self.logins} logins, {self.told} calls to the site;"
            f" the server took {share:.0%} of a core"
        ]
        for name, of in (("RSS", lambda s: s.resident), ("own memory", lambda s: s.own)):
            found = trend(self.samples, of)
            lines.append(
                f"{name}: {first.seconds:.0f} s {of(first):.1f} MB,"
                f" in the second half {found.level:.1f} MB, {found.per_hour:+.2f} MB an hour"
            )
        lines += [f"in use: {used}" for used in self.used]
        lines += [f"before the load: {self.start}", f"after the load:  {self.end}"]
        lines.append("rows: " + ", ".join(f"{name} {number}" for name, number in self.rows.items()))
        return "\n".join([*lines, *(f"WRONG  {line}" for line in self.wrong)])


class Soak:
    def __init__(self, folder: Path, *, rate: float, pause: float) -> None:
        """`rate` visits a second; `pause` seconds between two samples."""
        self._folder, self._rate, self._pause = folder, rate, pause
        self._rng = random.Random()
        self._metrics_port = free_port()
        self._metrics = AsyncHTTPClient(force_instance=True)
        self._database = folder / "server" / "saoma.db"
        self._untrue = 0  # calls to the site whose signature was wrong
        self.report = Report()

    async def run(
        self, seconds: float, *, judges_growth: bool, says: Callable[[str], None] = lambda line: None
    ) -> Report:
        report, emulator = self.report, Emulator.start(new_account(), timeout=5.0)
        async with receiving(self._answer) as receiver:
            server = Watched(self._folder / "server", self._settings(emulator, receiver))
            emulator.deliver_to(server.address + CALLBACK)
            crowd = Crowd(emulator, server.port, self._rng)
            try:
                await server.start()
                report.start = await self._settled(server)
                says(str(report.start))
                # In between nobody is there, so that what is in use can be compared.
                for _ in range(parts := 2 if judges_growth else 1):
                    await self._load(server, crowd, receiver, seconds / parts, says)
                    report.used.append(await server.used(crowd.done.total()))
                await server.end()
            finally:
                await server.end()
                crowd.close()
                self._metrics.close()
                await emulator.stop()
        report.visits, report.logins = crowd.done.total(), crowd.logins
        report.wrong += [f"{number} times {what}" for what, number in crowd.wrong.most_common(20)]
        if self._untrue:
            report.wrong.append(f"{self._untrue} calls to the site are signed wrongly")
        if judges_growth:
            report.wrong += growth(report.samples) + kept(*report.used)
        self._judge_what_is_stored()
        report.wrong += [
            line for line in server.log.read_text().splitlines() if "Traceback" in line or " ERROR " in line
        ]
        return report

    async def _load(
        self, server: Node, crowd: Crowd, receiver: Receiver, seconds: float, says: Callable[[str], None]
    ) -> None:
        report = self.report
        before = report.samples[-1].seconds if report.samples else 0.0
        since, said_at = time.monotonic() - before, before
        coming = asyncio.create_task(crowd.come(self._rate, seconds))
        while not coming.done():
            await asyncio.wait({coming}, timeout=self._pause)
            now = time.monotonic() - since
            if coming.done() or now > before + seconds:
                break
            report.samples.append(await self._sample(server, now))
            report.told += len(receiver.received)
            receiver.received.clear()
            if now - said_at >= MINUTE:
                said_at += MINUTE
                says(f"{report.samples[-1]}  logins {crowd.logins}  wrong {crowd.wrong.total()}")
        await coming
        report.end = await self._sample(server, time.monotonic() - since)
        deadline = time.monotonic() + END_SECONDS
        while not self._is_back(report.start, report.end):
            if time.monotonic() > deadline:
                report.wrong.append("descriptors of the load are not given back")
                break
            await asyncio.sleep(0.5)
            report.end = await self._sample(server, time.monotonic() - since)

    async def _settled(self, server: Node) -> Sample:
        """Once it has fetched its codes and nobody is connected any more."""
        former, now = None, await self._sample(server, 0.0)
        async with asyncio.timeout(END_SECONDS):
            while former is None or now.connections or now.descriptors < former.descriptors:
                await asyncio.sleep(1.0)
                former, now = now, await self._sample(server, 0.0)
        return now

    def _is_back(self, start: Sample, end: Sample) -> bool:
        return end.descriptors <= start.descriptors + KEPT and not end.waiting and not end.connections

    async def _sample(self, server: Node, seconds: float) -> Sample:
        metrics = await self._metrics.fetch(f"http://127.0.0.1:{self._metrics_port}/metrics")
        assert server._process is not None
        return sample(server._process.pid, self._database, metrics.body.decode(), seconds)

    def _answer(self, message: Message) -> int:
        if message.path.endswith("/logout"):
            return 200
        try:
            message.verified()
        except WebhookVerificationError:
            self._untrue += 1
        return 500 if self._rng.random() < FAILING else 204

    def _judge_what_is_stored(self) -> None:
        """What expired before the last sweep is gone."""
        swept_at = time.time() - PAUSE_SECONDS - END_SECONDS - self._pause
        with closing(sqlite3.connect(self._database)) as connection:
            tables = [
                name
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if not name.startswith("sqlite_")
            ]
            for table in tables:
                ((number,),) = connection.execute(f"SELECT count(*) FROM {table}")
                self.report.rows[table] = number
            for table in EXPIRING:
                query = f"SELECT count(*) FROM {table} WHERE expires_at < ?"
                ((late,),) = connection.execute(query, (swept_at,))
                if late:
                    self.report.wrong.append(f"{late} rows of {table} have outlived their time")

    def _settings(self, emulator: Emulator, receiver: Receiver) -> dict[str, Any]:
        account = emulator.platform.account
        return {
            "server": {**LOOPBACK, "secret_key": secrets.token_hex(32), "trusted_proxies": ["127.0.0.1"]},
            "storage": {"url": "sqlite:saoma.db"},
            "wechat": {
                "appid": account.appid,
                "secret": account.secret,
                "token": account.token,
                "encoding_aes_key": account.encoding_aes_key,
                "api_base": emulator.base_url,
                "pool_size": 20,
            },
            "app": APP,
            "ticket": {"lifetime": TICKET_SECONDS},
            "session": {"lifetime": SESSION_SECONDS, "idle": SESSION_SECONDS / 2},
            "oidc": {"access_token_lifetime": 60},
            "sites": [
                {
                    **SITE,
                    "webhook_url": receiver.url,
                    "webhook_secret": SECRET,
                    "backchannel_logout_uri": f"{receiver.url}/logout",
                }
            ],
            "limits": {"header_seconds": 3},
            "metrics": {"port": self._metrics_port},
        }
