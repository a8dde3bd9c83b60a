"""People's pictures: fetched by the server from listed hosts and served from here (security rule 17).

A browser that shows one contacts no third party, and learns nothing of where it came from.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from errors import NotFound
from flows.context import Context
from storage.base import Transaction
from storage.records import User

PATH = "/pictures/"
MAX_BYTES = 1024 * 1024
MAX_CACHED_BYTES = 32 * MAX_BYTES
FETCH_SECONDS = 5.0
PARALLEL = 4

# What it is, by its first bytes; a stranger's Content-Type is not believed.
_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}

log = logging.getLogger("saoma.pictures")


@dataclass(frozen=True, slots=True)
class Picture:
    content_type: str
    content: bytes


def address(context: Context, user: User) -> str:
    """Where the person's picture is served, "" where none is known. Only who was given it can ask for it."""
    if not user.picture:
        return ""
    return f"{context.base_url}{PATH}{user.id}/{context.mac(*_meant(user))}"


def _meant(user: User) -> tuple[str, str]:
    """What the address is good for."""
    return "picture", f"{user.id} {user.picture}"


class Pictures:
    """`hosts` are host[:port] of the platform's picture servers."""

    def __init__(self, context: Context, hosts: Collection[str]) -> None:
        self._context = context
        # Its own, for the size that it takes.
        self._http = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MAX_BYTES)
        self._hosts = frozenset(hosts)
        self._slots = asyncio.Semaphore(PARALLEL)
        self._cached: OrderedDict[str, Picture] = OrderedDict()
        self._cached_bytes = 0

    def close(self) -> None:
        self._http.close()

    async def of(self, user_id: str, key: str) -> Picture:
        """The picture behind an address. Raises NotFound for every wrong one, and where there is none."""

        async def work(transaction: Transaction) -> User | None:
            return await transaction.users.get(user_id)

        user = await self._context.storage.transact(work)
        if user is None or not user.picture or not self._context.is_mac(key, *_meant(user)):
            raise NotFound
        picture = self._cached.get(user.picture)
        if picture is None:
            async with self._slots:
                picture = await self._fetch(user.picture)
            self._keep(user.picture, picture)
        return picture

    async def _fetch(self, url: str) -> Picture:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.netloc not in self._hosts:
            raise NotFound
        request = HTTPRequest(
            url,
            follow_redirects=False,
            connect_timeout=FETCH_SECONDS,
            request_timeout=FETCH_SECONDS,
            decompress_response=False,  # nothing grows on its way in
            user_agent="saoma",
        )
        try:
            content = (await self._http.fetch(request)).body
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            log.info("a picture could not be fetched (%s)", type(error).__name__)
            raise NotFound from None
        for mark, content_type in _KINDS.items():
            if content.startswith(mark):
                return Picture(content_type, content)
        raise NotFound

    def _keep(self, url: str, picture: Picture) -> None:
        if url in self._cached:
            return
        self._cached[url] = picture
        self._cached_bytes += len(picture.content)
        while self._cached_bytes > MAX_CACHED_BYTES:
            _, oldest = self._cached.popitem(last=False)
            self._cached_bytes -= len(oldest.content)
