"""What commands ask of the server that runs, over its control socket (`control.py`), never over the web."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import unquote

from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from errors import BadRequest, SaomaError
from flows import admin, outbox
from flows.context import Context
from flows.outbox import Outbox
from handlers.base import ExcInfo
from storage.records import Notice

DATABASE = "Saoma-Database"  # the header that names the file (percent-encoded): no other server answers
PIECE_BYTES = 256 * 1024

Copy = Callable[[], Awaitable[BinaryIO]]  # of the database, open to be read

log = logging.getLogger("saoma.control")


class ControlHandler(RequestHandler):
    def initialize(self, context: Context, outbox: Outbox, database: str, copy: Copy) -> None:
        self.context = context
        self.outbox = outbox
        self.database = database
        self.copy = copy

    def prepare(self) -> None:
        if unquote(self.request.headers.get(DATABASE, "")) != self.database:
            raise BadRequest(f"the server that answers here has another database, {self.database}")

    def log_exception(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(value, (SaomaError, HTTPError)):
            log.error(
                "%s failed", self.request.path, exc_info=(kind, value, trace) if kind and value else None
            )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        info: ExcInfo | None = kwargs.get("exc_info")
        error = info[1] if info else None
        if isinstance(error, SaomaError):
            self.set_status(error.status)
        self.finish({"fault": error.message if isinstance(error, SaomaError) else self._reason})


class Webhooks(ControlHandler):
    async def get(self) -> None:
        site_id = self.get_query_argument("site", None)
        limit = int(self.get_query_argument("limit", "20"))
        self.finish(listed(await outbox.newest(self.context, site_id=site_id, limit=limit)))


class WebhooksTest(ControlHandler):
    async def post(self) -> None:
        self.finish(shown(await self.outbox.test(json.loads(self.request.body)["site"])))


class AdminLink(ControlHandler):
    async def post(self) -> None:
        self.finish({"link": await admin.new_link(self.context)})


class Backup(ControlHandler):
    async def post(self) -> None:
        """The database as it is. Who asks writes it: this process may write in few places."""
        with await self.copy() as file:
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            try:
                while piece := file.read(PIECE_BYTES):
                    self.write(piece)
                    await self.flush()
            except StreamClosedError:
                log.warning("who asked for a copy of the database has gone before its end")


def listed(notices: Any) -> dict[str, Any]:
    return {"notices": [shown(notice) for notice in notices]}


def shown(notice: Notice) -> dict[str, Any]:
    """What became of a notice; nothing of the person."""
    kind, _, site_id = notice.endpoint.partition(":")
    return {
        "id": notice.id,
        "kind": kind,
        "site": site_id,
        "event": notice.event,
        "created_at": notice.created_at,
        "due_at": notice.due_at,
        "state": notice.state,
        "attempts": notice.attempts,
        "result": notice.result,
    }


def make_control(context: Context, outbox: Outbox, database: str, copy: Copy) -> Application:
    given = {"context": context, "outbox": outbox, "database": database, "copy": copy}
    return Application(
        [
            (r"/webhooks", Webhooks, given),
            (r"/webhooks/test", WebhooksTest, given),
            (r"/admin-link", AdminLink, given),
            (r"/backup", Backup, given),
        ],
        log_function=lambda _: None,
    )
