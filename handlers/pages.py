"""The pages, rendered here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tornado.escape import xhtml_escape

from config.values import origin_of
from errors import (
    LoginRefused,
    MethodUnavailable,
    SaomaError,
    TicketUnknown,
    TooManyRequests,
    TransitionRefused,
    Unauthenticated,
)
from flows import confirm, not_me, sessions, tickets
from flows.authorize import site_of
from flows.code_pool import NoCodeReady
from flows.exchange import exchange
from flows.redirects import checked
from flows.scan import site_name
from flows.tickets import APP, Wish, app_link
from handlers.base import PageHandler
from handlers.device import PHONES
from handlers.skeletons import mark
from storage.records import Link, User
from tickets import State, Ticket
from translations import Texts

AGAIN_SECONDS = 5  # between two looks of a page without scripts
LOADING = "LOADING"  # what the page shows before its ticket's state: the code is being fetched
LATER = "TICKET"  # stands in links for the id of a ticket that is not there yet (static/login.js)


@dataclass(frozen=True, slots=True)
class _ShownTicket:
    id: str  # "" while there is none
    state: str
    method: str
    expires_in: int | str
    interval: float
    number: int = 0  # for the phone to send; 0: none


@dataclass(frozen=True, slots=True)
class _ShownUser:
    name: str
    chosen_name: str
    picture: str
    login_count: int
    last_login: float
    timezone: str

    def last_login_at(self, texts: Texts) -> str:
        return texts.time(self.last_login, self.timezone) if self.last_login else ""


@dataclass(frozen=True, slots=True)
class _ShownLogin:
    """What the "not me" page says of a login."""

    site: str
    browser: str
    system: str
    address: str
    time: str


class SitePage(PageHandler):
    """A page that says who is logged in."""

    def shown_user(self, user: User) -> _ShownUser:
        shown = self.shown(user)
        return _ShownUser(
            shown["name"],
            user.chosen_name,
            shown["picture"],
            user.login_count,
            user.last_login_at,
            self.context.settings.site.timezone,
        )


class Home(SitePage):
    async def get(self) -> None:
        current = await self.current()
        self.render("home.html", current=self.shown_user(current.user) if current else None)


class Login(SitePage):
    async def get(self) -> None:
        desk = self.services.desk
        method = self.get_query_argument("method", "") or desk.method
        wish = self._wish(method, self.get_query_argument("next", ""))
        if again := self.get_query_argument("again", ""):
            await self._look_again(wish, again)
            return
        # A page is sent soon. Its script asks for a code that was not there; without scripts, a link does.
        patient = bool(self.get_query_argument("wait", ""))
        try:
            held = await desk.reusable(self.held_tickets(), wish) or await desk.issue(wish, patient=patient)
        except NoCodeReady:
            self._render(
                wish, ticket=_ShownTicket("", LOADING, method, 0, 0), **self._links(method, "", LATER)
            )
        except (MethodUnavailable, TooManyRequests) as error:
            self._show_problem(wish, error)
        else:
            left = held.ticket.expires_at - self.context.now()
            self.put_ticket_cookie(held.ticket.id, held.secret, left)
            await self._show_code(wish, held.ticket)

    async def post(self) -> None:
        """Somebody without scripts says that they are done on the phone."""
        ticket_id = self.get_body_argument("ticket")
        secret = self.ticket_secret(ticket_id)
        wish = self._wish(self.get_body_argument("method", ""), self.get_body_argument("next", ""))
        try:
            former = self.session_cookies()
            collected = await exchange(self.context, ticket_id, secret, former_tokens=former)
        except (TransitionRefused, LoginRefused, TicketUnknown) as error:
            try:
                ticket = await tickets.look(self.context, ticket_id, secret)
            except TicketUnknown:
                ticket = None
            await self._show_unfinished(wish, ticket_id, ticket, error)
        else:
            self.put_login_cookies(collected, secret)
            self.redirect(collected.next, status=303)

    async def _look_again(self, wish: Wish, ticket_id: str) -> None:
        """Somebody without scripts chose to have the page come again by itself until the phone is done."""
        try:
            ticket = await tickets.look(self.context, ticket_id, self.ticket_secret(ticket_id))
        except TicketUnknown as error:
            await self._show_unfinished(wish, ticket_id, None, error)
            return
        if ticket.state in (State.WAITING, State.SCANNED):
            self.set_header("Refresh", str(AGAIN_SECONDS))
        if ticket.state in (State.WAITING, State.SCANNED, State.CONFIRMED):
            await self._show_code(wish, ticket)
        else:
            await self._show_unfinished(wish, ticket_id, ticket, TransitionRefused())

    def _wish(self, method: str, target: str) -> Wish:
        return Wish(
            method,
            "browser",
            target,
            self.texts().language,
            self.device,
            browser_token=self.browser_token,
        )

    async def _show_unfinished(
        self, wish: Wish, ticket_id: str, ticket: Ticket | None, error: SaomaError
    ) -> None:
        """The page as it stands: to be confirmed yet, or over."""
        if ticket is not None and ticket.state in (State.WAITING, State.SCANNED):
            await self._show_code(wish, ticket, not_yet=True)
            return
        self.set_status(error.status)
        state = "FAILED"
        if ticket is None or ticket.state is State.CANCELLED:
            state = State.INVALID if ticket is None else State.CANCELLED
        shown = _ShownTicket(ticket_id, state, wish.method, 0, 0)
        self._render(wish, ticket=shown, reason=error.code, **self._links(wish.method, "", shown.id))

    async def _show_code(self, wish: Wish, ticket: Ticket, *, not_yet: bool = False) -> None:
        code_svg = "" if self._on_phone else await self.services.drawing.svg(ticket.code)
        left = int(ticket.expires_at - self.context.now())
        if ticket.state is State.WAITING and not not_yet:
            self._fill_in(wish, ticket, left, code_svg)
            return
        interval = self.context.settings.ticket.interval
        self._render(
            wish,
            ticket=_ShownTicket(ticket.id, ticket.state, ticket.method, left, interval, ticket.shown_number),
            code_svg=code_svg,
            not_yet=not_yet,
            **self._links(ticket.method, ticket.code, ticket.id),
        )

    def _fill_in(self, wish: Wish, ticket: Ticket, left: int, code_svg: str) -> None:
        """The page of a code that nobody has scanned, which is what most visitors get."""

        def render() -> bytes:
            interval = self.context.settings.ticket.interval
            shown = _ShownTicket(mark("id"), ticket.state, ticket.method, mark("left"), interval)
            namespace = self._namespace(
                wish,
                ticket=shown,
                code_svg=mark("svg"),
                xsrf=mark("xsrf"),
                xsrf_form_html=lambda: f'<input type="hidden" name="_xsrf" value="{mark("xsrf")}">',
                **self._links(ticket.method, mark("code"), mark("id")),
            )
            return self.render_string("login.html", **namespace)

        self._allow_form(wish)
        kind = (wish.method, wish.next, ticket.method, self.texts().language, self._on_phone, self._in_wechat)
        values = {
            "id": ticket.id,
            "left": str(left),
            "svg": code_svg,
            "code": xhtml_escape(ticket.code),
            "xsrf": self.xsrf_token.decode("ascii"),
        }
        self.finish(self.services.skeletons.page(kind, render, values))

    @property
    def _on_phone(self) -> bool:
        return self.device.system in PHONES

    @property
    def _in_wechat(self) -> bool:
        return self._on_phone and self.device.browser == "WeChat"

    def _links(self, method: str, code: str, ticket_id: str) -> dict[str, str | None]:
        """What leads on from the code. On a phone: nobody can photograph the screen they hold.

        The demo's lead to the emulated phone: WeChat's codes by themselves, the app's by the app's link.
        """
        opens = app_link(self.context, ticket_id) if method == APP else ""
        return {
            "app_link": opens if self._on_phone else "",
            "picture_link": f"/api/v1/tickets/{ticket_id}/qr.png" if self._on_phone else "",
            "demo_link": (opens or code) if self.services.demo else None,
        }

    def _show_problem(self, wish: Wish, error: SaomaError) -> None:
        self.set_status(error.status)
        if isinstance(error, TooManyRequests):
            self.set_header("Retry-After", str(error.retry_after))
        self._render(wish, ticket=None, problem=self.texts()(error.message))

    def _render(self, wish: Wish, **shown: Any) -> None:
        self._allow_form(wish)
        self.render("login.html", **self._namespace(wish, xsrf=self.xsrf_token.decode("ascii"), **shown))

    def _allow_form(self, wish: Wish) -> None:
        asking = site_of(self.context.settings, wish.next)
        if asking is not None:
            # A form leads there in the end, over our own redirects, and browsers check each of them.
            self.set_policy(form_target=" ".join(dict.fromkeys(map(origin_of, asking.redirect_uris))))

    def _namespace(self, wish: Wish, **shown: Any) -> dict[str, Any]:
        settings = self.context.settings
        asking = site_of(settings, wish.next)
        namespace = {
            "next": wish.next,
            "methods": self.services.desk.methods,
            "method": wish.method,
            "asking": asking.name if asking is not None else settings.site.name,
            "code_svg": "",
            "problem": None,
            "reason": "",
            "not_yet": False,
            "demo_link": None,
            "app_link": "",
            "picture_link": "",
            "on_phone": self._on_phone,
            "in_wechat": self._in_wechat,
        }
        return namespace | shown


class OpenApp(PageHandler):
    """What the app's code leads to: the app opens it, anything else shows this page. Tells nothing of it."""

    async def get(self, ticket_id: str) -> None:
        self.render("open_app.html", app_link=app_link(self.context, ticket_id))


