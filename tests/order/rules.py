"""The checker: what no recorded history of logins may show, whatever happened at the same time.

Only what was seen counts: an answer that was there before the next question was asked is in that order, all
else may have happened in any.

    issue      a browser gets a ticket             `ok`
    scan       a person scans: it confirms "wechat …" tickets, but not "asked …" and "app …" ones
    confirm, cancel                     by the person with the phone
    abandon, exchange, look             by a browser, with the ticket's secret or with a made-up one
    unfollow, block, sign_out, forget   end what a person has; `ok`: there was somebody to end it for
    not_me     ends what came of one ticket; `ok`: the link was good
    follow     without a code
    who        whose session a token is; `ok`: somebody's, the `person`'s
    listed     the tickets that a person's sessions came of, with commas between; after all else
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tests.order.history import Operation

LIFETIME = 300.0
EXTENSION = 60.0
REPEAT = 60.0

RANKS = {"WAITING": 0, "SCANNED": 1, "CONFIRMED": 2, "CONSUMED": 3, "CANCELLED": 3}
ENDING = ("unfollow", "block", "sign_out", "forget")


@dataclass(frozen=True)
class Login:
    """What happened to one ticket, and to whoever scanned it."""

    ticket: str
    operations: Sequence[Operation]  # the whole history

    def of(self, *kinds: str, ok: bool | None = True) -> list[Operation]:
        """This ticket's."""
        return [
            found
            for found in self.operations
            if found.ticket == self.ticket and found.kind in kinds and (ok is None or found.ok is ok)
        ]

    @cached_property
    def holder(self) -> str:
        return self.of("issue")[0].actor

    @cached_property
    def scans(self) -> list[Operation]:
        return self.of("scan")

    @cached_property
    def yeses(self) -> list[Operation]:
        return self.scans if self.ticket.startswith("wechat") else self.of("confirm")

    @cached_property
    def exchanges(self) -> list[Operation]:
        return self.of("exchange")

    @cached_property
    def endings(self) -> list[Operation]:
        """What took back what its person has, or this login."""
        people = {scan.actor for scan in self.scans}
        return self.of("not_me") + [
            found
            for found in self.operations
            if found.ok and found.kind in ENDING and found.actor in people and self._is_hit_by(found)
        ]

    def _is_hit_by(self, ending: Operation) -> bool:
        """An unfollow is of the platform; a person's app and WeChat are two people here."""
        return ending.said == ("app" if self.ticket.startswith("app") else "wechat")

    def is_ended_by(self, ending: Operation) -> bool:
        """Whether it was this login's end beyond doubt. Who was deleted after a block comes back as new."""
        if ending.kind == "not_me" or any(scan.before(ending) for scan in self.scans):
            return True
        return ending.kind == "block" and not any(
            found.kind == "forget" and found.actor == ending.actor and not found.before(ending)
            for found in self.operations
        )

    def whose(self, *tokens: str) -> Iterator[Operation]:
        """Answers that a token of these is somebody's session."""
        answered = (found for found in self.operations if found.kind == "who" and found.ok)
        return (found for found in answered if found.token in tokens)


def violations(operations: Sequence[Operation]) -> list[str]:
    """What is wrong with the history, in words; [] for one that may be."""
    found = []
    for issued in operations:
        if issued.kind == "issue" and issued.ok:
            login = Login(issued.ticket, operations)
            for rule in RULES:
                found += [f"{rule.__name__}: {text}" for text in rule(login)]
    return found


def only_the_holder(login: Login) -> Iterator[str]:
    """Whoever has not the secret learns nothing and does nothing."""
    for found in login.of("exchange", "abandon"):
        if found.actor != login.holder:
            yield f"{found} has not the secret"
    for look in login.of("look", ok=None):
        if look.actor != login.holder and (look.said != "INVALID" or look.person):
            yield f"{look} was told something"


def the_first_scanner_only(login: Login) -> Iterator[str]:
    people = {scan.actor for scan in login.scans}
    if len(people) > 1:
        yield f"{login.ticket} was scanned by {sorted(people)}"
    for found in login.of("confirm", "cancel"):
        if not any(scan.actor == found.actor and not found.before(scan) for scan in login.scans):
            yield f"{found} by somebody who had not scanned"


def the_scanners_login(login: Login) -> Iterator[str]:
    """A login is of the person who scanned and said yes."""
    for exchange in login.exchanges:
        if not any(yes.actor == exchange.person and not exchange.before(yes) for yes in login.yeses):
            yield f"{exchange} without a yes of that person"
        for who in login.whose(exchange.token):
            if who.person != exchange.person:
                yield f"{who} is of somebody else than {exchange}"
    people = {scan.actor for scan in login.scans}
    for look in login.of("look"):
        if look.person and look.person not in people:
            yield f"{look} names somebody who did not scan"


