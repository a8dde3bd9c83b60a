"""Records to store; each test names only what it is about."""

from __future__ import annotations

import hashlib
from typing import Any

from oidc import Grant
from oidc.grant import challenge_of
from storage.records import AuditEntry, Link, Login, Notice, Session, SigningKey
from tickets import Device, Ticket

VERIFIER = "v" * 43  # of the samples' grants (RFC 7636)
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
        "expires_at": NOW + 1000,
    }
    return Login(**{**given, **fields})


def grant(id: str = "grant", **fields: Any) -> Grant:
    given = {
        "id": id,
        "site": "shop",
        "user_id": "user",
        "session_id": "session",
        "redirect_uri": "https://shop.example/back",
        "scope": "openid profile",
        "nonce": "nonce",
        "code_challenge": challenge_of(VERIFIER),
        "auth_time": NOW - 5,
        "created_at": NOW,
        "expires_at": NOW + 1000,
        "code_hash": sha256(f"code of {id}"),
        "code_expires_at": NOW + 60,
    }
    return Grant(**{**given, **fields})


def notice(id: str = "notice", **fields: Any) -> Notice:
    given = {
        "endpoint": "webhook:shop",
        "id": id,
        "person": "user",
        "event": "user.followed",
        "payload": '{"type": "user.followed"}',
        "created_at": NOW,
        "due_at": NOW,
        "expires_at": NOW + 1000,
    }
    return Notice(**{**given, **fields})


def signing_key(slot: str = "RS256/1", **fields: Any) -> SigningKey:
    given = {
        "slot": slot,
        "id": f"id of {slot}",
        "algorithm": "RS256",
        "sealed": f"sealed of {slot}",
        "created_at": NOW,
        "signs_from": NOW,
        "signs_until": NOW + 500,
        "expires_at": NOW + 1000,
    }
    return SigningKey(**{**given, **fields})


def audit_entry(id: str = "entry", **fields: Any) -> AuditEntry:
    given = {
        "id": id,
        "at": NOW,
        "admin_id": "admin",
        "action": "block",
        "target": "user",
        "detail": "",
        "address": "192.0.2.1",
    }
    return AuditEntry(**{**given, **fields})
