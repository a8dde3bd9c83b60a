"""What was asked of the server, and what it answered. A question is noted before it is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from tickets.ticket import EXCHANGE_REPEAT_SECONDS

WECHAT, APP = "wechat", "app"
SCAN, FOLLOW, UNFOLLOW = "SCAN", "subscribe", "unsubscribe"


@dataclass(eq=False)
class Event:
    """One push of WeChat's. Of one person no two have the same CreateTime."""

    openid: str
    kind: str
    created_at: int
    ticket_id: str = ""
    of_known: bool = False  # it was acknowledged before that the person is there
    acknowledged: bool = False
    in_order: bool = False  # acknowledged before a newer one of the person was asked


@dataclass(eq=False)
class Exchange:
    """One request. Moments are counts of what was noted before."""

    asked: int
    since: float  # seconds of some clock
    ended: int | None = None  # None while it runs
    status: int = 0  # 0: no answer came, it may have happened
    token: str = ""  # of the session

    def overlaps(self, other: Exchange) -> bool:
        return not any(
            one.ended is not None and one.ended < two.asked for one, two in ((self, other), (other, self))
        )


@dataclass(eq=False)
class Login:
    """One ticket, and what a browser did with it."""

    id: str
    method: str
    scanners: set[str] = field(default_factory=set)  # subjects that were to scan it
    confirmed_by: str = ""  # the one whose yes was acknowledged
    exchanges: list[Exchange] = field(default_factory=list)
    abandoned: bool = False  # acknowledged
    ends_asked: int = 0  # by a logout, an unfollow, the browser's next login, a page that gave up
    ended: bool = False  # and acknowledged

    @property
    def end_asked(self) -> bool:
        return self.ends_asked > 0

    @property
    def won(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.status == 200]

    @property
    def tokens(self) -> set[str]:
        """The session's token is one of these; empty: it is that of a request that got no answer, maybe."""
        won = self.won
        newest = max((exchange.asked for exchange in won), default=0)
        last = [exchange for exchange in won if exchange.ended is None or exchange.ended > newest]
        first = min((exchange.asked for exchange in last), default=0)
        silent = (exchange for exchange in self.exchanges if not exchange.status)
        if any(exchange.ended is None or exchange.ended > first for exchange in silent):
            return set()
        return {exchange.token for exchange in last}


class History:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.logins: dict[str, Login] = {}
        self.complaints: list[str] = []  # answers that should not have been
        self._by_person: dict[str, list[Event]] = {}
        self._count = itertools.count(1)

    def of_person(self, openid: str) -> list[Event]:
        return self._by_person.get(openid, [])

    def people(self) -> Iterable[tuple[str, list[Event]]]:
        return self._by_person.items()

    # What is asked.

    def issued(self, ticket_id: str, method: str) -> Login:
        """A page has shown the ticket."""
        login = self.logins[ticket_id] = Login(ticket_id, method)
        return login

    def event(self, openid: str, kind: str, created_at: int, login: Login | None = None) -> Event:
        known = any(former.acknowledged and former.kind != UNFOLLOW for former in self.of_person(openid))
        event = Event(openid, kind, created_at, login.id if login else "", known)
        self.events.append(event)
        self._by_person.setdefault(openid, []).append(event)
        if login is not None:
            login.scanners.add(openid)
        if kind == UNFOLLOW:
            for other in self._logins_of(openid):
                other.ends_asked += 1
        return event

    def exchange(self, login: Login, now: float = 0.0) -> Exchange:
        exchange = Exchange(next(self._count), now)
        login.exchanges.append(exchange)
        return exchange

    # What is answered.

    def acknowledged(self, event: Event) -> None:
        if event.acknowledged:  # it was delivered again
            return
        event.acknowledged = True
        event.in_order = not any(
            other.created_at > event.created_at for other in self.of_person(event.openid)
        )
        if (
            event.kind == UNFOLLOW and event.in_order and event.of_known
        ):  # else it may have come too late to end anything
            for login in self._logins_of(event.openid):
                login.ended |= self._is_only(login, event.openid)

    def confirmed(self, login: Login, subject: str) -> None:
        if login.confirmed_by not in ("", subject):
            self.complain(f"double: {login.id} was confirmed by {login.confirmed_by} and by {subject}")
        login.confirmed_by = subject

    def exchanged(
        self,
        login: Login,
        exchange: Exchange,
        status: int = 0,
        *,
        token: str = "",
        subject: str = "",
        now: float = 0.0,
    ) -> None:
        """`status` 0: no answer came."""
        exchange.ended, exchange.status, exchange.token = next(self._count), status, token
        if status == 200 and subject not in login.scanners:
            self.complain(f"foreign: {login.id} was collected as {subject}, who never scanned it")
        if status == 200 and login.confirmed_by not in ("", subject):
            self.complain(f"foreign: {login.id} is {login.confirmed_by}'s, collected as {subject}")
        alone = not any(exchange.overlaps(other) for other in login.exchanges if other is not exchange)
        in_time = now < login.exchanges[0].since + EXCHANGE_REPEAT_SECONDS
        if status not in (0, 200) and login.confirmed_by and alone and in_time and not login.end_asked:
            self.complain(f"lost: {login.id} cannot be collected: {status}")

    def complain(self, words: str) -> None:
        self.complaints.append(words)

    def _is_only(self, login: Login, openid: str) -> bool:
        """Whether the login is this person's, and no scan of it is still on its way."""
        scans = (event for event in self.of_person(openid) if event.ticket_id == login.id)
        theirs = login.confirmed_by == openid or login.scanners == {openid}
        return theirs and all(scan.acknowledged for scan in scans)

    def _logins_of(self, openid: str) -> Iterable[Login]:
        return (
            login
            for login in (self.logins.get(event.ticket_id) for event in self.of_person(openid))
            if login is not None and login.method == WECHAT
        )