class Logout(PageHandler):
    async def post(self) -> None:
        await self.sign_out()
        self.redirect("/", status=303)


class Profile(PageHandler):
    """The name that the person wants to be shown."""

    async def post(self) -> None:
        current = await self.current()
        if current is None:
            raise Unauthenticated
        await sessions.choose_name(self.context, current.user, self.get_body_argument("name", ""))
        origins = self.context.settings.server.allowed_redirects
        self.redirect(checked(self.get_body_argument("next", ""), origins), status=303)


class LinkPage(PageHandler):
    """Behind a link that was sent to a phone. GET changes nothing; the link itself is the authority."""

    acts_on_cookie = False
    path: ClassVar[str]

    @property
    def logged_path(self) -> str:
        return self.path + "…"

    def set_own_headers(self) -> None:
        super().set_own_headers()
        # Not to ourselves either: a proxy in front may log where a request for a style sheet came from.
        self.set_header("Referrer-Policy", "no-referrer")

    def shown_login(self, link: Link) -> _ShownLogin:
        return _ShownLogin(
            site_name(self.context, link.site),
            link.browser,
            link.system,
            link.address,
            self.texts().time(link.created_at, self.context.settings.site.timezone),
        )


class Confirm(LinkPage):
    """A person says whether it is they who want to log in."""

    path = confirm.PATH

    async def get(self, token: str) -> None:
        link = await confirm.look(self.context, token)
        if link is None:
            self._show_over(404, "unknown")
        else:
            self.render("confirm.html", login=self.shown_login(link))

    async def post(self, token: str) -> None:
        yes = self.get_body_argument("answer") == "yes"
        try:
            decided = await confirm.decide(self.context, token, yes=yes)
        except LoginRefused as error:
            self._show_over(error.status, "refused")
            return
        except (TransitionRefused, TicketUnknown) as error:
            self._show_over(error.status, "unknown")
            return
        if decided is None:
            self._show_over(404, "unknown")
        else:
            self._show_over(200, "confirmed" if yes else "cancelled", decided.not_me)

    def _show_over(self, status: int, outcome: str, not_me_link: str = "") -> None:
        self.set_status(status)
        self.render("confirmed.html", outcome=outcome, not_me=not_me_link)


class NotMe(LinkPage):
    path = not_me.PATH

    async def get(self, token: str) -> None:
        self._show(await not_me.look(self.context, token), done=False)

    async def post(self, token: str) -> None:
        self._show(await not_me.end_login(self.context, token), done=True)

    def _show(self, link: Any, *, done: bool) -> None:
        if link is None:
            self.set_status(404)
            self.render("not_me.html", login=None, done=False, unknown=True)
            return
        self.render("not_me.html", login=self.shown_login(link), done=done, unknown=False)
