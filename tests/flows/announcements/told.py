"""What has been told to a site, and the sites that listen."""

from __future__ import annotations

import json
from typing import Any

from tests.flows.world import World
from tests.receiver import SECRET as WEBHOOK_SECRET

SHOP = {
    "id": "shop",
    "name": "Shop",
    "secret": "s" * 32,
    "webhook_url": "https://shop.example.com/hook",
    "webhook_secret": WEBHOOK_SECRET,
}
LOGS_OUT = {
    "id": "forum",
    "name": "Forum",
    "secret": "f" * 32,
    "backchannel_logout_uri": "https://forum.example.com/logout",
}


async def told(world: World, endpoint: str = "webhook:shop") -> list[tuple[str, dict[str, Any]]]:
    """(event, data) in the order in which they go out."""
    notices = await world.do(lambda transaction: transaction.outbox.newest(endpoint=endpoint, limit=200))
    in_order = sorted(notices, key=lambda notice: (notice.created_at, notice.id))
    return [(notice.event, json.loads(notice.payload).get("data", {})) for notice in in_order]


async def events(world: World) -> list[str]:
    return [event for event, _ in await told(world)]


async def last(world: World) -> dict[str, Any]:
    return (await told(world))[-1][1]


async def so_far(world: World) -> int:
    """How much has been told; what comes after is looked at."""
    return len(await told(world))
