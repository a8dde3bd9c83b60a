"""The ticket: one login attempt of one browser. Pure; the table of its states is in `states.py`."""

from tickets.states import FINAL, Event, State
from tickets.ticket import Device, Scanner, Ticket, advance, hash_secret

__all__ = ["FINAL", "Device", "Event", "Scanner", "State", "Ticket", "advance", "hash_secret"]
