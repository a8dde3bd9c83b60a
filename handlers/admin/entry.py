"""The way in for the first admin: a link from the terminal, then a scan (security rule 22)."""

from __future__ import annotations

from errors import NotFound
from flows import admin
from handlers.base import PageHandler

ENTER = "/admin/enter"
LOGIN = f"/login?next={ENTER}"


class Entry(PageHandler):
    def show_over(self) -> None:
        self.set_status(404)
        self.render("admin/enter.html", step="over")


class Begin(Entry):
    """Where the link leads. Looking changes nothing; the button keeps the token for after the scan."""

    @property
    def logged_path(self) -> str:
        return f"{admin.PATH}…"

    async def get(self, token: str) -> None:
        if await admin.look(self.context, token) is None:
            self.show_over()
        else:
            self.render("admin/enter.html", step="begin")

    async def post(self, token: str) -> None:
        link = await admin.look(self.context, token)
        if link is None:
            self.show_over()
            return
        name, left = self.cookie_names.admin_link, link.expires_at - self.context.now()
        self.put_cookie(name, token, max(1.0, left), same_site="Strict")
        self.redirect(LOGIN, status=303)


class Enter(Entry):
    """After the scan: who it was, and the button that makes them an admin."""

    @property
    def _token(self) -> str:
        return self.get_cookie(self.cookie_names.admin_link) or ""

    async def get(self) -> None:
        link = await admin.look(self.context, self._token)
        current = await self.current()
        if link is None:
            self.drop_cookie(self.cookie_names.admin_link)
            self.show_over()
        elif current is None or not admin.may_enter(link, current):
            self.redirect(LOGIN, status=303)
        else:
            self.render("admin/enter.html", step="confirm", **self.shown(current.user))

    async def post(self) -> None:
        current = await self.current()
        self.drop_cookie(self.cookie_names.admin_link)
        try:
            if current is None:
                raise NotFound
            await admin.enter(self.context, self._token, current, self.client_address)
        except NotFound:
            self.show_over()
        else:
            self.redirect("/admin", status=303)
