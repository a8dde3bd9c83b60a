"""Somebody with a phone, whose browser goes from a site to saoma and back as redirects and buttons lead."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tests.harness import Whole

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 12


@dataclass(frozen=True)
class Page:
    """Where the redirects ended."""

    address: str
    status: int
    text: str

    @property
    def document(self) -> Any:
        assert self.status == 200, (self.address, self.status, self.text)
        return json.loads(self.text)

    def link(self, words: str) -> str:
        """The address behind a link with these words."""
        found = re.search(rf'<a [^>]*href="?([^" >]+)"?[^>]*>\s*{re.escape(words)}', self.text)
        assert found, self.text
        return urljoin(self.address, html.unescape(found[1]))

    def form(self, words: str) -> tuple[str, dict[str, str]]:
        """Address and hidden fields of the form whose button has these words."""
        for form in re.findall(r"<form.*?</form>", self.text, re.DOTALL):
            if re.search(rf"<button[^>]*>\s*{re.escape(words)}", form):
                action = re.search(r'<form[^>]*action="?([^" >]+)', form)
                hidden = re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form)
                address = urljoin(self.address, html.unescape(action[1]))
                return address, {name: html.unescape(value) for name, value in hidden}
        raise AssertionError(self.text)


class Visitor:
    """All sites of a test are on 127.0.0.1, where one browser has one set of cookies for every port."""

    def __init__(self, whole: Whole, person: str = "") -> None:
        self.whole = whole
        self.person = person or whole.person()
        self.browser = whole.browser()
        self.scans = 0  # how often the phone was needed
        self.stops_at = ""  # does not open what begins so; the page is an empty one then
        self.passed: list[str] = []  # the addresses that the last page was reached by

    async def open(self, address: str) -> Page:
        return await self._go("GET", address, "")

    async def press(self, page: Page, words: str) -> Page:
        """The button with these words, in whatever form."""
        action, fields = page.form(words)
        return await self._go("POST", action, urlencode(fields))

    async def sign_out_here(self) -> None:
        """At saoma itself, not at any site."""
        await self.browser.open_login()
        answer = await self.browser.post("/logout")
        assert answer.code in (200, 204, 302, 303), answer.body

    async def logged_in_here(self) -> bool:
        """Whether saoma knows the browser."""
        return (await self.browser.get("/api/v1/me")).code == 200

    async def _go(self, method: str, address: str, body: str) -> Page:
        self.passed = []
        while True:
            self.passed.append(address)
            assert len(self.passed) <= MOST_REDIRECTS, self.passed
            answer = await self.browser.request(method, address, body=body, headers=_headers(method, address))
            if answer.code not in REDIRECTS:
                return Page(address, answer.code, answer.body.decode())
            if answer.code not in (307, 308):
                method, body = "GET", ""
            address = urljoin(address, answer.headers["Location"])
            if self.stops_at and address.startswith(self.stops_at):
                return Page(address, 0, "")
            if address.startswith(f"{self.whole.base_url}/login?"):
                address = await self._scan(address)

    async def _scan(self, login_page: str) -> str:
        """Logs in at saoma's page with the phone; where it goes on to."""
        self.scans += 1
        path = login_page.removeprefix(self.whole.base_url)
        collected = await self.whole.log_in(self.browser, self.person, path)
        return urljoin(login_page, collected["next"])


def _headers(method: str, address: str) -> Mapping[str, str]:
    """What a browser says to this address, whichever site it is of."""
    parts = urlsplit(address)
    sent = {"Host": parts.netloc, "X-XSRFToken": "", "Accept": "text/html,*/*;q=0.8"}
    if method == "POST":
        sent |= {
            "Origin": f"{parts.scheme}://{parts.netloc}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
    return sent
