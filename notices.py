"""`server.py webhooks`: what the sites were told and how that went, and a test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from composition import opened
from config import Settings
from control import CannotAsk, ask
from errors import SaomaError, StoreLocked
from flows import outbox
from flows.context import Context
from flows.signing import Signer
from handlers.control import listed, shown

HEADINGS = ("TIME", "EVENT", "SITE", "STATE", "ATTEMPTS", "LAST RESULT")


async def webhooks(settings: Settings, *, site_id: str | None, limit: int, test: str | None) -> bool:
    """Prints the list, or sends a test to that site and prints how it went. Whether all is fine."""
    try:
        if test is not None:
            return _print_test(await _test(settings, test))
        if site_id is not None and settings.site_of(site_id) is None:
            raise CannotAsk(f"there is no site {site_id} in the settings")
        _print_list(settings, await _list(settings, site_id, limit))
    except (CannotAsk, SaomaError) as error:
        print(f"FAULT  {error}", file=sys.stderr)
        return False
    return True


async def _list(settings: Settings, site_id: str | None, limit: int) -> dict[str, Any]:
    query = urlencode({"limit": limit, **({} if site_id is None else {"site": site_id})})
    answer = await ask(settings, "GET", f"/webhooks?{query}")
    if answer is None:
        async with opened_alone(settings) as context:
            answer = listed(await outbox.newest(context, site_id=site_id, limit=limit))
    return answer


async def _test(settings: Settings, site_id: str) -> dict[str, Any]:
    answer = await ask(settings, "POST", "/webhooks/test", {"site": site_id})
    if answer is None:
        async with opened_alone(settings) as context:
            sender = outbox.Outbox(context, Signer(context).logout_token)
            try:
                answer = shown(await sender.test(site_id))
            finally:
                await sender.stop()
    return answer


@asynccontextmanager
async def opened_alone(settings: Settings) -> AsyncIterator[Context]:
    """For when no server runs. Raises CannotAsk, StoreUnavailable."""
    if settings.sqlite_path is not None and not settings.sqlite_path.exists():
        raise CannotAsk(f"there is no database at {settings.sqlite_path} yet: start the server first")
    try:
        async with opened(settings) as context:
            yield context
    except StoreLocked:
        raise CannotAsk(
            "a server runs with this database but cannot be asked: its log says why it has no control.sock"
        ) from None


def _print_test(notice: dict[str, Any]) -> bool:
    if notice["state"] == "delivered":
        print(f"delivered: {notice['result']} ({notice['id']})")
        return True
    print(f"not delivered: {notice['result']} ({notice['id']}; like any other it is tried again for a day)")
    return False


def _print_list(settings: Settings, answer: dict[str, Any]) -> None:
    zone = ZoneInfo(settings.site.timezone)
    rows = [HEADINGS, *(_row(notice, zone) for notice in answer["notices"])]
    if len(rows) == 1:
        print("nothing was announced to any site in the last days")
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(notice: dict[str, Any], zone: ZoneInfo) -> tuple[str, ...]:
    state = notice["state"]
    if state == "pending" and notice["attempts"]:
        state = f"again at {datetime.fromtimestamp(notice['due_at'], zone):%H:%M:%S}"
    return (
        f"{datetime.fromtimestamp(notice['created_at'], zone):%Y-%m-%d %H:%M:%S}",
        notice["event"],
        notice["site"],
        state,
        str(notice["attempts"]),
        notice["result"],
    )
