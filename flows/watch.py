"""Waiting: one flow behind WebSocket, long poll and plain poll.

A waiter subscribes first and then reads, reads again on every wake, and knows itself when the ticket ends:
no change is missed, and none is believed before the store has said it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from errors import StoreUnavailable, TicketUnknown
from flows.context import Context
from flows.tickets import held_ticket
from storage.base import Transaction
from storage.records import User
from tickets import FINAL, State

RETRY_SECONDS = 1.0  # until the store is asked again after it did not answer

log = logging.getLogger("saoma.waiting")

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


async def view(context: Context, ticket_id: str, secret: str) -> View:
    """The ticket now; INVALID for unknown, expired and for everybody without the secret."""

    async def work(transaction: Transaction) -> View:
        now = context.now()
        try:
            ticket = await held_ticket(transaction, ticket_id, secret, now)
        except TicketUnknown:
            return INVALID
        named = ticket.state in _NAMED
        user = await transaction.users.get(ticket.user_id) if named else None
        return View(ticket.state, user, ticket.expires_at - now, ticket.shown_number)

    return await context.storage.transact(work)


class Watch:
    """One waiter on one ticket: `tell` gets the state on opening and then each other state it enters."""

    def __init__(self, context: Context, ticket_id: str, secret: str, tell: Callable[[View], None]) -> None:
        self._context = context
        self._ticket_id = ticket_id
        self._secret = secret
        self._tell = tell
        self._told: State | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = True
        self._woken = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self) -> None:
        """Subscribes and tells the state now. Raises StoreUnavailable."""
        self._unsubscribe = await self._context.broker.subscribe(self._ticket_id, self._wake)
        try:
            self._tell_if_new(await view(self._context, self._ticket_id, self._secret))
        except BaseException:
            self.close()
            raise
        self._opening = False
        if self._woken:
            self._wake()

    def close(self) -> None:
        """Ends the waiting; nothing is told afterwards."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._opening or self._reading is not None:
            # What is being read may be older than this wake, and no second read may overtake it.
            self._woken = True
        elif not self._closed:
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            self._woken = True
            while self._woken and not self._closed:
                self._woken = False
                seen = await view(self._context, self._ticket_id, self._secret)
                self._tell_if_new(seen)
        except StoreUnavailable:
            self._wake_in(RETRY_SECONDS)
        finally:
            self._reading = None

    def _tell_if_new(self, seen: View) -> None:
        if self._closed:
            return
        if seen.state in FINAL:
            self.close()
        else:
            self._wake_in(seen.expires_in)
        if seen.state != self._told:
            self._told = seen.state
            self._tell(seen)

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._wake)


async def next_view(
    context: Context, ticket_id: str, secret: str, known: State | None, seconds: float
) -> View:
    """Long poll: the first state other than `known`, or the state after `seconds`.

    `known` None: other than the one on arrival. Final states, INVALID among them, are answered at once.
    """
    latest = INVALID
    changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(seen: View) -> None:
        nonlocal latest, known
        latest = seen
        if known is None:
            known = seen.state
        if (seen.state != known or seen.state in FINAL) and not changed.done():
            changed.set_result(None)

    watch = Watch(context, ticket_id, secret, tell)
    await watch.open()
    try:
        async with asyncio.timeout(seconds):
            await changed
    except TimeoutError:
        pass
    finally:
        watch.close()
    return latest
