"""How things stand with WeChat, for the operator. What is counted is counted in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.code_pool import CodePool
from flows.context import Context
from flows.deliveries import Deliveries
from wechat.api import CREATE_CODE
from wechat.client import WechatClient, wechat_day


@dataclass(frozen=True, slots=True)
class LastError:
    path: str  # of the platform's API
    at: float
    words: str  # what an operator is told


@dataclass(frozen=True, slots=True)
class State:
    """Times are Unix seconds, 0 for never."""

    token_until: float
    last_callback_at: float
    errors: Sequence[LastError]  # of calls that have not succeeded since, the newest first
    calls: Sequence[tuple[str, int]]  # today (Beijing's), by path, the most first
    codes_today: int
    codes_ready: int


class PlatformState:
    def __init__(
        self, context: Context, client: WechatClient, codes: CodePool, deliveries: Deliveries
    ) -> None:
        self._context = context
        self._client = client
        self._codes = codes
        self._deliveries = deliveries

    async def look(self) -> State:
        """Raises StoreUnavailable."""
        client = self._client
        today = client.calls_day == wechat_day(self._context.now())
        errors = [LastError(path, trouble.at, trouble.words) for path, trouble in client.troubles.items()]
        return State(
            token_until=client.token.expires_at,
            last_callback_at=self._deliveries.last_at,
            errors=sorted(errors, key=lambda error: -error.at),
            calls=client.calls.most_common() if today else (),
            codes_today=client.calls[CREATE_CODE] if today else 0,
            codes_ready=await self._codes.ready(),
        )
