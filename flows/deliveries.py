"""What WeChat delivers: each is done once, whatever it is, and answered in time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from contextlib import suppress
from dataclasses import dataclass

from errors import StoreUnavailable
from flows.code_pool import ID_BYTES
from flows.context import Context
from flows.follow import followed, unfollowed
from flows.messenger import Messenger
from flows.profiles import ProfileFetcher
from flows.relay import Relay
from flows.scan import Outcome, scanned
from storage.base import Transaction
from wechat.callback import Delivery, Gate, Mode, Refused
from wechat.messages import Action, Message
from wechat.replies import SUCCESS, text_reply

# WeChat redelivers within about 15 s; a delivery is fresh for the window on both sides of now.
MARK_SECONDS = 600.0
ANSWER_SECONDS = 4.0  # WeChat waits for 5
NOTE_PAUSE = 600.0  # seconds between two log lines about deliveries of another time

log = logging.getLogger("saoma.deliveries")

_OUR_SCENE = re.compile(rf"[A-Za-z0-9_-]{{{ID_BYTES * 4 // 3}}}\Z")


@dataclass(frozen=True, slots=True)
class Posted:
    """One POST of the callback as it came."""

    query: str
    body: bytes
    content_type: str


class _GivenUp(Exception):
    """Whoever had it in hand was stopped."""


class Deliveries:
    """`relay` is None where nothing is forwarded."""

    def __init__(
        self,
        context: Context,
        gate: Gate,
        profiles: ProfileFetcher,
        messenger: Messenger,
        relay: Relay | None,
    ) -> None:
        self._context = context
        self._gate = gate
        self._profiles = profiles
        self._messenger = messenger
        self._relay = relay
        self._noted_at = float("-inf")
        self._running: dict[str, asyncio.Future[bytes]] = {}
        self.last_at = 0.0  # Unix seconds of the newest delivery that was WeChat's; 0: none came yet
        self._keep = max(MARK_SECONDS, 2 * gate.window + 60)

    async def accept(self, posted: Posted) -> bytes:
        """The reply as it goes over the wire. Raises Refused (before anything is done), StoreUnavailable.

        A delivery that comes again while the first is being handled waits for the same answer.
        """
        try:
            delivery = self._gate.open(posted.query, posted.body, self._context.now())
        except Refused:
            self._note_time(posted.query)
            raise
        self.last_at = self._context.now()
        key = delivery.message.delivery_key
        running = self._running.get(key)
        if running is not None:
            await self._context.storage.transact(
                lambda transaction: self._require_first_body(transaction, delivery, posted.body)
            )
            with suppress(Refused, _GivenUp):  # the other one; this one is judged by itself
                return await asyncio.shield(running)
        answer = self._running[key] = asyncio.get_running_loop().create_future()
        handling = self._run(key, delivery, posted, answer)
        if self._relay is None:
            return await handling
        try:  # the backend may take its time, and then it is done all the same
            return await asyncio.wait_for(asyncio.shield(handling), ANSWER_SECONDS)
        except TimeoutError:
            raise StoreUnavailable from None

    def _note_time(self, query: str) -> None:
        """Once in a while: anybody may send an old delivery again."""
        now = self._context.now()
        ahead = self._gate.time_off(query, now)
        if ahead and abs(now - self._noted_at) >= NOTE_PAUSE:
            self._noted_at = now
            log.info(
                "refused a delivery of WeChat's whose time is %+.0f seconds from ours: a replay,"
                " unless this machine's clock is wrong",
                ahead,
            )

    async def finish(self, seconds: float) -> None:
        """Returns when what is being handled has been answered, or after that long."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds)

    async def _run(
        self, key: str, delivery: Delivery, posted: Posted, answer: asyncio.Future[bytes]
    ) -> bytes:
        """Handles it; the answer is for whoever else asks meanwhile too."""
        try:
            reply = await self._handle(key, delivery, posted)
        except BaseException as error:
            answer.set_exception(error if isinstance(error, Exception) else _GivenUp())
            answer.exception()  # there may be nobody else to be told
            raise
        else:
            answer.set_result(reply)
            return reply
        finally:
            if self._running.get(key) is answer:
                del self._running[key]

    async def _require_first_body(self, transaction: Transaction, delivery: Delivery, body: bytes) -> None:
        """Plain mode's signature covers no body, so one signature may bring only one (security rule 6)."""
        if self._gate.mode is not Mode.PLAIN:
            return
        expires_at = self._context.now() + self._keep
        body_hash = hashlib.sha256(body).digest()
        if not await transaction.deliveries.bind(delivery.signature, body_hash, expires_at=expires_at):
            raise Refused("another body with the same signature")

    async def _handle(self, key: str, delivery: Delivery, posted: Posted) -> bytes:
        context, message = self._context, delivery.message
        relay = None if _is_login(message) else self._relay
        nothing_to_do = relay is None and message.action in (Action.MESSAGE, Action.OTHER_EVENT)
        if nothing_to_do and self._gate.mode is not Mode.PLAIN:
            return SUCCESS

        async def work(transaction: Transaction) -> tuple[bytes, Outcome | None]:
            await self._require_first_body(transaction, delivery, posted.body)
            if nothing_to_do:
                return SUCCESS, None
            known = await transaction.deliveries.reply_to(key, now=context.now())
            if known is not None:
                return known, None
            outcome = await _act(transaction, context, message)
            reply = self._on_the_wire(delivery, outcome.reply)
            if relay is None:
                await transaction.deliveries.mark(key, reply, expires_at=context.now() + self._keep)
            return reply, outcome

        reply, outcome = await context.storage.transact(work)
        if outcome is None:
            return reply
        for ticket_id in outcome.changed:
            await context.broker.publish(ticket_id)
        if outcome.met is not None:
            self._profiles.want(outcome.met, message.openid)
        if outcome.message:
            self._messenger.send(message.openid, outcome.message)
        if relay is not None:
            reply = await self._forward(key, delivery, posted, relay, reply)
        return reply

    async def _forward(
        self, key: str, delivery: Delivery, posted: Posted, relay: Relay, ours: bytes
    ) -> bytes:
        """The backend's reply, else `ours`; the delivery is done only when the backend has had it too."""
        theirs = await relay.forward(delivery, posted.query, posted.body, posted.content_type)
        reply = ours if theirs is None else theirs
        expires_at = self._context.now() + self._keep
        await self._context.storage.transact(
            lambda transaction: transaction.deliveries.mark(key, reply, expires_at=expires_at)
        )
        return reply

    def _on_the_wire(self, delivery: Delivery, text: str) -> bytes:
        if not text:
            return SUCCESS
        context = self._context
        now = context.now()
        return self._gate.seal(delivery, text_reply(delivery.message, text, now), now, context.random)


def _is_login(message: Message) -> bool:
    """Whether the event comes from a code of ours; other codes of the account are the team's own."""
    return message.scene is not None and _OUR_SCENE.match(message.scene) is not None


async def _act(transaction: Transaction, context: Context, message: Message) -> Outcome:
    match message.action:
        case Action.SCAN | Action.FOLLOW_BY_CODE if _is_login(message):
            return await scanned(transaction, context, message, message.scene or "")
        case Action.FOLLOW | Action.FOLLOW_BY_CODE:
            return await followed(transaction, context, message)
        case Action.UNFOLLOW:
            return await unfollowed(transaction, context, message)
        case _:
            return Outcome()
