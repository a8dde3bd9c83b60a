"""Our cookies: their names and how many. On https they carry `__Host-`: this host alone, Secure, path /."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_TICKETS = 8  # ticket cookies a browser may hold; the oldest goes first

_TICKET = "saoma-ticket-"
_TICKET_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class CookieNames:
    def __init__(self, secure: bool) -> None:
        self._prefix = "__Host-" if secure else ""
        self.session = f"{self._prefix}saoma-session"
        self.xsrf = f"{self._prefix}saoma-xsrf"
        self.language = f"{self._prefix}saoma-language"

    def ticket(self, ticket_id: str) -> str:
        return f"{self._prefix}{_TICKET}{ticket_id}"

    def ticket_ids(self, names: Iterable[str]) -> list[str]:
        """The ids of the ticket cookies among `names`, in their order: browsers send the oldest first."""
        start = f"{self._prefix}{_TICKET}"
        ids = (name.removeprefix(start) for name in names if name.startswith(start))
        return [ticket_id for ticket_id in ids if _TICKET_ID.match(ticket_id)]
