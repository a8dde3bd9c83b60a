"""Who is logged in, and the end of it, for any client."""

from __future__ import annotations

from errors import Unauthenticated
from flows import people, sessions
from flows.sessions import Current
from handlers.base import ApiHandler


class SessionHandler(ApiHandler):
    async def required(self) -> Current:
        current = await self.current()
        if current is None:
            self.set_header("WWW-Authenticate", "Bearer")
            raise Unauthenticated
        return current


class Me(SessionHandler):
    async def get(self) -> None:
        self.write_json(self.described((await self.required()).user))

    async def delete(self) -> None:
        """The person and all that is stored of them; there is no way back."""
        await people.forget(self.context, (await self.required()).user.id)
        self.drop_cookie(self.cookie_names.session)
        self.set_status(204)
        self.finish()


class RevokeCurrent(SessionHandler):
    async def post(self) -> None:
        await sessions.end(self.context, (await self.required()).session)
        self.drop_cookie(self.cookie_names.session)
        self.set_status(204)
        self.finish()
