"""What must never be told, and where all that is told is searched for it (rule 19).

Every secret of the settings, every token that a client is given and every id by which WeChat knows a person
is planted here as it comes into the world. A test that logs one, or answers with one where it must not,
fails.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.cookies import SimpleCookie
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from emulator import Attempt, Courier, Person

LEAST = 12  # characters: a shorter one is found by chance,
LEAST_DIFFERENT = 6  # and so is "aaaa…"
EMULATORS = "/?person="  # leads to a page of the emulated phone's, which knows its person by the openid
MOST_BYTES = 64 * 1024  # of a body that is looked at

_GIVEN = re.compile(
    rb'"(secret|token|handle|access_token|refresh_token|id_token|openid|unionid)": ?"([^"\s]{12,4096})"'
)
_LINK = re.compile(r"/(?:not-me|confirm)/([A-Za-z0-9_-]{16,64})")
_LANGUAGE, _XSRF = "saoma-language", "saoma-xsrf"

Told = Callable[[], str]


class Canaries:
    def __init__(self) -> None:
        self._planted: dict[str, str] = {}  # value -> kind
        self._lasting: dict[str, str] = {}  # of settings: they come back with every server
        self._told: list[str] = []
        self._found: list[str] = []
        self._outputs: list[tuple[Told, list[int]]] = []  # with how much of each has been looked at

    def plant(self, value: str, kind: str, *, lasting: bool = False) -> None:
        if len(value) >= LEAST and len(set(value)) >= LEAST_DIFFERENT:
            (self._lasting if lasting else self._planted)[value] = kind

    def tell(self, text: str) -> None:
        """A line of a log."""
        self._told.append(text)

    def listen(self, told: Told) -> None:
        """`told` gives all that a process has said up to now."""
        self._outputs.append((told, [0]))

    def search(self, text: str, where: str, *, but: tuple[str, ...] = ()) -> None:
        for value, kind in (*self._planted.items(), *self._lasting.items()):
            if kind not in but and value in text:
                at = text.index(value)
                line = text[text.rfind("\n", 0, at) + 1 : at] + f"<{kind}>"
                self._found.append(f"{kind} in {where}: {line[-200:]}")

    def found(self) -> list[str]:
        """What was found since the last question."""
        self.search("\n".join(self._told), "the log")
        for told, seen in self._outputs:
            text = told()
            fresh = text[seen[0] :] if len(text) >= seen[0] else text  # it has been started anew
            seen[0] = len(text)
            self.search(fresh, "a process's log")
        found, self._found, self._told = sorted(set(self._found)), [], []
        return found

    def forget(self) -> None:
        self._planted.clear()
        self._outputs.clear()

    # What goes over the wire.

    def sent(self, request: HTTPRequest) -> None:
        _, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if credentials.count(".") == 2:  # an app's JWT; the rest are tokens of ours, known by their answers
            self._token(credentials, "an app's token")
        if request.body and len(request.body) < MOST_BYTES:
            self._links(request.body.decode("utf-8", "replace"))

    def answered(self, response: HTTPResponse) -> None:
        for header in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                if not name.endswith(_LANGUAGE):
                    self.plant(morsel.value, _XSRF if name.endswith(_XSRF) else "cookie")
        body = response.body or b""
        if len(body) < MOST_BYTES and "json" in response.headers.get("Content-Type", ""):
            for name, value in _GIVEN.findall(body):
                self._token(value.decode(), name.decode())
        place = response.headers.get("Location", "")
        if not place.startswith(EMULATORS):
            self.search(place, "a Location", but=("link", "id_token", "code"))
        for code in parse_qs(urlsplit(place).query).get("code", ()):
            self.plant(code, "code")
        if response.code >= 400 or response.request.url.endswith("/metrics"):
            where = f"the answer {response.code} of {urlsplit(response.request.url).path}"
            self.search(body.decode("utf-8", "replace"), where, but=(_XSRF,))  # a page has its own in it

    def heard(self, attempt: Attempt) -> None:
        """What WeChat was answered, in clear."""
        self._links(attempt.clear_answer)

    def _links(self, text: str) -> None:
        for token in _LINK.findall(text):
            self.plant(token, "link")

    def _token(self, token: str, kind: str) -> None:
        """The head of a JWT is many tokens' and no secret."""
        parts = token.split(".")
        for part in parts[1:] if len(parts) == 3 else parts:
            self.plant(part, kind)


class _Records(logging.Handler):
    def __init__(self, canaries: Canaries) -> None:
        super().__init__(logging.INFO)
        self._canaries = canaries

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("emulator"):  # another application, which plays WeChat
            self._canaries.tell(self.format(record))


CANARIES = Canaries()


@contextmanager
def planting() -> Iterator[None]:
    """Everywhere in this process, until it ends."""
    secret, person, fetch, post = SecretStr.__init__, Person.__init__, AsyncHTTPClient.fetch, Courier.post

    def keep_secret(self: SecretStr, value: str) -> None:
        CANARIES.plant(value, "a secret of the settings", lasting=True)
        secret(self, value)

    def know(self: Person, *arguments: Any, **named: Any) -> None:
        person(self, *arguments, **named)
        CANARIES.plant(self.openid, "openid")
        CANARIES.plant(self.unionid, "unionid")

    def fetched(self: AsyncHTTPClient, request: HTTPRequest | str, *arguments: Any, **named: Any) -> Any:
        if not isinstance(request, HTTPRequest):
            about = {name: named.pop(name) for name in [*named] if name != "raise_error"}
            request = HTTPRequest(url=request, **about)
        CANARIES.sent(request)
        coming = fetch(self, request, *arguments, **named)
        coming.add_done_callback(_answered)
        return coming

    async def posted(self: Courier, push: Any) -> Attempt:
        attempt = await post(self, push)
        CANARIES.heard(attempt)
        return attempt

    with ExitStack() as stack:
        for owner, name, instead in (
            (SecretStr, "__init__", keep_secret),
            (Person, "__init__", know),
            (AsyncHTTPClient, "fetch", fetched),
            (Courier, "post", posted),
        ):
            stack.enter_context(patch.object(owner, name, instead))
        handler, root, ours = _Records(CANARIES), logging.getLogger(), logging.getLogger("saoma")
        root.addHandler(handler)
        stack.callback(partial(root.removeHandler, handler))
        ours.setLevel(logging.INFO)  # as when it serves
        yield


def _answered(coming: Any) -> None:
    if not coming.cancelled() and coming.exception() is None:
        CANARIES.answered(coming.result())
