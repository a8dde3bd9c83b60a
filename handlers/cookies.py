"""Our cookies: their names and how many. On https they carry `__Host-`: this host alone, Secure, path /.

The session's cookie goes to other hosts too where `session.cookie_domain` says so (decision 25).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_TICKETS = 8  # ticket cookies a browser may hold; the oldest goes first
MAX_SESSIONS = 4  # different values of one cookie that are looked at

_TICKET = "saoma-ticket-"
_TICKET_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class CookieNames:
    def __init__(self, secure: bool, domain: str = "") -> None:
        """`domain` is where the session's cookie goes, "" for this host alone."""
        self._prefix = "__Host-" if secure else ""
        shared = "__Secure-" if secure else ""
        self.session = f"{shared if domain else self._prefix}saoma-session"
        self.browser = f"{self._prefix}saoma-browser"
        self.admin_link = f"{self._prefix}saoma-admin-link"
        self.xsrf = f"{self._prefix}saoma-xsrf"
        self.language = f"{self._prefix}saoma-language"

    def ticket(self, ticket_id: str) -> str:
        return f"{self._prefix}{_TICKET}{ticket_id}"

    def ticket_ids(self, names: Iterable[str]) -> list[str]:
        """The ids of the ticket cookies among `names`, in their order: browsers send the oldest first."""
        start = f"{self._prefix}{_TICKET}"
        ids = (name.removeprefix(start) for name in names if name.startswith(start))
        return [ticket_id for ticket_id in ids if _TICKET_ID.match(ticket_id)]


def sent_cookies(headers: Iterable[str]) -> list[tuple[str, str]]:
    """The (name, value) pairs in `Cookie` headers, in the order they come."""
    pairs = (pair.strip().partition("=") for header in headers for pair in header.split(";"))
    return [(name, value) for name, equals, value in pairs if equals]


def session_values(headers: Iterable[str], name: str) -> tuple[str, ...]:
    """The different values of the session's cookie.

    A browser sends several where another host has set one, too; of those a parser into a dictionary silently
    keeps the last. Of too many none counts.
    """
    values = dict.fromkeys(value for known, value in sent_cookies(headers) if known == name and value)
    return tuple(values) if len(values) <= MAX_SESSIONS else ()
