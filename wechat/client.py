"""The only IO of this package: calls to WeChat's API, with one access token shared by all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from errors import StoreUnavailable
from storage.shared import LocalShared, Shared
from wechat import api
from wechat.api import Call, Code, Follower, PlatformError

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
RETRY_PAUSES = (0.2, 0.8)  # seconds before the second and the third try of a call
REFRESH_AHEAD = 300.0  # seconds before its end that a token is fetched anew
LEAST_LEFT = REFRESH_AHEAD / 2  # seconds that a token of another node must still be good for
REFRESH_PAUSE = 2.0  # seconds after a failed refresh in which nobody asks again
# Seconds between two forced refreshes (WeChat allows 20 a day, 30 s apart), or between two ordinary tokens
# that take the place of a refused one (2,000 a day).
FORCE_PAUSE = 60.0
SHARED_TOKEN = "wechat-token"  # noqa: S105  # the name it is shared under
LEASE_SECONDS = 10.0  # that a node may take to fetch a token while the others wait for it
LEASE_TRIES = 50
QUOTA_PAUSE = 600.0  # seconds that a call with a used-up quota is not tried
REPORT_PAUSE = 600.0  # seconds between two log lines about the same trouble
# Pauses are measured by the distance to now, either way: a clock that was set back must not prolong them.

log = logging.getLogger("saoma.wechat")

Clock = Callable[[], float]
Answer = TypeVar("Answer")
Read = Callable[[Mapping[str, Any]], Answer]


def wechat_day(now: float) -> int:
    """Days since 1970 in Beijing, where quotas begin anew at midnight."""
    return int((now + 8 * 3600) // 86400)


class PlatformUnreachable(Exception):
    """No answer came: the network, or WeChat's API, is away or slow."""

    plain_words = "WeChat's API did not answer."


