"""What is expected of every state and event, written out by hand and from no line of ours.

    =  nothing changes: the event has had its effect already
    -  refused

Of one person alone, who is the one that scanned; `test_ticket.py` has what is refused to others.
"""

from __future__ import annotations

from tickets import Event, Ticket
from tickets.states import State
from tickets.ticket import Scanner

_TABLE = """
             scan       confirm    cancel     exchange   abandon    revoke
WAITING      SCANNED    -          -          -          CANCELLED  -
SCANNED      =          CONFIRMED  CANCELLED  -          CANCELLED  CANCELLED
CONFIRMED    =          =          -          CONSUMED   CANCELLED  CANCELLED
CONSUMED     =          =          -          =          -          -
CANCELLED    -          -          =          -          =          =
INVALID      -          -          -          -          -          -
"""

_HEAD, *_ROWS = [line.split() for line in _TABLE.strip().splitlines()]

EXPECTED: dict[tuple[State, Event], str] = {
    (State(row[0]), Event(event)): cell for row in _ROWS for event, cell in zip(_HEAD, row[1:], strict=True)
}
PAIRS = sorted(EXPECTED)

NOW = 1_700_000_000.0
ANNA = Scanner("wechat", "oANNA")
BORIS = Scanner("wechat", "oBORIS")
ANNA_OF_THE_APP = Scanner("app", "oANNA")  # the same id, given by another provider: another person
BY_PHONE = {Event.SCAN, Event.CONFIRM, Event.CANCEL}


def waiting(expires_at: float = NOW + 300) -> Ticket:
    return Ticket(
        id="ticket-1",
        secret_hash=b"\0" * 32,
        method="wechat",
        client="browser",
        created_at=NOW,
        expires_at=expires_at,
        code="https://example.org/s/ticket-1",
    )
