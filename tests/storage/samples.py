"""Records to store; each test names only what it is about."""

from __future__ import annotations

import hashlib
from typing import Any

from storage.records import Link, Login, Session
from tickets import Device, Ticket

NOW = 4_000_000_000.0  # far ahead: Redis, whose clock is the real one, must not find it over


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def ticket(id: str = "ticket", **fields: Any) -> Ticket:
    given = {
        "id": id,
        "secret_hash": sha256(id),
        "method": "wechat",
        "client": "browser",
        "created_at": NOW,
        "expires_at": NOW + 300,
        "code": f"http://weixin.qq.com/q/{id}",
        "device": Device("Chrome", "Windows", "192.0.2.1"),
    }
    return Ticket(**{**given, **fields})


def session(id: str = "session", **fields: Any) -> Session:
    given = {
        "id": id,
        "token_hash": sha256(id),
        "ticket_id": f"ticket of {id}",
        "user_id": "user",
        "provider": "wechat",
        "client": "browser",
        "site": "",
        "created_at": NOW,
        "last_used_at": NOW,
        "expires_at": NOW + 1000,
    }
    return Session(**{**given, **fields})


def link(token: str = "token", **fields: Any) -> Link:
    given = {
        "token_hash": sha256(token),
        "purpose": "not_me",
        "ticket_id": "ticket",
        "user_id": "user",
        "created_at": NOW,
        "expires_at": NOW + 100,
        "site": "Shop",
        "browser": "Firefox",
        "system": "Linux",
        "address": "2001:db8::1",
    }
    return Link(**{**given, **fields})


def login(id: str = "login", **fields: Any) -> Login:
    given = {
        "id": id,
        "at": NOW,
        "result": "success",
        "method": "wechat",
        "user_id": "user",
        "site": "",
        "browser": "Chrome",
        "system": "Windows",
        "address": "192.0.2.1",
    }
    return Login(**{**given, **fields})
