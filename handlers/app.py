"""What the team's own app calls, with the JWT that its backend gave it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.token import Claims
from errors import BadRequest, MethodUnavailable, Unauthenticated
from flows.app_login import AppLogin
from handlers.base import ApiHandler


class _Decision(BaseModel):
    """Body of confirm and cancel; whoever else it names is ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    handle: str = Field(max_length=256)
    number: int | None = None  # that the browser shows, where scan's answer asks for it


_SHOULD_BE = {
    "handle": "handle: should be the one that scan answered with.",
    "number": "number: should be the one that the page shows, without quotation marks.",
}


class AppHandler(ApiHandler):
    acts_on_cookie = False  # the token alone says who it is

    @property
    def app_login(self) -> AppLogin:
        if self.services.app_login is None:
            raise MethodUnavailable("This way to log in is not set up.")
        return self.services.app_login

    async def person(self) -> Claims:
        try:
            return await self.app_login.person(self.authorization("Bearer"))
        except Unauthenticated:
            self.set_header("WWW-Authenticate", 'Bearer error="invalid_token"')
            raise

    def decision(self) -> _Decision:
        try:
            return _Decision.model_validate_json(self.request.body or b"{}")
        except ValidationError as error:
            where = error.errors()[0]["loc"]
            raise BadRequest(_SHOULD_BE[str(where[0]) if where else "handle"]) from None


class Scan(AppHandler):
    async def post(self, ticket_id: str) -> None:
        """Answers with what the person must see before saying yes."""
        scanned = await self.app_login.scan(ticket_id, await self.person())
        ticket = scanned.ticket
        seen = {
            "state": ticket.state,
            "site": scanned.site,
            "browser": ticket.device.browser,
            "system": ticket.device.system,
            "address": ticket.device.address,
            "created": int(ticket.created_at),
            "handle": scanned.handle,
        }
        # Never the number itself: that it was read off the page is what it is for.
        self.write_json(seen | ({"number_match": True} if ticket.number else {}))


class Confirm(AppHandler):
    async def post(self, ticket_id: str) -> None:
        person, decision = await self.person(), self.decision()
        ticket = await self.app_login.confirm(ticket_id, person, decision.handle, decision.number)
        self.write_json({"state": ticket.state})


class Cancel(AppHandler):
    async def post(self, ticket_id: str) -> None:
        ticket = await self.app_login.cancel(ticket_id, await self.person(), self.decision().handle)
        self.write_json({"state": ticket.state})
