"""WeChat's access token for the team's other programs: who fetches one of its own ends everybody else's."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass

from config.sections import RegisteredSite
from errors import Forbidden, SaomaError
from flows.context import Context
from flows.limits import take
from storage.rates import Rate
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

# For one site; a program asks once in a token's life, and after a rejection.
RATE = Rate.per_minute("access-tokens", 60)
CHECK_PAUSE = 10.0  # seconds that what WeChat said of a token stands

log = logging.getLogger("saoma.access_token")


class TokenNotForSite(Forbidden):
    code = "access_token_not_allowed"
    message = "This site may not read WeChat's access token: its wechat_access_token is not true."


class TokenUnavailable(SaomaError):
    """WeChat is not set up, or gave no token."""

    code = "access_token_unavailable"
    status = 503
    message = "WeChat gives no access token just now; try again in a moment."


@dataclass(frozen=True, slots=True)
class Lent:
    token: str
    expires_in: int  # whole seconds


class AccessTokens:
    """`client` is None where WeChat is not set up."""

    def __init__(self, context: Context, client: WechatClient | None) -> None:
        self._context = context
        self._client = client
        self._check: asyncio.Task[None] | None = None
        self._checked_at = 0.0

    async def lend(self, site: RegisteredSite, address: str, *, rejected: str = "") -> Lent:
        """The token that every node hands out.

        `rejected` is the SHA-256, in hex, of a token that WeChat did not take from the caller. It is not
        believed: where it is that of the current one we try that ourselves, and what WeChat says decides.
        Raises Forbidden, TooManyRequests, TokenUnavailable.
        """
        if not site.wechat_access_token:
            raise TokenNotForSite
        await take(self._context, RATE, site.id)
        if self._client is None:
            raise TokenUnavailable("WeChat is not set up.")
        try:
            token, end = await self._client.token.lend()
            if rejected.lower() == hashlib.sha256(token.encode("ascii")).hexdigest():
                log.info("site %s at %s says that WeChat rejects the access token", site.id, address)
                await self._checked(self._client)
                token, end = await self._client.token.lend()
        except (PlatformError, PlatformUnreachable):  # the client has told the operator
            raise TokenUnavailable from None
        log.info("the access token was given to site %s at %s", site.id, address)
        return Lent(token, max(0, int(end - self._context.now())))

    async def _checked(self, client: WechatClient) -> None:
        """Returns when WeChat takes the token, or a new one in its place; one check for all who ask."""
        now = self._context.now()
        if self._check is None or (self._check.done() and abs(now - self._checked_at) >= CHECK_PAUSE):
            self._checked_at = now
            self._check = asyncio.create_task(client.check_callback_addresses())
            self._check.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._check)
