"""The states of a ticket, what may happen to it, and the one table that joins them.

Pure data: `ticket.py` applies it, `diagram.py` draws it, the tests walk every pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    WAITING = "WAITING"  # shown, nobody has scanned
    SCANNED = "SCANNED"  # somebody scanned and has to say yes or no
    CONFIRMED = "CONFIRMED"  # somebody said yes; the browser may collect its login
    CONSUMED = "CONSUMED"  # collected
    CANCELLED = "CANCELLED"  # somebody said no, the browser gave up, or the server took it back
    INVALID = "INVALID"  # what everybody is told of tickets that are expired or were never issued


class Event(StrEnum):
    SCAN = "scan"  # a person scanned the code
    CONFIRM = "confirm"  # that person said yes
    CANCEL = "cancel"  # that person said no
    EXCHANGE = "exchange"  # the holder of the secret collects the login
    ABANDON = "abandon"  # the holder of the secret wants another code (换个账号)
    REVOKE = "revoke"  # the server takes it back: an unfollow, a block, a "not me", too many wrong numbers


# INVALID is no row of the table: it is the answer about tickets that are not (any longer) there.
TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.WAITING, Event.SCAN): State.SCANNED,
        (State.WAITING, Event.ABANDON): State.CANCELLED,
        (State.SCANNED, Event.CONFIRM): State.CONFIRMED,
        (State.SCANNED, Event.CANCEL): State.CANCELLED,
        (State.SCANNED, Event.ABANDON): State.CANCELLED,
        (State.SCANNED, Event.REVOKE): State.CANCELLED,
        (State.CONFIRMED, Event.EXCHANGE): State.CONSUMED,
        (State.CONFIRMED, Event.ABANDON): State.CANCELLED,
        (State.CONFIRMED, Event.REVOKE): State.CANCELLED,
    }
)

# An event that has already had its effect changes nothing and succeeds, for whoever caused it.
REPEATS: frozenset[tuple[State, Event]] = frozenset(
    {
        (State.SCANNED, Event.SCAN),
        (State.CONFIRMED, Event.SCAN),
        (State.CONFIRMED, Event.CONFIRM),
        (State.CONSUMED, Event.SCAN),
        (State.CONSUMED, Event.CONFIRM),
        (State.CONSUMED, Event.EXCHANGE),
        (State.CANCELLED, Event.CANCEL),
        (State.CANCELLED, Event.ABANDON),
        (State.CANCELLED, Event.REVOKE),
    }
)

# Events of the person with the phone: they carry an identity, and the first to scan is the only one heard.
BY_SCANNER: frozenset[Event] = frozenset({Event.SCAN, Event.CONFIRM, Event.CANCEL})

# Nothing more will happen to a ticket in one of these.
FINAL: frozenset[State] = frozenset({State.CONSUMED, State.CANCELLED, State.INVALID})
