"""People: the list, one person, and what admins do to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from flows import admin_views, administer
from flows.scan import site_name
from handlers.admin.base import ADMIN, AdminHandler, ShownPerson
from handlers.admin.downloads import Download, Rows
from handlers.admin.words import action_words, method_words, result_words
from storage.records import Login, Session, User

PEOPLE = f"{ADMIN}/people"


@dataclass(frozen=True, slots=True)
class _Row:
    person: ShownPerson
    methods: str
    logins: int
    last: str


@dataclass(frozen=True, slots=True)
class ShownLogin:
    time: str
    good: bool
    result: str
    method: str
    device: str
    address: str
    site: str
    person_id: str
    person: str  # "" where they are gone


@dataclass(frozen=True, slots=True)
class _ShownSession:
    device: str
    address: str
    method: str
    site: str
    since: str
    used: str


class People(AdminHandler):
    room = "people"

    async def get(self) -> None:
        text = self.get_query_argument("q", "").strip()
        page = await admin_views.people(self.context, text, self.get_query_argument("cursor", ""))
        more = f"{PEOPLE}?{urlencode({'q': text, 'cursor': page.cursor})}" if page.cursor else ""
        self.render(
            "admin/people.html",
            q=text,
            rows=[self._row(user) for user in page.people],
            more=more,
            first=not self.get_query_argument("cursor", ""),
            done=self._done(),
        )

    def _done(self) -> str:
        """A person who is deleted has no page to say so on."""
        texts = self.texts()
        return action_words(texts, "delete") if self.get_query_argument("done", "") == "delete" else ""

    def _row(self, user: User) -> _Row:
        texts = self.texts()
        methods = dict.fromkeys(method_words(texts, known.provider) for known in user.identities)
        return _Row(
            self.shown_person(user), ", ".join(methods), user.login_count, self.time_words(user.last_login_at)
        )


class PeopleTable(Download):
    async def post(self) -> None:
        text = self.get_body_argument("q", "").strip()
        texts = self.texts()
        headings = (
            texts("Id"),
            texts("Name"),
            texts("Remark"),
            texts("Identities"),
            texts("Blocked"),
            texts("Admin"),
            texts("Logins"),
            texts("Last login"),
            texts("Here since"),
        )
        detail = f"q={text}" if text else ""
        await self.send("people.csv", "download_people", detail, headings, self._rows(text))

    async def _rows(self, text: str) -> AsyncIterator[Rows]:
        texts = self.texts()
        yes, no = texts("yes"), texts("no")
        async for people in admin_views.all_people(self.context, text):
            yield [
                (
                    user.id,
                    user.name,
                    user.remark,
                    "; ".join(f"{known.provider}:{known.subject}" for known in user.identities),
                    yes if user.blocked else no,
                    yes if user.admin else no,
                    str(user.login_count),
                    self.sortable_time(user.last_login_at),
                    self.sortable_time(user.created_at),
                )
                for user in people
            ]


class Person(AdminHandler):
    room = "people"

    async def get(self, user_id: str) -> None:
        found = await admin_views.person(self.context, user_id)
        user, done = found.user, self.get_query_argument("done", "")
        self.render(
            "admin/person.html",
            person=self.shown_person(user),
            user=user,
            own=user.id == self.by.id,
            since=self.time_words(user.created_at),
            last=self.time_words(user.last_login_at),
            identities=user.identities,
            sessions=[self._shown_session(session) for session in found.overview.sessions],
            logins=[shown_login(self, login, user) for login in found.overview.logins],
            done=action_words(self.texts(), done) if done in Change.ACTIONS else "",
        )

    def _shown_session(self, session: Session) -> _ShownSession:
        return _ShownSession(
            device=self.device_words(session.browser, session.system),
            address=session.address,
            method=method_words(self.texts(), session.provider),
            site=site_name(self.context, session.site) if session.site else "",
            since=self.time_words(session.created_at),
            used=self.time_words(session.last_used_at),
        )


class Change(AdminHandler):
    """What can be changed of a person, each by its own address."""

    room = "people"
    ACTIONS: ClassVar[tuple[str, ...]] = (
        "remark",
        "block",
        "unblock",
        "sign_out",
        "make_admin",
        "unmake_admin",
    )

    async def post(self, user_id: str, action: str) -> None:
        context, by, page = self.context, self.by, f"{PEOPLE}/{user_id}"
        if action == "make_admin" and self.sent_to_log_in_again(page):
            return
        match action:
            case "remark":
                await administer.set_remark(context, by, user_id, self.get_body_argument("remark", ""))
            case "block" | "unblock":
                await administer.set_blocked(context, by, user_id, action == "block")
            case "sign_out":
                await administer.sign_out(context, by, user_id)
            case _:
                await administer.set_admin(context, by, user_id, action == "make_admin")
        self.redirect(f"{page}?done={action}", status=303)


class Delete(AdminHandler):
    """Asks once more, and for a fresh login, for it cannot be undone."""

    room = "people"

    async def get(self, user_id: str) -> None:
        found = await admin_views.person(self.context, user_id)
        if not self.sent_to_log_in_again(f"{PEOPLE}/{user_id}/delete"):
            self.render("admin/delete.html", person=self.shown_person(found.user))

    async def post(self, user_id: str) -> None:
        if not self.sent_to_log_in_again(f"{PEOPLE}/{user_id}/delete"):
            await administer.delete(self.context, self.by, user_id)
            self.redirect(f"{PEOPLE}?done=delete", status=303)


def shown_login(handler: AdminHandler, login: Login, user: User | None) -> ShownLogin:
    texts = handler.texts()
    return ShownLogin(
        time=handler.time_words(login.at),
        good=login.result == "success",
        result=result_words(texts, login.result),
        method=method_words(texts, login.method),
        device=handler.device_words(login.browser, login.system),
        address=login.address,
        site=site_name(handler.context, login.site),
        person_id=login.user_id,
        person=handler.known_name(user) if user is not None else "",
    )
