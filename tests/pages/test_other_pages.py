"""The pages without a script: home, "wasn't me", errors, and the frame around all of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.pages.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = "<img src=x onerror=alert(1)>"


def person(**more: Any) -> SimpleNamespace:
    known = {"name": "Wei", "chosen_name": "Wei", "picture": "", "login_count": 3}
    return SimpleNamespace(**(known | more), last_login_at=lambda texts: texts.time(0, "UTC"))


async def test_home_of_nobody(page: Page, stage: Stage) -> None:
    await page.goto(stage.origin)
    await expect(page.get_by_role("heading", name="saoma")).to_be_visible()
    await expect(page.get_by_role("link", name="扫码登录")).to_have_attribute("href", "/login")


async def test_home_of_somebody(page: Page, stage: Stage) -> None:
    stage.page["current"] = person()
    await page.goto(stage.origin)
    await expect(page.get_by_role("heading", name="Wei")).to_be_visible()
    await expect(page.locator(".initial")).to_have_text("W")
    await expect(page.locator(".facts")).to_contain_text("1970年1月1日 00:00:00")
    field = page.get_by_label("显示的名字")
    await expect(field).to_have_value("Wei")
    await expect(field).to_have_attribute("maxlength", "64")
    await field.fill("Wei 🐼")
    await page.get_by_role("button", name="保存").click()
    await page.wait_for_url(stage.origin + "/")
    await page.get_by_role("button", name="退出登录").click()
    await page.wait_for_url(stage.origin + "/")
    assert stage.seen["POST /profile"] == stage.seen["POST /logout"] == 1


async def test_home_shows_a_hostile_name_as_text(page: Page, stage: Stage) -> None:
    stage.page["current"] = person(name=HOSTILE + '"', chosen_name=HOSTILE + '"', picture="/picture.svg")
    await page.goto(stage.origin)
    await expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    await expect(page.get_by_label("显示的名字")).to_have_value(HOSTILE + '"')
    await expect(page.locator(".portrait img")).to_have_attribute("src", "/picture.svg")


async def test_not_me(page: Page, stage: Stage) -> None:
    login = SimpleNamespace(
        site="saoma", browser="Firefox", system="<b>", address="203.0.113.7", time="2026年1月1日 08:00:00"
    )
    stage.page |= {"login": login, "done": False, "unknown": False}
    await page.goto(stage.origin + "/not-me?t=1")
    for text in ("Firefox", "<b>", "203.0.113.7", "2026年1月1日 08:00:00"):
        await expect(page.get_by_text(text, exact=True)).to_be_visible()
    assert stage.seen["POST /not-me"] == 0, "looking at it changed something"
    stage.page["done"] = True
    await page.get_by_role("button", name="不是我，结束这次登录").click()
    await expect(page.get_by_role("heading", name="已结束。")).to_be_visible()
    assert page.url == stage.origin + "/not-me?t=1"
    assert stage.seen["POST /not-me"] == 1


async def test_not_me_with_a_dead_link(page: Page, stage: Stage) -> None:
    stage.page |= {"login": None, "done": False, "unknown": True}
    await page.goto(stage.origin + "/not-me")
    await expect(page.get_by_role("heading", name="链接已失效")).to_be_visible()
    await expect(page.get_by_role("button")).to_have_count(0)


async def test_errors(page: Page, stage: Stage) -> None:
    for status, retries in ((404, 0), (403, 0), (421, 0), (429, 1), (500, 1), (503, 1)):
        stage.page |= {"status": status, "title": "没有找到", "message": HOSTILE}
        await page.goto(stage.origin + "/error")
        await expect(page.get_by_role("heading", name="没有找到")).to_be_visible()
        await expect(page.get_by_text(HOSTILE)).to_be_visible()
        await expect(page.get_by_role("link", name="重试")).to_have_count(retries)
        await expect(page.get_by_role("link", name="返回首页")).to_have_attribute("href", "/")


async def test_frame_names_what_the_settings_give(page: Page, stage: Stage) -> None:
    stage.page["site"] = SimpleNamespace(
        name='书店 "&"', logo="/picture.svg", icp="京ICP备1号", privacy_url="/privacy", terms_url="/terms"
    )
    await page.goto(stage.origin)
    await expect(page).to_have_title('书店 "&"')
    await expect(page.locator(".logo")).to_be_visible()
    for name, target in (
        ("京ICP备1号", "https://beian.miit.gov.cn/"),
        ("隐私政策", "/privacy"),
        ("服务条款", "/terms"),
    ):
        await expect(page.get_by_role("link", name=name)).to_have_attribute("href", target)


async def test_text_is_readable_in_light_and_dark(page: Page, stage: Stage) -> None:
    """WCAG AA: 4.5 to 1 for every text that is seen."""
    empty = SimpleNamespace(site="-", browser="-", system="-", address="-", time="-")
    stage.page |= {"current": person(), "login": empty, "done": False, "unknown": False}
    stage.page |= {"status": 503, "title": "-", "message": "-"}
    states = {"/login": ("WAITING", "SCANNED", "SUCCESS", "INVALID", "FAILED")}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        for path in ("/", "/login", "/not-me", "/error"):
            await page.goto(stage.origin + path)
            for state in states.get(path, ("",)):
                assert await page.evaluate(CONTRAST, state) == [], (scheme, path, state)


CONTRAST = """(state) => {
  if (state) Object.assign(document.getElementById("login").dataset, { state, offline: "" });
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color[3] !== 0) return color;
    }
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const style = getComputedStyle(element);
    if (!own || style.visibility === "hidden" || !element.getClientRects().length) continue;
    const pair = [light(parse(style.color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) weak.push([element.textContent.trim(), ratio]);
  }
  return weak;
}"""