def states_go_forward(login: Login) -> Iterator[str]:
    looks = [look for look in login.of("look", ok=None) if look.said in RANKS]
    for first in looks:
        for second in looks:
            backward = RANKS[second.said] < RANKS[first.said]
            other_end = RANKS[first.said] == 3 and second.said != first.said
            if first.before(second) and (backward or other_end):
                yield f"{first}, then {second}"


def nothing_after_a_no(login: Login) -> Iterator[str]:
    """Who said no, or gave the code up, was told so: no login comes of it, before or after."""
    for no in login.of("cancel", "abandon"):
        for exchange in login.exchanges:
            yield f"{no} and {exchange}"
        for later in login.of("scan", "confirm"):
            if no.before(later):
                yield f"{no}, then {later}"


def one_session(login: Login) -> Iterator[str]:
    """A repeated exchange replaces the session of the one before."""
    for first in login.exchanges:
        for second in login.exchanges:
            if first.before(second):
                for who in login.whose(first.token):
                    if second.before(who):
                        yield f"{who}, though {second} has replaced {first}"
    answered = login.whose(*(exchange.token for exchange in login.exchanges))
    after = [who for who in answered if all(exchange.before(who) for exchange in login.exchanges)]
    if len({who.token for who in after}) > 1:
        yield f"several sessions: {', '.join(map(str, after))}"


def no_session_of_nobody(login: Login) -> Iterator[str]:
    """A session that nobody was given is none."""
    for found in login.operations:
        if found.kind == "listed" and login.ticket in found.said.split(",") and not login.exchanges:
            yield f"{found}, though nobody has collected {login.ticket}"


def repeats_in_time(login: Login) -> Iterator[str]:
    for first in login.exchanges:
        for second in login.exchanges:
            if first.before(second) and second.began_at >= first.ended_at + REPEAT:
                yield f"{second} long after {first}"


def in_time(login: Login) -> Iterator[str]:
    issued = login.of("issue")[0]
    steps = login.of("scan", "confirm", "exchange")
    for found in login.of("scan", "confirm", "cancel", "abandon", "exchange"):
        ends = [step.ended_at + EXTENSION for step in steps if step is not found and not found.before(step)]
        if found.began_at >= max([issued.ended_at + LIFETIME, *ends]):
            yield f"{found} after the ticket's end"


def what_was_ended_stays_ended(login: Login) -> Iterator[str]:
    """An end that was told wins: over an exchange begun after it, and over every session begun before it."""
    for ending in login.endings:
        if not login.is_ended_by(ending):
            continue
        for exchange in login.exchanges:
            if ending.before(exchange):
                yield f"{ending}, then {exchange}"
            for who in login.whose(exchange.token):
                if ending.before(who) and exchange.before(who):
                    yield f"{who}, though there was {ending}"


def former_sessions_end(login: Login) -> Iterator[str]:
    for exchange in login.exchanges:
        for who in login.whose(*exchange.former):
            if exchange.before(who):
                yield f"{who}, though {exchange} brought it"


def nothing_is_lost(login: Login) -> Iterator[str]:
    """Where nobody objects and all is in time, the holder of the secret gets the login, and keeps it.

    The time is that of the first yes: one that is repeated changes nothing.
    """
    # What might have ended it, whether or not it was told to have; a forgotten person is somebody new after.
    people = {scan.actor for scan in login.of("scan", ok=None)}
    if login.of("cancel", "abandon", "not_me", ok=None) or any(
        found.kind in ENDING and found.actor in people for found in login.operations
    ):
        return
    first = [yes for yes in login.yeses if not any(other.before(yes) for other in login.yeses)]
    rightful = [
        exchange
        for exchange in login.of("exchange", ok=None)
        if exchange.actor == login.holder
        and exchange.ended is not None
        and any(yes.before(exchange) and exchange.ended_at < yes.began_at + EXTENSION for yes in first)
    ]
    if rightful and not any(exchange.ok for exchange in rightful):
        yield f"{rightful[0]} was refused"
    tokens = {exchange.token for exchange in login.exchanges}
    brought = {token for found in login.operations if found.kind == "exchange" for token in found.former}
    asked = [
        found
        for found in login.operations
        if found.kind == "who"
        and found.token in tokens
        and all(exchange.before(found) for exchange in login.exchanges)
    ]
    all_asked = bool(asked) and {found.token for found in asked} == tokens
    if all_asked and not tokens & brought and not any(found.ok for found in asked):
        yield f"no session is left of {', '.join(map(str, login.exchanges))}"


RULES = (
    only_the_holder,
    the_first_scanner_only,
    the_scanners_login,
    states_go_forward,
    nothing_after_a_no,
    one_session,
    no_session_of_nobody,
    repeats_in_time,
    in_time,
    what_was_ended_stays_ended,
    former_sessions_end,
    nothing_is_lost,
)
