"""Waiting: one flow behind WebSocket, long poll and plain poll.

A waiter subscribes first and then reads, reads again on every wake, and knows itself when the ticket ends:
no change is missed, and none is believed before the store has said it. Thousands wait at once, so that none
has a task, a timer or a closure of its own: one wheel turns for all, and those that must look again at the
same time are read together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from errors import StoreUnavailable
from flows.context import Context
from storage.base import Transaction
from storage.records import User
from tickets import FINAL, State
from wheel import Wheel

RETRY_SECONDS = 1.0  # until the store is asked again after it did not answer
MAX_TOGETHER = 100  # read in one piece of work; bounds how long the others wait for theirs

# Nothing personal before somebody has scanned (security rule 2).
_NAMED = frozenset({State.SCANNED, State.CONFIRMED, State.CONSUMED})


@dataclass(frozen=True, slots=True)
class View:
    """What the holder of a ticket's secret is told. `expires_in` is in seconds."""

    state: State
    user: User | None = None
    expires_in: float = 0.0
    number: int = 0  # that the phone must send; 0: none


INVALID = View(State.INVALID)


class Listener(Protocol):
    """Whom a watch tells. Called by the loop; must not raise."""

    def told(self, seen: View) -> None:
        """The state on arrival, and then each other state that the ticket enters."""

    def store_is_away(self) -> None:
        """The state on arrival could not be read: nothing will be told."""


async def view(context: Context, ticket_id: str, secret: str) -> View:
    """The ticket now; INVALID for unknown, expired and for everybody without the secret."""
    (seen,) = await _views(context, [(ticket_id, secret)])
    return seen


async def _views(context: Context, asked: Sequence[tuple[str, str]]) -> list[View]:
    """Of each ticket with the secret that was brought. Raises StoreUnavailable."""

    async def work(transaction: Transaction) -> list[View]:
        now, seen = context.now(), []
        found = await transaction.tickets.get_many([ticket_id for ticket_id, _ in asked], now=now)
        for ticket_id, secret in asked:
            ticket = found.get(ticket_id)
            if ticket is None or not ticket.held_by(secret):
                seen.append(INVALID)
                continue
            user = await transaction.users.get(ticket.user_id) if ticket.state in _NAMED else None
            seen.append(View(ticket.state, user, ticket.expires_at - now, ticket.shown_number))
        return seen

    return await context.storage.transact(work)


class Waiters:
    """All who wait in this process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._wheel: Wheel | None = None
        self._looking: dict[Watch, None] = {}  # those that must be read, in their order
        self._reading: asyncio.Task[None] | None = None

    @property
    def wheel(self) -> Wheel:
        """Needs a running loop."""
        if self._wheel is None:
            self._wheel = Wheel()
        return self._wheel

    def look(self, watch: Watch) -> None:
        """Reads for it soon. What is being read for it already may be older than this call."""
        self._looking[watch] = None
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._looking:
                together = [watch for watch, _ in zip(self._looking, range(MAX_TOGETHER), strict=False)]
                for watch in together:
                    del self._looking[watch]
                try:
                    seen = await _views(self.context, [watch.asked for watch in together])
                except StoreUnavailable:
                    for watch in together:
                        watch.unread()
                else:
                    for watch, one in zip(together, seen, strict=True):
                        watch.read(one)
        finally:
            self._reading = None


class Watch:
    """One waiter on one ticket."""

    __slots__ = ("_listener", "_slot", "_told", "_waiters", "asked")

    def __init__(self, waiters: Waiters, ticket_id: str, secret: str, listener: Listener) -> None:
        self._waiters = waiters
        self.asked = (ticket_id, secret)
        self._listener: Listener | None = listener  # None: closed
        self._told: State | None = None
        self._slot: int | None = None  # of the wheel

    def open(self) -> None:
        """Subscribes; the listener is told from now on."""
        self._waiters.context.broker.subscribe(self.asked[0], self)
        self._waiters.look(self)

    def close(self) -> None:
        """Ends the waiting; nothing is told afterwards."""
        if self._listener is not None:
            self._listener = None  # it holds us: what is held both ways waits for Python's collector
            self._waiters.context.broker.unsubscribe(self.asked[0], self)
            self._wake_in(None)

    def __call__(self) -> None:
        """The broker's wake."""
        if self._listener is not None:
            self._waiters.look(self)

    def due(self) -> None:
        """The ticket has come to its end, or the store is to be asked again."""
        self._slot = None
        self()

    def read(self, seen: View) -> None:
        listener = self._listener
        if listener is None:
            return
        if seen.state in FINAL:
            self.close()
        else:
            self._wake_in(seen.expires_in)
        if seen.state is not self._told:
            self._told = seen.state
            listener.told(seen)

    def unread(self) -> None:
        """The store did not answer."""
        listener = self._listener
        if listener is None:
            return
        if self._told is None:
            self.close()
            listener.store_is_away()
        else:
            self._wake_in(RETRY_SECONDS)

    def _wake_in(self, seconds: float | None) -> None:
        wheel = self._waiters.wheel
        if self._slot is not None:
            wheel.discard(self, self._slot)
        self._slot = None if seconds is None else wheel.add(self, seconds)


class Poll:
    """A long poll: one answer, the first state other than `known`, or the state after some seconds.

    `known` None: other than the one on arrival. Final states, INVALID among them, are answered at once.
    """

    __slots__ = ("_known", "_latest", "_over", "_slot", "_watch", "_wheel", "answer")

    def __init__(
        self, waiters: Waiters, ticket_id: str, secret: str, known: State | None, seconds: float
    ) -> None:
        """Needs a running loop. `answer` is the future of a View; StoreUnavailable where there is none."""
        self.answer: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        self._known = known
        self._latest: View | None = None
        self._over = seconds <= 0
        self._wheel = waiters.wheel
        self._slot = None if self._over else self._wheel.add(self, seconds)
        self._watch = Watch(waiters, ticket_id, secret, self)
        self._watch.open()

    def close(self) -> None:
        """Whoever asked has gone, or has been answered."""
        self._watch.close()
        if self._slot is not None:
            self._wheel.discard(self, self._slot)
            self._slot = None
        self.answer.cancel()

    def told(self, seen: View) -> None:
        self._latest = seen
        if self._known is None:
            self._known = seen.state
        if self._over or seen.state is not self._known or seen.state in FINAL:
            self._end(seen)

    def store_is_away(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(StoreUnavailable())
        self.close()

    def due(self) -> None:
        self._slot = None
        self._over = True
        if self._latest is not None:
            self._end(self._latest)

    def _end(self, seen: View) -> None:
        if not self.answer.done():
            self.answer.set_result(seen)
        self.close()
