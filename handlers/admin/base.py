"""What the operator's pages share: who may see them, and how people and times are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from errors import Forbidden
from flows import admin, pictures
from flows.administer import By
from flows.sessions import Current
from handlers.account import AccountHandler
from storage.records import User

ADMIN = "/admin"
ID_END = 5  # characters


@dataclass(frozen=True, slots=True)
class ShownPerson:
    id: str
    name: str
    picture: str
    remark: str
    blocked: bool
    admin: bool


class AdminHandler(AccountHandler):
    """Admits admins alone; nothing of a handler below runs for anybody else."""

    room: ClassVar[str] = ""  # the entry of the navigation that is current
    by: By

    async def prepare(self) -> None:
        await super().prepare()
        current = await self.current()
        if current is None:
            self.turn_away()
        elif not admin.is_admin(self.context, current):
            raise Forbidden("Only admins may see this.")
        else:
            self.by = By(current, self.client_address)

    def turn_away(self) -> None:
        """Whoever is not logged in does that first."""
        target = self.request.uri if self.request.method == "GET" else ADMIN
        self.redirect(f"/login?next={quote(target or ADMIN)}", status=303)

    def sent_to_log_in_again(self, back: str) -> bool:
        """Whether the login is too old for what cannot be undone; the page is written then."""
        current: Current = self.by.admin
        if admin.is_fresh(self.context, current):
            return False
        self.set_status(403)
        self.render("admin/again.html", login=f"/login?{urlencode({'next': back})}")
        return True

    def get_template_namespace(self) -> dict[str, Any]:
        return super().get_template_namespace() | {"room": self.room, "done": ""}

    def sortable_time(self, at: float) -> str:
        """For tables; "" for never."""
        zone = ZoneInfo(self.context.settings.site.timezone)
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}" if at else ""

    def known_name(self, user: User) -> str:
        """What tells people apart where the platform tells no names: the remark, else the end of an id."""
        if user.name or user.remark:
            return user.name or user.remark
        ids = [known.subject for known in user.identities] or [user.id]
        return f"{self.shown_name(user)} …{ids[0][-ID_END:]}"

    def shown_person(self, user: User) -> ShownPerson:
        return ShownPerson(
            id=user.id,
            name=self.known_name(user),
            picture=pictures.address(self.context, user),
            remark=user.remark,
            blocked=user.blocked,
            admin=user.admin,
        )
