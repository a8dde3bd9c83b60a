"""Who is logged in, without a read of the database each time (decision 24).

What the database said is remembered together with the marks of all that it stands on, read before it was.
It holds while those marks are unchanged: `storage/watched.py` renews them with every change, before that
is acknowledged. `flows.sessions.current` stays the one truth; this only saves asking it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from errors import StoreUnavailable
from flows import sessions
from flows.context import Context
from flows.sessions import Current
from storage import marks
from storage.shared import Shared
from tickets import hash_secret

MAX_REMEMBERED = 10_000  # sessions; beyond them the longest unused goes
# Marks tell of every change, except where whoever made it could not renew them: a node that has lost Redis,
# say, which others still reach. So this is how long those may not know, and no more.
LIFE_SECONDS = 10.0
KEPT_SECONDS = 60.0  # unused; it no longer holds then, and only its names spare a question
# A store that is away can confirm nobody (security rule 26): what is remembered counts only while the store
# has answered somebody in this time. So that is one question a second for all sessions together.
HEARD_SECONDS = 1.0
AWAY_SECONDS = 1.0  # without marks the database is asked; how long until they are tried again


@dataclass(frozen=True, slots=True)
class _Remembered:
    current: Current
    names: tuple[str, ...]
    marks: list[str]
    at: float  # before the database was asked


class SessionMemory:
    def __init__(self, context: Context, shared: Shared) -> None:
        self._context = context
        self._shared = shared
        self._known: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._away_at = float("-inf")
        self._heard_at = float("-inf")  # when the store was asked last, if it answered then

    async def current(self, tokens: Sequence[str]) -> Current | None:
        """The session that one of the tokens stands for; None as in `sessions.current`.

        None too where several are alive: somebody has planted one, and which, nobody can tell (decision 25).
        """
        alive = [found for token in tokens if (found := await self._of(token)) is not None]
        return alive[0] if len(alive) == 1 else None

    async def _of(self, token: str) -> Current | None:
        key = hash_secret(token)
        known, found = self._known.get(key), None
        if known is None:
            found = await self._ask(token)
            if found is None:
                return None
            names = marks.behind(found.session, found.user)
        else:
            names = known.names
        now_marks = await self._marks(names)
        if now_marks is None:
            return found or await self._ask(token)
        if known is not None and known.marks == now_marks and self._holds(known):
            self._known.move_to_end(key)
            return known.current
        at = self._context.now()
        found = await self._ask(token)
        if found is not None and marks.behind(found.session, found.user) == names:
            self._remember(key, _Remembered(found, names, now_marks, at))
        else:
            self._known.pop(key, None)
        return found

    async def _ask(self, token: str) -> Current | None:
        at = self._context.now()
        try:
            found = await sessions.current(self._context, token)
        except StoreUnavailable:
            self._heard_at = float("-inf")
            raise
        self._heard_at = at
        return found

    async def _marks(self, names: Sequence[str]) -> list[str] | None:
        """None where they cannot be had just now."""
        if abs(self._context.now() - self._away_at) < AWAY_SECONDS:
            return None
        try:
            return await self._shared.marks(names)
        except StoreUnavailable:
            self._away_at = self._context.now()
            self._known.clear()  # whoever could not renew a mark meanwhile is not to be waited for
            return None

    def _holds(self, known: _Remembered) -> bool:
        now, session = self._context.now(), known.current.session
        if not self._heard_at <= now < self._heard_at + HEARD_SECONDS:
            return False
        young = known.at <= now < known.at + LIFE_SECONDS  # a clock that was set back makes nothing younger
        idle = self._context.settings.session.idle
        return young and now < session.expires_at and not sessions.touch_is_due(session, idle, now)

    def _remember(self, key: bytes, known: _Remembered) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > MAX_REMEMBERED or self._longest_unused.at < known.at - KEPT_SECONDS:
            self._known.popitem(last=False)

    @property
    def _longest_unused(self) -> _Remembered:
        return next(iter(self._known.values()))
