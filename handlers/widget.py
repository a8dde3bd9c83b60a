"""Our frame on a site's own page. It sets no cookie and acts on none (docs/decisions/0028)."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError

from flows import widget
from flows.tickets import APP, Wish, app_link
from handlers.base import ApiHandler, PageHandler
from handlers.device import PHONES
from oidc.requests import parse_query
from tickets import WIDGET

SCHEMES = ("light", "dark")  # anything else follows the system


class Page(PageHandler):
    """The frame itself. Its script fetches the ticket, so that a page that nobody sees costs no code."""

    keeps_language = False
    _framed_by = ""

    def set_own_headers(self) -> None:
        super().set_own_headers()
        self.set_policy(framed_by=self._framed_by)

    def get(self) -> None:
        values, settings = parse_query(self.request.query), self.context.settings
        self._framed_by = widget.framing_origin(settings, values)
        self.set_own_headers()
        widget.target(self.context, values)  # a refusal is shown in the frame, to whoever builds the page
        scheme, desk = self.get_query_argument("color_scheme", ""), self.services.desk
        site = settings.site_of(values["client_id"][0])
        assert site is not None, "that is whose origin it was"
        method = self.get_query_argument("method", "") or desk.method
        self.render(
            "widget.html",
            asking=site.name,
            origin=self._framed_by,
            scheme=scheme if scheme in SCHEMES else "",
            methods=desk.methods,
            method=method,
            kept=urlencode([(name, value) for name in values if name != "method" for value in values[name]]),
            reason="",
            on_phone=self.device.system in PHONES,
            in_wechat=self.device.system in PHONES and self.device.browser == "WeChat",
            demo=self.services.demo,
        )


class Tickets(ApiHandler):
    """A ticket for the frame, by the frame's own query: what it asks for is looked at each time."""

    acts_on_cookie = False  # whoever asks gets a ticket of their own

    async def post(self) -> None:
        if not self.same_origin():
            raise HTTPError(403)
        values, desk = parse_query(self.request.query), self.services.desk
        widget.framing_origin(self.context.settings, values)
        target = widget.target(self.context, values)
        method = self.get_query_argument("method", "") or desk.method
        held = await desk.issue(Wish(method, WIDGET, target, self.texts().language, self.device))
        ticket, settings = held.ticket, self.context.settings.ticket
        document: dict[str, Any] = {
            "id": ticket.id,
            "state": ticket.state,
            "expires_in": int(settings.lifetime),
            "interval": settings.interval,
            "secret": held.secret,
            "picture": await self._picture(ticket.code),
            "app_link": "",
        }
        if method == APP and self.device.system in PHONES:
            document["app_link"] = app_link(self.context, ticket.id)
        if self.services.demo:
            document["demo_link"] = app_link(self.context, ticket.id) if method == APP else ticket.code
        self.write_json(document, 201)

    async def _picture(self, code: str) -> str:
        """The code as an address that carries it: a picture's own could not show whose the ticket is.

        For phones one that can be pressed, recognised and saved.
        """
        drawing = self.services.drawing
        if self.device.system in PHONES:
            kind, drawn = "png", await drawing.png(code)
        else:
            kind, drawn = "svg+xml", (await drawing.svg(code)).encode()
        return f"data:image/{kind};base64,{base64.b64encode(drawn).decode()}"
