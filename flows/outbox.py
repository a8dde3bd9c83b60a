"""Sends what was announced (`flows/announce.py`): each at least once, one person's in order, for a day.

An endpoint that is slow or away holds up no other one, and at one endpoint one person holds up no other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import background
from config.sections import RegisteredSite
from errors import BadRequest, NotFound, StoreUnavailable
from flows.announce import KEEP_SECONDS, LOGOUT, WEBHOOK, new_test
from flows.context import Context
from outbound import NotReached, Outbound
from storage.base import Transaction
from storage.records import Notice
from webhooks import next_attempt, signed_headers

PARALLEL = 8  # calls to one endpoint at once
LEASE_SECONDS = 30.0  # longer than a call and the storing of its outcome take
LOOK_SECONDS = 5.0  # between two looks where nothing rings: another node may have added something and died
SHORTEST_SECONDS = 0.05
FINISH_SECONDS = 3.0  # for calls under way when the server stops

# (site, sub, sid, jti) -> the signed token (OpenID Connect Back-Channel Logout 1.0, 2.4)
LogoutToken = Callable[[RegisteredSite, str, str, str], Awaitable[str]]

log = logging.getLogger("saoma.outbox")


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str
    url: str
    site: RegisteredSite
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Outbox:
    def __init__(self, context: Context, logout_token: LogoutToken) -> None:
        self._context = context
        self._logout_token = logout_token
        self._endpoints = {endpoint.name: endpoint for endpoint in _endpoints(context.settings.sites)}
        # As many as there could be: calls that wait for one another would hold each other up.
        calls = PARALLEL * max(1, len(self._endpoints))
        self._calls = Outbound(context.settings.server.allowed_networks, parallel=calls)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._serve(endpoint)) for endpoint in self._endpoints.values()]

    async def stop(self) -> None:
        """Begins no more calls and gives those under way some seconds; what is cut off is sent again."""
        await background.end(self._tasks)
        running = {task for endpoint in self._endpoints.values() for task in endpoint.running}
        if running:
            await asyncio.wait(running, timeout=FINISH_SECONDS)
        await background.end(running)
        self._calls.close()

    def wake(self, name: str) -> None:
        """Something was added for this endpoint."""
        if name in self._endpoints:
            self._endpoints[name].woken.set()

    async def test(self, site_id: str) -> Notice:
        """Sends a test event to the site's webhook now, and returns how it went. It is repeated like others.

        Raises NotFound, BadRequest.
        """
        site = self._context.settings.site_of(site_id)
        if site is None:
            raise NotFound(f"there is no site {site_id} in the settings")
        endpoint = self._endpoints.get(f"{WEBHOOK}{site_id}")
        if endpoint is None:
            raise BadRequest(f"the site {site_id} has no webhook_url")
        notice = new_test(self._context, site)
        held = replace(notice, due_at=notice.created_at + LEASE_SECONDS)  # ours from the beginning
        await self._context.storage.transact(lambda transaction: transaction.outbox.add(held))
        return await self._attempt(endpoint, held)

    async def _serve(self, endpoint: _Endpoint) -> None:
        while True:
            endpoint.woken.clear()
            pause = LOOK_SECONDS
            try:
                if len(endpoint.running) < PARALLEL:
                    pause = await self._begin(endpoint)
            except StoreUnavailable:
                log.info("the store did not say what is to be sent to %s", endpoint.name)
            except Exception:
                log.exception("what is to be sent to %s could not be read", endpoint.name)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await endpoint.woken.wait()

    async def _begin(self, endpoint: _Endpoint) -> float:
        """Begins to send what is due, as much as fits; returns the seconds until there may be more."""
        now, free = self._context.now(), PARALLEL - len(endpoint.running)

        async def work(transaction: Transaction) -> tuple[Sequence[Notice], float | None]:
            outbox = transaction.outbox
            due = await outbox.claim(endpoint.name, now=now, until=now + LEASE_SECONDS, limit=free)
            return due, await outbox.next_due(endpoint.name)

        due, next_due = await self._context.storage.transact(work)
        for notice in due:
            endpoint.running.add(asyncio.create_task(self._deliver(endpoint, notice)))
        if next_due is None:
            return LOOK_SECONDS
        return min(max(next_due - now, SHORTEST_SECONDS), LOOK_SECONDS)

    async def _deliver(self, endpoint: _Endpoint, notice: Notice) -> None:
        try:
            await self._attempt(endpoint, notice)
        except StoreUnavailable:
            log.info("the store did not take how %s went to %s; it goes again", notice.id, endpoint.name)
        finally:
            endpoint.running.discard(asyncio.current_task())
            endpoint.woken.set()

    async def _attempt(self, endpoint: _Endpoint, notice: Notice) -> Notice:
        """One call, and its outcome in the store. Raises StoreUnavailable; the lease passes then."""
        try:
            status = await self._call(endpoint, notice)
            arrived, result = 200 <= status < 300, str(status)
            if 300 <= status < 400:
                result = f"{status}: redirects are not followed"
        except NotReached as reason:
            arrived, result = False, str(reason)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("%s could not be sent to %s", notice.id, endpoint.name)
            arrived, result = False, "a fault of ours: see the log"
        outcome = self._outcome(notice, arrived, result)
        kind = endpoint.name.partition(":")[0]
        state = "retried" if outcome.state == "pending" else outcome.state
        self._context.metrics.notice_sent(kind, state)
        words = (notice.event, notice.id, endpoint.name, outcome.attempts, result)
        if outcome.state == "failed":
            log.warning("gave up telling %s (%s) to %s after %d attempts: %s", *words)
        elif not arrived:
            log.info("%s (%s) did not arrive at %s in attempt %d: %s", *words)
        await self._context.storage.transact(lambda transaction: transaction.outbox.settle(outcome))
        return outcome

    async def _call(self, endpoint: _Endpoint, notice: Notice) -> int:
        """The status of the answer. Raises NotReached, StoreUnavailable."""
        site = endpoint.site
        if endpoint.name.startswith(WEBHOOK):
            body = notice.payload.encode("utf-8")
            headers = signed_headers(notice.id, int(self._context.now()), body, site.webhook_secrets)
            headers["Content-Type"] = "application/json"
        else:
            ended = json.loads(notice.payload)
            token = await self._logout_token(site, ended["sub"], ended["sid"], notice.id)
            body = urlencode({"logout_token": token}).encode("ascii")
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._calls.post(endpoint.url, body, headers)

    def _outcome(self, notice: Notice, arrived: bool, result: str) -> Notice:
        now, attempts = self._context.now(), notice.attempts + 1
        tried = replace(notice, attempts=attempts, result=result, expires_at=now + KEEP_SECONDS)
        if arrived:
            return replace(tried, state="delivered")
        jitter = int.from_bytes(self._context.random(4)) / 2**32
        again_at = next_attempt(notice.created_at, attempts, now=now, jitter=jitter)
        return replace(tried, state="failed") if again_at is None else replace(tried, due_at=again_at)


def _endpoints(sites: Sequence[RegisteredSite]) -> Iterator[_Endpoint]:
    for site in sites:
        if site.webhook_url:
            yield _Endpoint(f"{WEBHOOK}{site.id}", site.webhook_url, site)
        if site.backchannel_logout_uri:
            yield _Endpoint(f"{LOGOUT}{site.id}", site.backchannel_logout_uri, site)


async def newest(context: Context, *, site_id: str | None, limit: int) -> Sequence[Notice]:
    """What was to be told to all sites or to one, whatever became of it, the newest first."""

    async def work(transaction: Transaction) -> list[Notice]:
        if site_id is None:
            return list(await transaction.outbox.newest(limit=limit))
        found: list[Notice] = []
        for kind in (WEBHOOK, LOGOUT):
            found += await transaction.outbox.newest(endpoint=f"{kind}{site_id}", limit=limit)
        return sorted(found, key=lambda notice: notice.created_at, reverse=True)[:limit]

    return await context.storage.transact(work)
