"""`server.py check`: tries what the settings name, and tells it in plain words."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator

from tornado.httpclient import AsyncHTTPClient

from app.keys import KeysUnavailable, RemoteKeys
from composition import make_client, open_storage
from config import Settings
from errors import StoreLocked, StoreUnavailable
from storage import redis
from wechat.account_check import Finding, try_account


async def check(settings: Settings, *, online: bool) -> bool:
    """Tries what the settings name and tells it in plain words. Whether all is fine."""
    findings = [Finding(True, "settings: no faults"), await _try_storage(settings)]
    findings += [finding async for finding in _try_redis(settings)]
    if online:
        findings += [finding async for finding in _try_online(settings)]
    for finding in findings:
        print(("ok     " if finding.fine else "FAULT  ") + finding.words)
    for warning in settings.warnings:
        print(f"note   {warning}")
    return all(finding.fine for finding in findings)


async def _try_online(settings: Settings) -> AsyncIterator[Finding]:
    http = AsyncHTTPClient(force_instance=True)
    if settings.wechat.enabled:
        async for finding in try_account(make_client(settings, http, time.time)):
            yield finding
    if settings.app.jwks_url:
        try:
            await RemoteKeys(settings.app.jwks_url, http, time.time).get(None)
            yield Finding(True, "app: jwks_url answers with public keys")
        except KeysUnavailable:
            yield Finding(False, "app: jwks_url answers with no public keys that can be used")
    if not settings.wechat.enabled and not settings.app.enabled:
        yield Finding(False, "nothing to try: neither wechat nor app is set up")
    http.close()


async def _try_redis(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.redis.url.get_secret_value():
        return
    try:
        client = redis.connect(settings.redis.url.get_secret_value())
        found = await redis.faults(client)
        await client.aclose()
    except StoreUnavailable as error:
        yield Finding(False, f"redis: {error.message}")
        return
    yield Finding(True, "redis: answers")
    for fault in found:
        yield Finding(False, f"redis: {fault}")


async def _try_storage(settings: Settings) -> Finding:
    """Makes no file: whoever checks may be another user than the one that serves."""
    path = settings.sqlite_path
    if path is not None and not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        writable = os.access(folder, os.W_OK | os.X_OK)
        words = "will be made on the first start" if writable else f"cannot be made: {folder} is not writable"
        return Finding(writable, f"storage: {path} {words}")
    try:
        storage = await open_storage(settings)
        await storage.ping()
        await storage.close()
    except StoreLocked:
        return Finding(True, "storage: in use; a saoma is serving with it now")
    except StoreUnavailable as error:
        return Finding(False, f"storage: {error.message}")
    return Finding(True, "storage: takes writes")
