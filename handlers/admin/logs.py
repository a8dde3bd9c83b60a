"""The login log with its filters, and the log of what admins did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from errors import BadRequest
from flows import admin_views
from flows.scan import site_name
from handlers.admin.base import ADMIN, AdminHandler
from handlers.admin.downloads import Download, Rows
from handlers.admin.people import shown_login
from handlers.admin.words import METHODS, RESULTS, action_words, method_words, result_words
from storage.records import AuditEntry, LoginFilter, User

LOGINS = f"{ADMIN}/logins"
AUDIT = f"{ADMIN}/audit"
FIELDS = ("since", "until", "result", "method", "person")


@dataclass(frozen=True, slots=True)
class _ShownEntry:
    time: str
    admin_id: str
    admin: str  # "" where they are gone
    action: str
    target_id: str
    target: str  # a person's name, a site's id
    person: bool  # whether the target is a person who is there
    detail: str
    address: str


class Filtered(AdminHandler):
    """Reads the filters from the query or, for a download, from the body."""

    def given(self) -> dict[str, str]:
        """What was filled in."""
        fields = {name: self.get_argument(name, "").strip() for name in FIELDS}
        return {name: value for name, value in fields.items() if value}

    async def wanted(self, given: dict[str, str]) -> tuple[LoginFilter, User | None]:
        """The filter, and the person it names if they are there. Raises BadRequest."""
        person, user_id = given.get("person", ""), None
        found = await admin_views.find_person(self.context, person) if person else None
        if person:
            user_id = found.id if found is not None else person
        wanted = LoginFilter(
            user_id=user_id,
            result=given.get("result", ""),
            method=given.get("method", ""),
            since=self._moment(given.get("since", "")),
            until=self._moment(given.get("until", "")),
        )
        return wanted, found

    def _moment(self, text: str) -> float | None:
        """Unix seconds of a time in the site's zone as browsers send it: 2026-11-21T08:00."""
        if not text:
            return None
        try:
            zone = ZoneInfo(self.context.settings.site.timezone)
            return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()
        except (ValueError, OverflowError):
            raise BadRequest("That is no time; write it like 2026-11-21T08:00.") from None


class Logins(Filtered):
    room = "logins"

    async def get(self) -> None:
        given, cursor, texts = self.given(), self.get_query_argument("cursor", ""), self.texts()
        wanted, person = await self.wanted(given)
        page = await admin_views.logins(self.context, wanted, cursor)
        self.render(
            "admin/logins.html",
            given=given,
            person=self.shown_person(person) if person is not None else None,
            results=[(result, result_words(texts, result)) for result in RESULTS],
            methods=[(method, method_words(texts, method)) for method in METHODS],
            logins=[shown_login(self, line, page.people.get(line.user_id)) for line in page.logins],
            more=f"{LOGINS}?{urlencode({**given, 'cursor': page.cursor})}" if page.cursor else "",
            first=not cursor,
            beginning=f"{LOGINS}?{urlencode(given)}",
            days=self.context.settings.logs.login_days,
        )


class LoginsTable(Filtered, Download):
    async def post(self) -> None:
        given, texts = self.given(), self.texts()
        wanted, _ = await self.wanted(given)
        headings = (
            texts("Time"),
            texts("Result"),
            texts("Method"),
            texts("Person"),
            texts("Name"),
            texts("Address"),
            texts("Browser"),
            texts("System"),
            texts("Site"),
        )
        await self.send("logins.csv", "download_logins", urlencode(given), headings, self._rows(wanted))

    async def _rows(self, wanted: LoginFilter) -> AsyncIterator[Rows]:
        texts = self.texts()
        async for page in admin_views.all_logins(self.context, wanted):
            names = {user_id: user.name for user_id, user in page.people.items()}
            yield [
                (
                    self.sortable_time(line.at),
                    result_words(texts, line.result),
                    method_words(texts, line.method),
                    line.user_id,
                    names.get(line.user_id, ""),
                    line.address,
                    line.browser,
                    line.system,
                    site_name(self.context, line.site),
                )
                for line in page.logins
            ]


class Audit(AdminHandler):
    room = "audit"

    async def get(self) -> None:
        cursor = self.get_query_argument("cursor", "")
        page = await admin_views.audit(self.context, cursor)
        self.render(
            "admin/audit.html",
            entries=[self._shown(entry, page) for entry in page.entries],
            more=f"{AUDIT}?{urlencode({'cursor': page.cursor})}" if page.cursor else "",
            first=not cursor,
        )

    def _shown(self, entry: AuditEntry, page: admin_views.AuditPage) -> _ShownEntry:
        by, target = page.people.get(entry.admin_id), page.people.get(entry.target)
        return _ShownEntry(
            time=self.time_words(entry.at),
            admin_id=entry.admin_id,
            admin=self.known_name(by) if by is not None else "",
            action=action_words(self.texts(), entry.action),
            target_id=entry.target,
            target=self.known_name(target) if target is not None else entry.target,
            person=target is not None,
            detail=entry.detail,
            address=entry.address,
        )
