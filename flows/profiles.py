"""Profiles are fetched after the login, never before it: for new people, and again after a day."""

from __future__ import annotations

import asyncio
import logging

import background
from errors import StoreUnavailable
from flows.announce import CAUSE_BYTES, announce_update
from flows.context import Context
from flows.endings import end_sessions_of
from flows.scan import PROVIDER
from storage.base import Transaction
from storage.records import Profile, User
from wechat.api import Follower, PlatformError
from wechat.client import PlatformUnreachable, WechatClient

AGE = 86400.0  # seconds that a profile is good for
PARALLEL = 2  # calls at once at most
MAX_WAITING = 10_000  # people in the queue; more are left to their next login

log = logging.getLogger("saoma.profiles")


class ProfileFetcher:
    def __init__(self, context: Context, client: WechatClient) -> None:
        self._context = context
        self._client = client
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self._wanted: set[str] = set()
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._work()) for _ in range(PARALLEL)]

    async def stop(self) -> None:
        await background.end(self._workers)

    def want(self, user: User, openid: str) -> None:
        """Queues the person where their profile is missing or old. Never waits."""
        identity = user.identity(PROVIDER, openid)
        fresh = identity is not None and self._context.now() < identity.profile_at + AGE
        if not fresh and openid not in self._wanted and not self._queue.full():
            self._wanted.add(openid)
            self._queue.put_nowait(openid)

    async def idle(self) -> None:
        """Returns when everybody queued so far has been done."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            openid = await self._queue.get()
            try:
                await self._fetch(openid)
            except (PlatformError, PlatformUnreachable, StoreUnavailable):
                # The client has told the operator; the person's next login asks again.
                log.info("no profile for %s this time", self._context.pseudonym(openid))
            except Exception:
                log.exception("the profile of %s could not be kept", self._context.pseudonym(openid))
            finally:
                self._wanted.discard(openid)
                self._queue.task_done()

    async def _fetch(self, openid: str) -> None:
        follower = await self._client.follower(openid)
        if follower.openid != openid:
            log.warning("WeChat answered with another person's profile; it is dropped")
            return

        context, cause = self._context, self._context.token(CAUSE_BYTES)

        async def work(transaction: Transaction) -> tuple[User | None, User | None]:
            users = transaction.users
            before = await users.by_identity(PROVIDER, openid)
            after = await users.update_profile(
                PROVIDER, openid, _profile(follower), unionid=follower.unionid, now=context.now()
            )
            if before is not None and after is not None:
                await announce_update(transaction, context, before, after, cause=cause)
                if after.blocked and not before.blocked:
                    await end_sessions_of(transaction, context, after.id, "blocked")
            return before, after

        before, after = await context.storage.transact(work)
        merged = set(after.previous_ids if after else ()) - set(before.previous_ids if before else ())
        if after is not None and merged:
            log.info("user %s now stands for %s too: one unionid", after.id, ", ".join(sorted(merged)))


def _profile(follower: Follower) -> Profile:
    return Profile(
        nickname=follower.nickname,
        picture=follower.picture,
        country=follower.country,
        province=follower.province,
        city=follower.city,
    )
