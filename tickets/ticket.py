"""A ticket and what an event makes of it. Pure: the time is passed in, nothing is read or written."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace

from errors import TicketUnknown, TransitionRefused
from tickets.states import BY_SCANNER, REPEATS, TRANSITIONS, Event, State

# Whose the ticket is: a browser's on a page of ours, a site's program's, our frame's on a site's own page.
BROWSER = "browser"
API = "api"
WIDGET = "widget"

# A scan and a confirm each leave the browser at least this long, so that no login dies uncollected.
EXTENSION_SECONDS = 60.0
# A lost answer: the holder of the secret may collect again for this long; the first session is replaced.
EXCHANGE_REPEAT_SECONDS = 60.0
# With so many wrong numbers sent, a scan counts for nothing any more.
MAX_WRONG_NUMBERS = 3


@dataclass(frozen=True, slots=True)
class Scanner:
    """Who scanned: a provider (`wechat`, `app`) and the person's id there (an openid, the app's user id)."""

    provider: str
    subject: str


@dataclass(frozen=True, slots=True)
class Device:
    """What the person must see of the browser that wants to log in."""

    browser: str = ""  # from our own list of names: "Chrome", "Firefox", … or ""
    system: str = ""  # from our own list: "Windows", "Android", … or ""
    address: str = ""  # the browser's IP address


@dataclass(frozen=True, slots=True)
class Ticket:
    """One login attempt of one browser. Times are Unix seconds."""

    id: str  # the public id; in the QR code, so anybody may know it
    secret_hash: bytes  # SHA-256 of the ticket secret
    method: str  # "wechat"
    client: str  # BROWSER, API or WIDGET
    created_at: float
    expires_at: float
    code: str  # the text that the QR code encodes
    code_ticket: str = ""  # WeChat's own ticket of the code; its events carry it back
    state: State = State.WAITING
    site: str = ""  # id of the registered site that the client is, or that the login leads back to
    next: str = ""  # where the browser goes afterwards
    language: str = ""  # of the page, so that the person is told in the same words
    device: Device = field(default_factory=Device)
    scanner: Scanner | None = None
    user_id: str = ""
    browser_hash: bytes = b""  # SHA-256 of the device cookie that the browser brought; b"": it had none
    agreed: bool = False  # the person said yes on their phone; else the scan alone was taken for it
    number: int = 0  # that the browser shows and the phone must send; 0: none is asked for
    wrong_numbers: int = 0  # sent so far
    scanned_at: float = 0.0
    confirmed_at: float = 0.0
    consumed_at: float = 0.0

    def expired(self, now: float) -> bool:
        return now >= self.expires_at

    @property
    def tries_left(self) -> int:
        """How many wrong numbers it would still bear, the last of which ends it."""
        return MAX_WRONG_NUMBERS - self.wrong_numbers

    @property
    def shown_number(self) -> int:
        """What the holder of the secret is shown, while the phone may send it; 0: nothing."""
        return self.number if self.state is State.SCANNED else 0

    def held_by(self, secret: str) -> bool:
        """Whether `secret` is this ticket's, compared in constant time."""
        return hmac.compare_digest(self.secret_hash, hash_secret(secret))


def hash_secret(secret: str) -> bytes:
    """SHA-256; enough for values of 128 random bits, which cannot be guessed from their hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def advance(
    ticket: Ticket,
    event: Event,
    now: float,
    *,
    scanner: Scanner | None = None,
    user_id: str = "",
    agreed: bool = True,
    number: int = 0,
) -> Ticket:
    """The ticket after `event`; the same object where the event is a repeat.

    `scanner` is required for the events of the person with the phone, `user_id` for `scan`; `number` is what
    has to come with the `confirm` after it (`confirm_by_number`); `agreed` False is for a `confirm` that
    nobody was asked for.
    Raises TicketUnknown past the expiry, TransitionRefused for a wrong state or another identity.
    """
    if ticket.expired(now):
        raise TicketUnknown
    if event in BY_SCANNER:
        if scanner is None:
            raise ValueError(f"{event} needs the identity it comes from")
        if ticket.scanner is not None and ticket.scanner != scanner:
            raise TransitionRefused("Somebody else has scanned this code.")
    step = (ticket.state, event)
    if step in REPEATS and _may_repeat(ticket, event, now):
        return ticket
    target = TRANSITIONS.get(step)
    if target is None:
        raise TransitionRefused(f"A {ticket.state} ticket does not allow {event}.")
    extended = max(ticket.expires_at, now + EXTENSION_SECONDS)
    match event:
        case Event.SCAN:
            return replace(
                ticket,
                state=target,
                expires_at=extended,
                scanned_at=now,
                scanner=scanner,
                user_id=user_id,
                number=number,
            )
        case Event.CONFIRM:
            return replace(ticket, state=target, expires_at=extended, confirmed_at=now, agreed=agreed)
        case Event.EXCHANGE:
            repeatable = max(ticket.expires_at, now + EXCHANGE_REPEAT_SECONDS)
            return replace(ticket, state=target, expires_at=repeatable, consumed_at=now)
        case _:
            return replace(ticket, state=target)


def confirm_by_number(ticket: Ticket, number: int | None, now: float, *, scanner: Scanner) -> Ticket:
    """The ticket after a `confirm` that brings `number` (None: it brings none).

    It is CONFIRMED where that is the ticket's or none is asked for. Else it is SCANNED still, a wrong number
    counted, or CANCELLED by the last of MAX_WRONG_NUMBERS. Raises as `advance`.
    """
    confirmed = advance(ticket, Event.CONFIRM, now, scanner=scanner)
    if confirmed is ticket or ticket.number in (0, number):
        return confirmed
    if number is None:
        return ticket
    counted = replace(ticket, wrong_numbers=ticket.wrong_numbers + 1)
    return counted if counted.tries_left > 0 else advance(counted, Event.REVOKE, now)


def _may_repeat(ticket: Ticket, event: Event, now: float) -> bool:
    if event is Event.EXCHANGE:
        return abs(now - ticket.consumed_at) < EXCHANGE_REPEAT_SECONDS  # no longer where a clock was set back
    # Saying no again is only a repeat for the person who said no; a page that gave up has no scanner's no.
    return not (event is Event.CANCEL and ticket.scanner is None)
