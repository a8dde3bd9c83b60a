"""The app backend's public keys, fetched from its JWKS address (RFC 7517) and kept: the only IO here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

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
        if not known or self._now() >= self._fetched_at + AGE_SECONDS:
            await self._refresh()
        if self._keys is None:
            raise KeysUnavailable
        return self._keys

    def _has(self, key_id: str) -> bool:
        return self._keys is not None and any(key.kid == key_id for key in self._keys.keys)

    async def _refresh(self) -> None:
        if self._fetching is None:
            if self._now() < self._tried_at + PAUSE_SECONDS:
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
            keys = KeySet.import_key_set(json.loads(response.body))
            if not keys.keys or any(isinstance(key, OctKey) for key in keys.keys):
                raise ValueError("not a set of public keys")
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("app.jwks_url answered with no set of public keys (%s)", type(error).__name__)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            log.warning("app.jwks_url cannot be reached (%s)", type(error).__name__)
        else:
            self._keys, self._fetched_at = keys, self._now()