class AccessToken:
    """The one token of the account: one refresh at a time, and no error ever erases a good token."""

    def __init__(
        self,
        fetch: Callable[[bool], Awaitable[tuple[str, float]]],
        shared: Shared,
        now: Clock,
        *,
        replace_pause: float,
    ) -> None:
        """`replace_pause`: seconds after a refused token was replaced in which the next is not.

        `shared` has the token for all nodes, of which one at a time fetches.
        """
        self._fetch = fetch
        self._shared = shared
        self._now = now
        self._replace_pause = replace_pause
        self._value = ""
        self._expires_at = 0.0
        self._refresh_at = 0.0
        self._replaced_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._failed: tuple[float, Exception] | None = None
        self._forced_at = 0.0

    @property
    def expires_at(self) -> float:
        """Unix seconds; 0 before the first one."""
        return self._expires_at

    async def get(self) -> str:
        """A token that is good. Raises PlatformError or PlatformUnreachable where there is none."""
        if self._now() < self._refresh_at:
            return self._value
        try:
            await self._refresh(refused="")
        except (PlatformError, PlatformUnreachable):
            if self._now() >= self._expires_at:
                raise
        return self._value

    async def lend(self) -> tuple[str, float]:
        """The token that all nodes hand out, and its end (Unix seconds). Raises as `get`.

        One that another node has fetched since is taken over first: ours may be void by now.
        """
        with suppress(StoreUnavailable):  # then nothing is shared, and ours is what there is
            await self._take_over()
        return await self.get(), self._expires_at

    async def replace(self, refused: str) -> str:
        """A token other than the one that was refused; the current one where somebody was faster.

        The refused one itself where WeChat has no other, or has been asked for another just now.
        """
        if self._value == refused and abs(self._now() - self._replaced_at) >= self._replace_pause:
            await self._refresh(refused)
        return self._value

    async def _take_over(self) -> None:
        token, end = await self._known()
        # Of two tokens that with the later end is the newer one: all live equally long.
        if token != self._value and end > max(self._expires_at, self._now() + LEAST_LEFT):
            self._adopt("", token, end - self._now())

    async def _known(self) -> tuple[str, float]:
        """The shared token and its end; "" and 0 where none is shared."""
        known = await self._shared.get(SHARED_TOKEN)
        token, end = json.loads(known) if known else ("", 0.0)
        return token, end

    async def _refresh(self, refused: str) -> None:
        if self._refreshing is None:
            if self._failed is not None and abs(self._now() - self._failed[0]) < REFRESH_PAUSE:
                raise self._failed[1]
            self._refreshing = asyncio.create_task(self._fetch_and_keep(refused))
            self._refreshing.add_done_callback(self._refreshed)
        await asyncio.shield(self._refreshing)

    async def _fetch_and_keep(self, refused: str) -> None:
        try:
            await self._fetch_alone(refused)
        except StoreUnavailable:
            # Nothing can be shared just now; a token of our own is better than none.
            self._adopt(refused, *await self._fetch_anew(refused))

    async def _fetch_alone(self, refused: str) -> None:
        """The token of whoever was faster, or a new one that all nodes get."""
        for _ in range(LEASE_TRIES):
            token, end = await self._known()
            left = end - self._now()
            if token not in (refused, self._value) and left > LEAST_LEFT:
                self._adopt(refused, token, left)
                return
            if await self._shared.lease(SHARED_TOKEN, seconds=LEASE_SECONDS):
                break
            await asyncio.sleep(LEASE_SECONDS / LEASE_TRIES)
        try:
            token, seconds = await self._fetch_anew(refused)
            self._adopt(refused, token, seconds)
            await self._shared.put(SHARED_TOKEN, json.dumps([token, self._now() + seconds]), seconds=seconds)
        finally:
            await self._shared.release(SHARED_TOKEN)

    async def _fetch_anew(self, refused: str) -> tuple[str, float]:
        token, seconds = await self._fetch(False)
        if token == refused and abs(self._now() - self._forced_at) >= FORCE_PAUSE:
            # The stable endpoint still hands out what the API refuses.
            self._forced_at = self._now()
            token, seconds = await self._fetch(True)
        return token, seconds

    def _adopt(self, refused: str, token: str, seconds: float) -> None:
        now = self._now()
        self._value, self._expires_at = token, now + seconds
        # What lives for minutes only must not be fetched for each call.
        self._refresh_at = now + max(seconds - REFRESH_AHEAD, seconds / 2)
        if refused:
            self._replaced_at = now

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        error = None if task.cancelled() else task.exception()
        self._failed = (self._now(), error) if isinstance(error, Exception) else None


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last error of one path, in plain words."""

    at: float
    words: str


class WechatClient:
    def __init__(
        self,
        *,
        appid: str,
        secret: str,
        api_base: str,
        stable: bool,
        now: Clock,
        http: AsyncHTTPClient,
        shared: Shared | None = None,
        called: Callable[[str, str], None] = lambda path, error: None,
    ) -> None:
        """`shared` None: this process is alone. `called` hears each call's path, and what went wrong."""
        self._called = called
        self._appid = appid
        self._secret = secret
        self._api_base = api_base
        self._stable = stable
        self._now = now
        self._http = http
        self._paused_until: dict[str, float] = {}
        self.token = AccessToken(
            self._fetch_token, shared or LocalShared(now), now, replace_pause=0.0 if stable else FORCE_PAUSE
        )
        self.calls: Counter[str] = Counter()  # requests sent on WeChat's day `calls_day`, by path
        self.calls_day = wechat_day(now())
        self.troubles: dict[str, Trouble] = {}  # by path; gone once a call there succeeds

    async def create_code(self, scene: str, seconds: float) -> Code:
        """Raises PlatformError or PlatformUnreachable, as all calls do."""
        return await self._call(api.create_code(scene, int(seconds)), api.read_code)

    async def follower(self, openid: str) -> Follower:
        return await self._call(api.user_info(openid), api.read_follower)

    async def send_text(self, openid: str, text: str) -> None:
        """A message of the account's own to somebody who has just scanned."""
        await self._call(api.custom_message(openid, text), dict)

    async def check_callback_addresses(self) -> None:
        """A call that costs no quota worth speaking of and needs a good token and a listed address."""
        await self._call(api.callback_addresses(), dict)

    async def _fetch_token(self, force: bool) -> tuple[str, float]:
        if self._stable:
            call = api.stable_token(self._appid, self._secret, force=force)
        else:
            call = api.ordinary_token(self._appid, self._secret)
        self._require_quota(call)
        return await self._send(call, "", api.read_token)

    async def _call(self, call: Call, read: Read[Answer]) -> Answer:
        self._require_quota(call)
        token = await self.token.get()
        try:
            return await self._send(call, token, read)
        except PlatformError as error:
            if error.code not in api.TOKEN_REFUSED:
                raise
            other = await self.token.replace(token)
            if other == token:
                raise
            return await self._send(call, other, read)

    def _require_quota(self, call: Call) -> None:
        if 0.0 < self._paused_until.get(call.path, 0.0) - self._now() <= QUOTA_PAUSE:
            raise PlatformError(api.QUOTA_USED_UP)

    async def _send(self, call: Call, token: str, read: Read[Answer]) -> Answer:
        """Sends it, again after a pause where WeChat is busy or did not answer."""
        for pause in (*RETRY_PAUSES, None):
            try:
                answer = read(api.read(await self._request(call, token), hide=(token, self._secret)))
            except PlatformError as error:
                self._called(call.path, str(error.code))
                self._note(call.path, error)
                if error.code != api.BUSY or pause is None:
                    raise
            except PlatformUnreachable as error:
                self._called(call.path, "unreachable")
                self._note(call.path, error)
                if not call.repeatable or pause is None:
                    raise
            else:
                self._called(call.path, "0")
                self.troubles.pop(call.path, None)
                return answer
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")

    async def _request(self, call: Call, token: str) -> bytes:
        if self.calls_day != (today := wechat_day(self._now())):
            self.calls.clear()
            self.calls_day = today
        self.calls[call.path] += 1
        body = call.encoded_body()
        request = HTTPRequest(
            call.url(self._api_base, token),
            method="GET" if body is None else "POST",
            headers={} if body is None else {"Content-Type": "application/json; charset=utf-8"},
            body=body,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            user_agent="saoma",
        )
        fetching = self._http.fetch(request, raise_error=False)
        # Whoever waited may be gone before it fails: Tornado would log that as an error.
        fetching.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            response = await asyncio.shield(fetching)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            raise PlatformUnreachable(type(error).__name__) from None
        if response.code != 200:
            raise PlatformUnreachable(f"HTTP status {response.code}")
        return response.body

    def _note(self, path: str, error: PlatformError | PlatformUnreachable) -> None:
        now = self._now()
        known = self.troubles.get(path)
        if known is None or known.words != error.plain_words or abs(now - known.at) >= REPORT_PAUSE:
            self.troubles[path] = Trouble(now, error.plain_words)
            log.warning("%s: %s (%s)", path, error.plain_words, error)
        if isinstance(error, PlatformError) and error.code == api.QUOTA_USED_UP:
            self._paused_until[path] = now + QUOTA_PAUSE
