"""How the clients under test are registered with us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from oidc.requests import SCOPES

SECRET = "a secret of 32 characters and more: +/%&="  # of what form-encoding changes
LOOPBACK = {"allowed_networks": ["127.0.0.0/8"]}  # where back-channel logout may go in tests


def site(origin: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "client",
        "name": "Client",
        "secret": SECRET,
        "redirect_uris": [f"{origin}/callback"],
        "post_logout_redirect_uris": [f"{origin}/bye"],
        "scopes": list(SCOPES),
        **more,
    }


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Waits until it holds; what a site is told of goes out after the answer."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)
