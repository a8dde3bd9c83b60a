"""Programs that use the REST part: who they are, and how they show it."""

from __future__ import annotations

import base64

SHOP = {"id": "shop", "name": "Shop", "secret": "0123456789:abcdef 密码 ü 0123456789"}
OTHER = {"id": "other", "name": "Other", "secret": "x" * 40}
PROBLEM = "application/problem+json"


def basic(site_id: str, secret: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{site_id}:{secret}".encode(encoding)).decode()}


def ticket(secret: str) -> dict[str, str]:
    return {"Authorization": f"Ticket {secret}"}
