"""As a new operator would, without the manual: from the link to a blocked person and the log on disk."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, cast

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from admin_link import admin_link
from tests.handlers.operators import an_admin, press, someone, who
from tests.handlers.relying_party import SITE
from tests.harness import Whole, running
from tests.whole.test_in_chromium import a_page

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def scan_what_is_shown(page: Page, whole: Whole, person: str) -> None:
    ticket_id = await page.locator("[data-ticket]").get_attribute("data-ticket")
    assert ticket_id
    assert (await whole.scan(ticket_id, person)).accepted


async def test_from_the_link_to_the_log(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path, wechat={"pool_size": 3}, site={"name": "小店"}) as whole:
        guest = whole.browser()
        await whole.log_in(guest, whole.person(1))
        assert await admin_link(whole.server.settings)
        link = capsys.readouterr().out.strip()
        async with a_page(browser, accept_downloads=True) as page:
            await page.goto(link)
            await page.get_by_role("button", name="继续扫码").click()
            await scan_what_is_shown(page, whole, whole.person(0))
            await page.get_by_role("button", name=re.compile("将 .* 设为管理员")).click()
            await expect(page.get_by_role("heading", name="概览")).to_be_visible()
            await expect(page.get_by_role("img", name="最近 24 小时的登录")).to_be_visible()

            # The figures move by themselves.
            await expect(page.locator("[data-now=sessions]")).to_have_text("2")
            await whole.log_in(whole.browser(), whole.person(2))
            await expect(page.locator("[data-now=sessions]")).to_have_text("3", timeout=10_000)

            rooms = page.get_by_role("navigation", name="管理后台")
            await rooms.get_by_role("link", name="用户").click()
            await page.get_by_role("searchbox").fill(whole.person(1)[:12])
            await page.get_by_role("button", name="搜索").click()
            await expect(page.locator("tbody tr")).to_have_count(1)
            await page.locator("tbody a").click()
            await page.get_by_label("备注（仅团队可见）").fill("来过一次")
            await page.get_by_role("button", name="保存").click()
            await expect(page.get_by_role("status")).to_have_text("操作成功：修改备注")
            await page.get_by_role("button", name="封禁", exact=True).click()
            await expect(page.get_by_role("status")).to_have_text("操作成功：已封禁")
            await expect(page.get_by_role("button", name="解除封禁")).to_be_visible()
            assert (await guest.get("/api/v1/me")).code == 401

            await rooms.get_by_role("link", name="登录日志").click()
            await expect(page.locator("tbody tr")).to_have_count(3)
            async with page.expect_download() as started:
                await page.get_by_role("button", name="下载 CSV").click()
            saved = tmp_path / "logins.csv"
            await (await started.value).save_as(saved)
            with saved.open(encoding="utf-8-sig", newline="") as table:
                headings, *rows = csv.reader(table)
            assert (headings[1], len(rows)) == ("结果", 3)

            await rooms.get_by_role("link", name="操作记录").click()
            actions = await page.locator("tbody tr td:nth-child(3)").all_inner_texts()
            assert actions == ["下载登录日志", "已封禁", "修改备注", "通过链接成为管理员"]
            for room in ("网站", "设置", "概览"):
                await rooms.get_by_role("link", name=room).click()
                await expect(rooms.locator("[aria-current=page]")).to_have_text(room)


PAGES = ("", "/people", "/people/{id}", "/people/{id}/delete", "/logins", "/sites", "/settings", "/audit")
LOOKS = [
    pytest.param({"viewport": {"width": 1280, "height": 900}}, "zh-CN", id="light desktop"),
    pytest.param({"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}, "en", id="dark phone"),
]


@pytest.mark.parametrize(("options", "language"), LOOKS)
async def test_everybody_can_use_it(
    browser: Browser, tmp_path: Path, options: dict[str, Any], language: str
) -> None:
    """WCAG 2.2 AA by axe, and no page that is wider than its window."""
    async with running(tmp_path, wechat={"pool_size": 3}, sites=[SITE]) as whole:
        admin = await an_admin(whole)
        await someone(whole, 1)
        other = await who(whole, 1)
        await press(admin, f"/admin/people/{other.id}/remark", remark="备注" * 100)
        await press(admin, f"/admin/people/{other.id}/block")
        async with a_page(browser, **options) as page:
            cookies = [
                {"name": name, "value": value, "url": whole.base_url} for name, value in admin.cookies.items()
            ]
            await page.context.add_cookies(cast(Any, cookies))
            for path in PAGES:
                address = f"{whole.base_url}/admin{path.format(id=other.id)}"
                await page.goto(f"{address}?lang={language}")
                await expect(page.locator("html")).to_have_attribute("lang", language)
                found = await Axe().run(
                    page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}
                )
                assert len(found.response["passes"]) > 10, "axe looked at the page"
                assert not found.response["violations"], (path, found.generate_report())
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= options["viewport"]["width"], path
