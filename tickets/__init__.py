"""The ticket: one login attempt of one browser. Pure; the table of its states is in `states.py`."""

from tickets.states import FINAL, Event, State
from tickets.ticket import (
    API,
    BROWSER,
    WIDGET,
    Device,
    Scanner,
    Ticket,
    advance,
    confirm_by_number,
    hash_secret,
)

__all__ = [
    "API",
    "BROWSER",
    "FINAL",
    "WIDGET",
    "Device",
    "Event",
    "Scanner",
    "State",
    "Ticket",
    "advance",
    "confirm_by_number",
    "hash_secret",
]
