"""Admins and what they press, for the tests of /admin."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from tornado.httpclient import HTTPResponse

from storage.records import AuditEntry, User
from tests.harness import Browser, Whole

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def someone(whole: Whole, number: int = 0, **headers: str) -> Browser:
    """A browser in English in which that person is logged in."""
    browser = whole.browser(**{"Accept-Language": "en", **headers})
    await whole.log_in(browser, whole.person(number))
    return browser


async def an_admin(whole: Whole, number: int = 0) -> Browser:
    browser = await someone(whole, number)
    user = await who(whole, number)
    await whole.storage.transact(lambda transaction: transaction.users.set_admin(user.id, True))
    await page_of(browser, "/account")  # for its XSRF token
    return browser


async def who(whole: Whole, number: int) -> User:
    user = await whole.user(whole.person(number))
    assert user is not None
    return user


async def page_of(browser: Browser, path: str) -> str:
    """The page, whose XSRF token the browser then knows."""
    answer = await browser.get(path)
    assert answer.code == 200, (answer.code, answer.headers)
    page = answer.body.decode()
    if found := re.search(r'name="_xsrf" value="([^"]+)"', page):
        browser.xsrf = found[1]
    return page


async def press(browser: Browser, path: str, **fields: str) -> HTTPResponse:
    return await browser.post(path, urlencode(fields), **FORM)


async def audit(whole: Whole) -> list[AuditEntry]:
    """All lines, the newest first."""
    page = await whole.storage.transact(lambda transaction: transaction.audit.newest(limit=200))
    return list(page.entries)
