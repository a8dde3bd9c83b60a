"""The REST part about tickets: a page's or a program's way to one login."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import BadRequest, TicketUnknown
from flows import exchange, tickets, watch, widget
from flows.redirects import MAX_LENGTH
from flows.tickets import Wish
from flows.watch import Poll, View
from handlers.base import ApiHandler
from handlers.sites import SiteHandler
from tickets import API, BROWSER, WIDGET, State

USUAL_WAIT = 20.0  # seconds, for a `wait` without a number
MAX_WAIT = 30.0


class _NewTicket(BaseModel):
    """Body of `POST /api/v1/tickets`; unknown members are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    method: Literal["", "wechat", "app"] = ""  # "": the first that is set up
    client: Literal["browser", "api"] = "browser"
    next: str = Field("", max_length=MAX_LENGTH)


class Tickets(SiteHandler):
    acts_on_cookie = False  # whoever asks gets a ticket of their own

    async def post(self) -> None:
        wanted = self._body()
        site = self.registered_site().id if wanted.client == "api" else ""
        desk = self.services.desk
        held = await desk.issue(
            Wish(
                wanted.method or desk.method,
                wanted.client,
                wanted.next,
                self.texts().language,
                self.device,
                site,
                self.browser_token if wanted.client == BROWSER else "",
            )
        )
        ticket, settings = held.ticket, self.context.settings.ticket
        document: dict[str, Any] = {
            "id": ticket.id,
            "state": ticket.state,
            "expires_in": int(settings.lifetime),
            "interval": settings.interval,
            "qr": ticket.code,
        }
        if wanted.client == "api":
            document["secret"] = held.secret
        else:
            self.put_ticket_cookie(ticket.id, held.secret, settings.lifetime)
        self.set_header("Location", f"/api/v1/tickets/{ticket.id}")
        self.write_json(document, 201)

    def _body(self) -> _NewTicket:
        try:
            return _NewTicket.model_validate_json(self.request.body or b"{}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise BadRequest(f"{where}: {first['msg']}") from None


class Ticket(ApiHandler):
    held = True
    _poll: Poll | None = None

    async def get(self, ticket_id: str) -> None:
        """The state now, or with `wait` the next one (long poll)."""
        secret, wait, known = self.ticket_secret(ticket_id), self._wait(), self._known()
        if wait:
            self._poll = Poll(self.services.waiters, ticket_id, secret, known, wait)
            try:
                seen = await self._poll.answer
            except asyncio.CancelledError:
                if self._poll.answer.cancelled():
                    return  # the page has gone
                raise
            finally:
                self._poll.close()
        else:
            seen = await watch.view(self.context, ticket_id, secret)
        if seen.state is State.INVALID:
            raise TicketUnknown
        self.write_json(view_document(self, seen))

    def on_connection_close(self) -> None:
        if self._poll is not None:
            self._poll.close()

    def _wait(self) -> float:
        raw = self.get_query_argument("wait", "0")
        try:
            seconds = float(raw) if raw else USUAL_WAIT
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:  # also what is no number at all
            raise BadRequest("wait: should be a number of seconds.")
        return min(seconds, MAX_WAIT)

    def _known(self) -> State | None:
        raw = self.get_query_argument("state", "")
        try:
            return State(raw) if raw else None
        except ValueError:
            raise BadRequest("state: should be a state of a ticket.") from None


class Picture(ApiHandler):
    """The code as a picture, for the browser that holds the ticket."""

    async def get(self, ticket_id: str, kind: str) -> None:
        ticket = await tickets.look(self.context, ticket_id, self.ticket_secret(ticket_id))
        if kind == "svg":
            self.set_header("Content-Type", "image/svg+xml; charset=UTF-8")
            self.finish(await self.services.drawing.svg(ticket.code))
        else:
            self.set_header("Content-Type", "image/png")
            self.finish(await self.services.drawing.png(ticket.code))


class Exchange(ApiHandler):
    async def post(self, ticket_id: str) -> None:
        secret = self.ticket_secret(ticket_id)
        former = () if self.own_credentials else self.session_cookies()
        collected = await exchange.exchange(
            self.context, ticket_id, secret, clients=(BROWSER, API, WIDGET), former_tokens=former
        )
        if collected.ticket.client == WIDGET:
            answer = await widget.authorization(self.context, collected)
            self.write_json({"state": collected.ticket.state, "authorization": answer})
            return
        document: dict[str, Any] = {
            "state": collected.ticket.state,
            "user": self.described(collected.user),
            "next": collected.next,
        }
        if collected.ticket.client == API:
            document["token"] = collected.token
        else:
            self.put_login_cookies(collected, secret)
        self.write_json(document)


class Abandon(ApiHandler):
    async def post(self, ticket_id: str) -> None:
        ticket = await tickets.abandon(self.context, ticket_id, self.ticket_secret(ticket_id))
        if ticket.client == BROWSER:
            self.drop_cookie(self.cookie_names.ticket(ticket_id))
        self.write_json({"state": ticket.state})


def view_document(handler: ApiHandler, seen: View) -> dict[str, Any]:
    """What a waiting page is told, by whichever way it waits."""
    shown = handler.shown(seen.user) if seen.user else None
    if shown is not None and seen.user is not None and seen.user.name and seen.state is State.SCANNED:
        shown["name"] = masked(seen.user.name)  # they have agreed to nothing yet, and others may look on
    document = {"state": seen.state, "user": shown, "expires_in": max(0, int(seen.expires_in))}
    return document | ({"number": seen.number} if seen.number else {})


def masked(name: str) -> str:
    """Enough to know oneself by."""
    return f"{name[0]}**"
