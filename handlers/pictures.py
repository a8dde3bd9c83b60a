"""People's pictures, at addresses that only those know who were told them."""

from __future__ import annotations

from flows.pictures import PATH
from handlers.base import ApiHandler

KEPT_SECONDS = 86400  # by the browser; another picture has another address


class Picture(ApiHandler):
    @property
    def logged_path(self) -> str:
        return PATH + "…"

    async def get(self, user_id: str, key: str) -> None:
        picture = await self.services.pictures.of(user_id, key)
        self.set_header("Content-Type", picture.content_type)
        self.set_header("Content-Disposition", "inline")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cache-Control", f"private, max-age={KEPT_SECONDS}")
        self.finish(picture.content)
