"""A person's own page: who they are here, where they are logged in, what was logged, and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from flows import account, people
from flows.admin import is_admin
from flows.scan import site_name
from flows.sessions import Current
from handlers.base import PageHandler
from storage.records import Login, Session

ACCOUNT = "/account"


@dataclass(frozen=True, slots=True)
class _ShownSession:
    id: str
    here: bool  # the one that looks
    device: str
    address: str
    site: str
    since: str
    used: str


@dataclass(frozen=True, slots=True)
class _ShownLogin:
    time: str
    result: str  # "success", or the code of the refusal
    device: str
    address: str
    site: str


class AccountHandler(PageHandler):
    """Whoever is not logged in does that first."""

    async def required(self) -> Current | None:
        """None where the browser has been sent to the login page."""
        current = await self.current()
        if current is None:
            self.redirect(f"/login?next={quote(ACCOUNT)}", status=303)
        return current

    def device_words(self, browser: str, system: str) -> str:
        texts = self.texts()
        return f"{browser or texts('unknown browser')}, {system or texts('unknown system')}"

    def time_words(self, at: float) -> str:
        return self.texts().time(at, self.context.settings.site.timezone) if at else ""


class Account(AccountHandler):
    async def get(self) -> None:
        current = await self.required()
        if current is None:
            return
        overview = await account.overview(self.context, current)
        shown = self.shown(current.user)
        sites = {site_name(self.context, login.site): None for login in overview.logins if login.site}
        self.render(
            "account.html",
            name=shown["name"],
            picture=shown["picture"],
            admin=is_admin(self.context, current),
            chosen_name=current.user.chosen_name,
            identities=current.user.identities,
            since=self.time_words(current.user.created_at),
            sessions=[self._shown_session(session, current) for session in overview.sessions],
            logins=[self._shown_login(login) for login in overview.logins],
            sites=list(sites),
        )

    def _shown_session(self, session: Session, current: Current) -> _ShownSession:
        return _ShownSession(
            id=session.id,
            here=session.id == current.session.id,
            device=self.device_words(session.browser, session.system),
            address=session.address,
            site=site_name(self.context, session.site) if session.site else "",
            since=self.time_words(session.created_at),
            used=self.time_words(session.last_used_at),
        )

    def _shown_login(self, login: Login) -> _ShownLogin:
        return _ShownLogin(
            time=self.time_words(login.at),
            result=login.result,
            device=self.device_words(login.browser, login.system),
            address=login.address,
            site=site_name(self.context, login.site),
        )


class EndSession(AccountHandler):
    """Ends one session, or with `session=all` every one."""

    async def post(self) -> None:
        current = await self.required()
        if current is None:
            return
        session_id = self.get_body_argument("session")
        if session_id == "all":
            await account.end_all(self.context, current)
        else:
            await account.end_one(self.context, current, session_id)
        if session_id in ("all", current.session.id):
            self.drop_cookie(self.cookie_names.session)
        self.redirect(ACCOUNT if session_id != "all" else "/", status=303)


class Leave(AccountHandler):
    """Deletes all that is stored of the person, after a page that says what that means."""

    async def get(self) -> None:
        current = await self.required()
        if current is not None:
            self.render("leave.html", name=self.shown_name(current.user))

    async def post(self) -> None:
        current = await self.required()
        if current is None:
            return
        await people.forget(self.context, current.user.id)
        self.drop_cookie(self.cookie_names.session)
        self.render("left.html")
