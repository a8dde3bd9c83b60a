"""Debian's Chromium, once for the folder; a stage for each test, and for the widget two teams' sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from handlers.base import BaseHandler
from tests.handlers.test_app import APP
from tests.harness import running
from tests.missing import skip
from tests.pages.faults import faults_of
from tests.pages.stage import Stage, staged
from tests.pages.team import Team

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--test-third-party-cookie-phaseout",
]


@pytest.fixture(scope="session")
def chromium() -> Path:
    if not CHROMIUM.exists():
        skip(f"the pages are tested in a real browser, and there is no {CHROMIUM}")
    return CHROMIUM


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(chromium),
            args=ARGUMENTS,
            # One of the tests goes back to a page that the browser kept.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A Chinese browser's empty page, which fails the test on any error of a script or of the policy."""
    context = await browser.new_context(locale="zh-CN", reduced_motion="reduce")
    page = await context.new_page()
    errors = faults_of(page)
    yield page
    await context.close()
    assert errors == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def teams(tmp_path_factory) -> AsyncIterator[tuple[Team, Team]]:
    """A registered team and one that is not, and the server that both put on their pages."""
    shop, stranger = Team("Shop"), Team("Stranger")
    for team in (shop, stranger):
        team.listen()
    async with running(tmp_path_factory.mktemp("widget"), sites=[shop.site], app=APP) as whole:
        shop.whole = stranger.whole = whole
        with pytest.MonkeyPatch.context() as patch:

            def set_cookie(handler: BaseHandler, *_: Any, **__: Any) -> None:
                shop.set_cookies.append(handler.request.path)

            patch.setattr(BaseHandler, "set_cookie", set_cookie)
            yield shop, stranger
    for team in (shop, stranger):
        team.server.stop()
        await team.server.close_all_connections()


@pytest.fixture
def shop(teams: tuple[Team, Team]) -> Team:
    teams[0].more = teams[0].more_frames = ""
    teams[0].seen.clear()
    return teams[0]
