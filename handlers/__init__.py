"""Tornado handlers: parse, call a flow, render. Here is the one URL table."""

from __future__ import annotations

import logging
from pathlib import Path

from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from handlers import (
    account,
    app,
    authz,
    callback,
    health,
    oauth,
    openapi,
    pages,
    pictures,
    sessions,
    tickets,
    websocket,
    wechat_api,
    widget,
)
from handlers.admin import entry, logs, overview, people, setup
from handlers.admin.base import ADMIN
from handlers.base import ApiNotFound, BaseHandler, NotFound, PageHandler
from handlers.services import Services
from handlers.templates import Templates
from oidc import tokens as oauth_paths

ROOT = Path(__file__).parent.parent
NAME = r"([A-Za-z0-9_-]{1,64})"  # a ticket's id, or the token of a link

log = logging.getLogger("saoma.access")


class Static(PageHandler, StaticFileHandler):
    """Files of ours; an address with `?v=` changes with the content and may be kept for ever."""

    def initialize(  # type: ignore[override]  # Tornado's own two and ours
        self, path: str, services: Services, default_filename: str | None = None
    ) -> None:
        StaticFileHandler.initialize(self, path, default_filename)
        PageHandler.initialize(self, services)

    async def get(self, path: str, include_body: bool = True) -> None:
        if "\0" in path:  # which is an error to the file system, not a name of nothing
            raise HTTPError(404)
        await super().get(path, include_body)

    def compute_etag(self) -> str | None:  # type: ignore[override]
        return StaticFileHandler.compute_etag(self)

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return f"{kind}; charset=UTF-8" if kind.startswith("text/") or kind == "image/svg+xml" else kind

    def set_extra_headers(self, path: str) -> None:
        if "v" not in self.request.query_arguments:
            self.set_header("Cache-Control", "no-cache")


def make_application(services: Services) -> Application:
    given, limits = {"services": services}, services.context.settings.limits
    names = services.cookie_names
    check = {**given, "cookie_names": names}
    return Application(
        [
            # First those that are asked for most: the table is read from its top.
            (r"/api/authz/auth-request", authz.AuthRequest, check),
            (r"/api/authz/forward-auth", authz.ForwardAuth, check),
            (r"/oauth2/auth", authz.OAuth2Auth, check),
            (r"/login", pages.Login, given),
            (r"/wechat/callback", callback.Callback, given),
            (rf"/websocket/{NAME}", websocket.TicketSocket, given),
            (r"/api/v1/tickets", tickets.Tickets, given),
            (rf"/api/v1/tickets/{NAME}", tickets.Ticket, given),
            (rf"/api/v1/tickets/{NAME}/qr\.(svg|png)", tickets.Picture, given),
            (rf"/api/v1/tickets/{NAME}/exchange", tickets.Exchange, given),
            (rf"/api/v1/tickets/{NAME}/abandon", tickets.Abandon, given),
            (rf"/api/v1/tickets/{NAME}/scan", app.Scan, given),
            (rf"/api/v1/tickets/{NAME}/confirm", app.Confirm, given),
            (rf"/api/v1/tickets/{NAME}/cancel", app.Cancel, given),
            (r"/", pages.Home, given),
            (r"/logout", pages.Logout, given),
            (r"/profile", pages.Profile, given),
            (account.ACCOUNT, account.Account, given),
            (f"{account.ACCOUNT}/end", account.EndSession, given),
            (f"{account.ACCOUNT}/leave", account.Leave, given),
            (rf"{entry.ENTER}/{NAME}", entry.Begin, given),
            (entry.ENTER, entry.Enter, given),
            (ADMIN, overview.Overview, given),
            (f"{ADMIN}/now", overview.Now, given),
            (people.PEOPLE, people.People, given),
            (rf"{people.PEOPLE}\.csv", people.PeopleTable, given),
            (rf"{people.PEOPLE}/{NAME}", people.Person, given),
            (rf"{people.PEOPLE}/{NAME}/({'|'.join(people.Change.ACTIONS)})", people.Change, given),
            (rf"{people.PEOPLE}/{NAME}/delete", people.Delete, given),
            (logs.LOGINS, logs.Logins, given),
            (rf"{logs.LOGINS}\.csv", logs.LoginsTable, given),
            (logs.AUDIT, logs.Audit, given),
            (setup.SITES, setup.Sites, given),
            (rf"{setup.SITES}/{NAME}/test", setup.WebhookTest, given),
            (f"{ADMIN}/settings", setup.InForce, given),
            (r"/widget", widget.Page, given),
            (r"/widget/tickets", widget.Tickets, given),
            (rf"/s/{NAME}", pages.OpenApp, given),
            (rf"/not-me/{NAME}", pages.NotMe, given),
            (rf"/confirm/{NAME}", pages.Confirm, given),
            (r"/api/v1/me", sessions.Me, given),
            (r"/api/v1/sessions/current/revoke", sessions.RevokeCurrent, given),
            (r"/api/v1/wechat/access_token", wechat_api.AccessToken, given),
            (rf"/pictures/{NAME}/{NAME}", pictures.Picture, given),
            (r"/\.well-known/(?:openid-configuration|oauth-authorization-server)", oauth.Discovery, given),
            (oauth_paths.AUTHORIZE, oauth.Authorize, given),
            (oauth_paths.TOKEN, oauth.Token, given),
            (oauth_paths.USERINFO, oauth.Userinfo, given),
            (oauth_paths.JWKS, oauth.Jwks, given),
            (oauth_paths.INTROSPECT, oauth.Introspect, given),
            (oauth_paths.REVOKE, oauth.Revoke, given),
            (oauth_paths.LOGOUT, oauth.Logout, given),
            (r"/oauth2/sign_in", authz.SignIn, given),
            (authz.SIGN_OUT, authz.SignOut, given),
            (r"/healthz", health.Health, given),
            (r"/readyz", health.Ready, given),
            (r"/api/openapi\.json", openapi.Description, {**given, "document": openapi.encoded(services)}),
            (r"/api/.*", ApiNotFound, given),  # stays behind all others
        ],
        default_handler_class=NotFound,
        default_handler_args=given,
        template_loader=Templates(str(ROOT / "templates")),
        static_path=str(ROOT / "static"),
        static_handler_class=Static,
        static_handler_args=dict(given),
        log_function=_log_request,
        xsrf_cookies=True,
        xsrf_cookie_name=names.xsrf,
        xsrf_cookie_kwargs={"httponly": True, "secure": services.secure, "samesite": "Lax", "path": "/"},
        websocket_max_message_size=limits.frame_bytes,
    )


def _log_request(handler: RequestHandler) -> None:
    """One line a request: never the query, which may hold a signature or a secret."""
    if isinstance(handler, Static) or not isinstance(handler, BaseHandler):
        return
    seconds, method = handler.request.request_time(), str(handler.request.method)
    words = (handler.get_status(), method, handler.logged_path, handler.client_address, 1000 * seconds)
    log.info("%d %s %s %s %.1f ms", *words)
    if not handler.held:
        known = method if method in handler.SUPPORTED_METHODS else "other"
        handler.context.metrics.answered(type(handler).__name__, known, handler.get_status(), seconds)
