"""Tables that leave the house: each download stands in the audit log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from tornado.iostream import StreamClosedError

from flows.administer import note
from handlers.admin.base import AdminHandler
from handlers.admin.tables import BOM, TYPE, encoded

log = logging.getLogger("saoma.web")

Rows = Iterable[Sequence[str]]


class Download(AdminHandler):
    async def send(
        self, name: str, action: str, detail: str, headings: Sequence[str], pages: AsyncIterator[Rows]
    ) -> None:
        """Writes page by page, so that no table has to fit into memory."""
        await note(self.context, self.by, action, "", detail)
        self.set_header("Content-Type", TYPE)
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.write(BOM.encode() + encoded([headings]))
        try:
            async for rows in pages:
                self.write(encoded(rows))
                await self.flush()
        except StreamClosedError:
            return  # whoever asked has gone
        except Exception:
            if not self._headers_written:
                raise
            # An end like any other would make half a table look like a whole one.
            log.exception("%s broke off (request %s)", name, self.request_id)
            connection: Any = self.request.connection
            connection.stream.close()
