"""People and browsers at a site, on any store: each thing they do is done by the flows and written down."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.token import Claims
from errors import SaomaError, StoreUnavailable
from flows import confirm, not_me, people, sessions
from flows.app_login import AppLogin
from flows.context import Context
from flows.exchange import exchange
from flows.follow import followed, unfollowed
from flows.scan import scanned
from flows.tickets import abandon
from flows.watch import view
from storage.base import Transaction
from storage.records import User
from tests.order.history import History, Operation
from tickets import Device, Ticket, hash_secret
from wechat.messages import Message

DEVICE = Device("Chrome", "Windows", "203.0.113.5")
LINK = re.compile(r"/(?:not-me|confirm)/([\w-]+)")


@dataclass(frozen=True)
class Act:
    """What somebody is going to do; which of the words matter depends on the kind."""

    kind: str
    actor: str
    ticket: str = ""
    node: int = 0


@dataclass(frozen=True)
class Node:
    """`asked` is the same with `wechat.confirm: always`."""

    context: Context
    asked: Context
    login: AppLogin
    current: Callable[[str], Awaitable[sessions.Current | None]]

    @classmethod
    def of(cls, context: Context, asked: Context, **more: Any) -> Node:
        current = more.get("current") or (lambda token: sessions.current(context, token))
        return cls(context, asked, AppLogin(context, ()), current)  # whose claims need no token here


@dataclass
class Site:
    """Tickets are called "wechat …", "asked …" or "app …"; `prefix` keeps sites apart on one store."""

    nodes: Sequence[Node]
    history: History
    prefix: str = ""
    holders: dict[str, str] = field(default_factory=dict)  # the browser of each ticket
    scanners: dict[str, str] = field(default_factory=dict)
    handles: dict[tuple[str, str], str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    not_me_links: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)  # by browser, those of answered exchanges

    async def do(self, act: Act) -> None:
        """Does it and writes it down; what is refused is an answer, too."""
        perform: Any = getattr(self, act.kind)
        with self.history.record(act.kind, act.actor, act.ticket) as operation:
            try:
                await perform(act, self._context(act), operation)
            except StoreUnavailable:
                raise
            except SaomaError as error:
                operation.said = error.code

    def _context(self, act: Act) -> Context:
        node = self.nodes[act.node % len(self.nodes)]
        return node.asked if act.ticket.startswith("asked") else node.context

    def own(self, name: str) -> str:
        return self.prefix + name

    # Browsers.

    async def issue(self, act: Act, context: Context, operation: Operation) -> None:
        now = context.now()
        self.holders[act.ticket] = act.actor
        ticket = Ticket(
            id=self.own(act.ticket),
            secret_hash=hash_secret(self._secret(act)),
            method="app" if act.ticket.startswith("app") else "wechat",
            client="browser",
            created_at=now,
            expires_at=now + 300,
            code="code",
            next="/",
            device=DEVICE,
        )

        async def work(transaction: Transaction) -> None:
            await transaction.tickets.create(ticket)

        await context.storage.transact(work)
        operation.ok = True

    def _secret(self, act: Act) -> str:
        """The ticket's, for its holder; somebody else makes one up."""
        known = "secret" if self.holders[act.ticket] == act.actor else "guess"
        return f"{known} of {self.own(act.ticket)}"

    async def exchange(self, act: Act, context: Context, operation: Operation) -> None:
        operation.former = tuple(self.tokens.get(act.actor, ())[-2:])
        collected = await exchange(
            context, self.own(act.ticket), self._secret(act), former_tokens=operation.former
        )
        scanner = collected.ticket.scanner
        assert scanner is not None
        assert collected.user.identity(scanner.provider, scanner.subject) is not None
        operation.ok, operation.token = True, collected.token
        operation.person = scanner.subject.removeprefix(self.prefix)
        self.tokens.setdefault(act.actor, []).append(collected.token)

    async def abandon(self, act: Act, context: Context, operation: Operation) -> None:
        await abandon(context, self.own(act.ticket), self._secret(act))
        operation.ok = True

    async def look(self, act: Act, context: Context, operation: Operation) -> None:
        seen = await view(context, self.own(act.ticket), self._secret(act))
        operation.ok, operation.said = True, seen.state.value
        if seen.user is not None:
            operation.person = self._subject(seen.user)

    async def who(self, act: Act, context: Context, operation: Operation) -> None:
        """Whose session a token is: the actor, or the last one that the browser was given."""
        operation.token = self.tokens.get(act.actor, [act.actor])[-1]
        current = await self.nodes[act.node % len(self.nodes)].current(operation.token)
        if current is not None:
            operation.ok, operation.person = True, self._subject(current.user)

    async def listed(self, act: Act, context: Context, operation: Operation) -> None:
        """The tickets that the person's sessions came of, as their own page and admins see them."""

        async def work(transaction: Transaction) -> list[str]:
            found: list[str] = []
            for provider in ("wechat", "app"):
                user = await transaction.users.by_identity(provider, self.own(act.actor))
                if user is not None:
                    kept = await transaction.sessions.of_user(user.id, now=context.now())
                    found += [session.ticket_id.removeprefix(self.prefix) for session in kept]
            return found

        operation.said = ",".join(await context.storage.transact(work))
        operation.ok = True

    def _subject(self, user: User) -> str:
        return user.identities[0].subject.removeprefix(self.prefix)

    # People with a phone.

    def _claims(self, person: str) -> Claims:
        return Claims(self.own(person), self.nodes[0].context.token(8))

    def _message(self, act: Act, context: Context, event: str) -> Message:
        return Message("gh_1", self.own(act.actor), int(context.now()), "event", event, "", "", "")

    async def scan(self, act: Act, context: Context, operation: Operation) -> None:
        if act.ticket.startswith("app"):
            login = self.nodes[act.node % len(self.nodes)].login
            seen = await login.scan(self.own(act.ticket), self._claims(act.actor))
            self.handles[act.ticket, act.actor] = seen.handle
            operation.ok = True
            return
        message = self._message(act, context, "scan")

        async def work(transaction: Transaction) -> Any:
            return await scanned(transaction, context, message, self.own(act.ticket))

        outcome = await context.storage.transact(work)
        operation.ok = bool(outcome.changed)
        asked = LINK.search(outcome.message)
        if asked:
            self.questions[act.ticket], self.scanners[act.ticket] = asked[1], act.actor
        self._note_link(act.ticket, outcome.reply)

    def _note_link(self, ticket: str, text: str) -> None:
        link = LINK.search(text)
        if link:
            self.not_me_links[ticket] = link[1]

    async def confirm(self, act: Act, context: Context, operation: Operation) -> None:
        await self._decide(act, context, operation, yes=True)

    async def cancel(self, act: Act, context: Context, operation: Operation) -> None:
        await self._decide(act, context, operation, yes=False)

    async def _decide(self, act: Act, context: Context, operation: Operation, *, yes: bool) -> None:
        if act.ticket.startswith("app"):
            login = self.nodes[act.node % len(self.nodes)].login
            decide = login.confirm if yes else login.cancel
            handle = self.handles.get((act.ticket, act.actor), "x" * 64)
            await decide(self.own(act.ticket), self._claims(act.actor), handle)
            operation.ok = True
            return
        if self.scanners.get(act.ticket) != act.actor:
            return  # the link went to whoever scanned
        decided = await confirm.decide(context, self.questions.get(act.ticket, "x"), yes=yes)
        operation.ok = decided is not None
        if decided is not None:
            self._note_link(act.ticket, decided.not_me)

    async def follow(self, act: Act, context: Context, operation: Operation) -> None:
        message = self._message(act, context, "subscribe")

        async def work(transaction: Transaction) -> Any:
            return await followed(transaction, context, message)

        await context.storage.transact(work)
        operation.ok = True

    async def unfollow(self, act: Act, context: Context, operation: Operation) -> None:
        message = self._message(act, context, "unsubscribe")

        async def work(transaction: Transaction) -> bool:
            await unfollowed(transaction, context, message)
            user = await transaction.users.by_identity("wechat", message.openid)
            identity = user.identity("wechat", message.openid) if user else None
            applied = identity is not None and identity.event_at == message.created_at
            return applied and not identity.following

        operation.ok = await context.storage.transact(work)
        operation.said = "wechat"

    async def not_me(self, act: Act, context: Context, operation: Operation) -> None:
        link = self.not_me_links.get(act.ticket, "x")
        operation.ok = await not_me.end_login(context, link) is not None

    # The site's team.

    async def block(self, act: Act, context: Context, operation: Operation) -> None:
        await self._to_user(act, context, operation, lambda user: people.set_blocked(context, user.id, True))

    async def forget(self, act: Act, context: Context, operation: Operation) -> None:
        await self._to_user(act, context, operation, lambda user: people.forget(context, user.id))

    async def sign_out(self, act: Act, context: Context, operation: Operation) -> None:
        async def effect(user: User) -> None:
            async def work(transaction: Transaction) -> None:
                await people.sign_out(transaction, context, user, "signed_out")

            await context.storage.transact(work)

        await self._to_user(act, context, operation, effect)

    async def _to_user(
        self, act: Act, context: Context, operation: Operation, effect: Callable[[User], Awaitable[None]]
    ) -> None:
        """To whom the person is by the ticket's method."""
        provider = "app" if act.ticket.startswith("app") else "wechat"

        async def work(transaction: Transaction) -> User | None:
            return await transaction.users.by_identity(provider, self.own(act.actor))

        user = await context.storage.transact(work)
        if user is not None:
            await effect(user)
            operation.ok, operation.said = True, provider
