"""The app backend's public keys, fetched from its JWKS address (RFC 7517) and kept: the only IO here."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key, KeySet, OctKey
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from app.token import usable

FETCH_SECONDS = 5.0
AGE_SECONDS = 600.0  # that a key set is good for
PAUSE_SECONDS = 60.0  # between two fetches, whatever key a token names: strangers write tokens

log = logging.getLogger("saoma.app")


class KeysUnavailable(Exception):
    """There are no keys to verify with: the address has never answered with any."""


class RemoteKeys:
    """A set of public keys that its owner may change at any time."""

    def __init__(self, url: str, http: AsyncHTTPClient, now: Callable[[], float]) -> None:
        self._url = url
        self._http = http
        self._now = now
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key_id: str | None) -> KeySet:
        """The keys; fetched anew where they are old or lack `key_id`. Raises KeysUnavailable.

        A failed fetch leaves the known keys in use.
        """
        known = self._keys is not None and (key_id is None or self._has(key_id))
        if not known or abs(self._now() - self._fetched_at) >= AGE_SECONDS:
            await self._refresh()
        if self._keys is None:
            raise KeysUnavailable
        return self._keys

    def _has(self, key_id: str) -> bool:
        return self._keys is not None and any(key.kid == key_id for key in self._keys.keys)

    async def _refresh(self) -> None:
        if self._fetching is None:
            if abs(self._now() - self._tried_at) < PAUSE_SECONDS:  # also where the clock was set back
                return
            self._tried_at = self._now()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        request = HTTPRequest(
            self._url,
            follow_redirects=False,
            connect_timeout=FETCH_SECONDS,
            request_timeout=FETCH_SECONDS,
            user_agent="saoma",
        )
        try:
            response = await self._http.fetch(request)
            keys = _public_keys(json.loads(response.body))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("app.jwks_url answered with no set of public keys (%s)", type(error).__name__)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            log.warning("app.jwks_url cannot be reached (%s)", type(error).__name__)
        else:
            self._keys, self._fetched_at = keys, self._now()


def _public_keys(document: dict[str, Any]) -> KeySet:
    """Those that our algorithms go with; what else is published is left out (RFC 7517, 5).

    Raises ValueError where there are none, and where secrets are published: then anybody may sign.
    """
    found: list[Key] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # of keys that are not `usable`
        for described in document["keys"]:
            try:
                key = JWKRegistry.import_key(described)
            except (JoseError, ValueError, TypeError, KeyError):
                continue
            if isinstance(key, OctKey) or key.is_private:
                raise ValueError("secret keys")
            if usable(key):
                found.append(key)
    if not found:
        raise ValueError("no keys")
    return KeySet(found)
