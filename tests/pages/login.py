"""The login page on the stage, and what is seen of it."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page

from tests.pages.stage import Stage, address, until

WEI = {"name": "Wei 🐼", "picture": "/picture.svg"}


async def show(page: Page, stage: Stage, **query: str) -> None:
    await page.goto(stage.origin + address("/login", **query))


async def watched(stage: Stage) -> None:
    await until(lambda: len(stage.open_sockets) == 1)


def panel(page: Page, text: str) -> Any:
    return page.get_by_role("heading", name=text)


def reason(page: Page, text: str) -> Any:
    return page.locator(".reasons").get_by_text(text)


def button(page: Page, text: str) -> Any:
    return page.get_by_role("button", name=text)
