"""Sizes, themes, languages and more of the login page, combined in pairs, in every state of a login."""

from __future__ import annotations

from itertools import combinations, product
from types import SimpleNamespace
from typing import Any, NamedTuple

import png
import pytest
import zxingcpp
from allpairspy import AllPairs
from playwright.async_api import Browser, Page, expect

import codes
from tests.pages.stage import CATALOGUES, Stage, address, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZES = ((360, 640), (768, 1024), (1280, 800), (1920, 1080))
AXES: tuple[tuple[Any, ...], ...] = (
    SIZES,
    ("light", "dark"),
    ("zh-CN", "en"),
    ("scripts", "no scripts"),
    ("wechat", "app"),
    ("reduce", "no-preference"),
    ("desktop", "phone", "in WeChat"),
    ("ready", "loading"),
)
WEI = {"name": "Wei 🐼", "picture": "/picture.svg"}
LONGEST_ANIMATION = 300  # ms


class Run(NamedTuple):
    size: tuple[int, int]
    theme: Any
    language: str
    scripts: str
    method: str
    motion: Any
    device: str
    code: str


RUNS = [Run(*row) for row in AllPairs([list(values) for values in AXES])]


async def test_all_pairs_are_there() -> None:
    for one, other in combinations(range(len(AXES)), 2):
        wanted = set(product(AXES[one], AXES[other]))
        assert wanted == {(run[one], run[other]) for run in RUNS}
    assert len(RUNS) <= 16


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, (*run.size, *run[1:]))))
async def test_a_login(browser: Browser, stage: Stage, run: Run) -> None:
    width, height = run.size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=run.theme,
        locale=run.language,
        reduced_motion=run.motion,
        java_script_enabled=run.scripts == "scripts",
    )
    page = await context.new_page()
    texts = CATALOGUES.of(run.language)
    stage.loading = run.code == "loading"
    stage.page |= set_up(run)
    await page.goto(stage.origin + address("/login", method=run.method))
    if run.scripts == "scripts":
        await with_scripts(page, stage, texts)
    else:
        await without_scripts(page, stage, texts)
    await context.close()


def set_up(run: Run) -> dict[str, Any]:
    """What the templates are given besides."""
    on_phone = run.device != "desktop"
    ticket_id = "TICKET" if run.code == "loading" else "ticket-1"
    return {
        "site": SimpleNamespace(
            name="书店", logo="/picture.svg", icp="京ICP备1号", privacy_url="/privacy", terms_url="/terms"
        ),
        "methods": ("wechat", "app"),
        "on_phone": on_phone,
        "in_wechat": run.device == "in WeChat",
        "app_link": f"/open/{ticket_id}" if on_phone and run.method == "app" else "",
        "picture_link": f"/api/v1/tickets/{ticket_id}/qr.png" if on_phone else "",
    }


async def without_scripts(page: Page, stage: Stage, texts: Any) -> None:
    if stage.loading:
        await fits(page)
        stage.loading = False
        await page.get_by_role("link", name=texts("Show the code")).click()
    await fits(page)
    await expect(
        page.get_by_role("button", name=texts("I have confirmed on my phone, continue"))
    ).to_be_visible()
    await the_code_is_good(page, stage)


async def with_scripts(page: Page, stage: Stage, texts: Any) -> None:
    await expect(page.locator("#login")).to_have_attribute("data-state", "WAITING")
    await page.evaluate(LISTEN)
    await until(lambda: len(stage.open_sockets) == 1)
    places = await fits(page)
    await the_code_is_good(page, stage)
    said: list[str] = []

    async def becomes(state: str, heading: str) -> None:
        await expect(page.locator("#login")).to_have_attribute("data-state", state)
        await expect(page.locator(f'section[data-for~="{state}"] h2')).to_have_text(heading)
        await expect(page.locator(f'section[data-for~="{state}"] h2')).to_be_visible()
        said.append(heading)
        assert await fits(page) == places, state

    waiting = await page.locator('section[data-for="WAITING"] h2').inner_text()
    stage.become("SCANNED", WEI)
    await becomes("SCANNED", texts("Scanned. Confirm on your phone"))
    stage.become("CANCELLED")
    await becomes("CANCELLED", texts("This login was cancelled"))
    await page.get_by_role("button", name=texts("Scan again")).click()
    await becomes("WAITING", waiting)
    await until(lambda: len(stage.open_sockets) == 1)
    stage.become("SCANNED", WEI)
    await becomes("SCANNED", texts("Scanned. Confirm on your phone"))
    stage.become("INVALID")
    await becomes("INVALID", texts("This code has expired. Click to refresh"))
    stage.problem = {"code": "method_unavailable", "status": 503}
    await page.get_by_role("button", name=texts("Refresh the code")).click()
    await becomes("FAILED", texts("The login was not completed"))
    said[-1] += f" {texts('This way to log in is not available just now.')}"
    stage.problem = None
    await page.get_by_role("button", name=texts("Retry")).click()
    await becomes("WAITING", waiting)
    await until(lambda: len(stage.open_sockets) == 1)
    stage.become("CONFIRMED", WEI)
    await becomes("SUCCESS", texts("Logged in. Taking you on…"))
    assert await page.evaluate("said") == said, "each change is said once, and nothing else is"
    await page.wait_for_url("**/?welcome")


async def fits(page: Page) -> Any:
    """Where everything is, once it is no wider than the screen."""
    return await page.evaluate(
        """() => {
            if (document.documentElement.scrollWidth > innerWidth) throw new Error("wider than the screen");
            const parts = [...document.querySelectorAll("#login, h1, .steps, .tabs, .tile, .panels, footer")];
            return parts.map((part) => {
                const { x, y, width, height } = part.getBoundingClientRect();
                return [part.className, x + scrollX, y + scrollY, width, height];
            });
        }"""
    )


async def the_code_is_good(page: Page, stage: Stage) -> None:
    """Dark on white, four modules of white around it, of a size that is scanned, and right."""
    code = page.locator(".code")
    if await page.locator(".code img").count():
        await page.locator(".code img").evaluate("image => image.decode()")
    await page.wait_for_timeout(LONGEST_ANIMATION)
    box = await page.locator(".tile").bounding_box()
    assert box is not None
    assert 200 <= box["width"] <= 280
    assert 200 <= box["height"] <= 280
    width, height, rows, _ = png.Reader(bytes=await code.screenshot()).asRGB8()
    lines = [bytes(row) for row in rows]
    text = f"http://weixin.qq.com/q/{stage.ticket.id}"
    screen = memoryview(b"".join(lines)).cast("B", (height, width, 3))
    assert [found.text for found in zxingcpp.read_barcodes(screen)] == [text]
    module = width / float(codes.svg(text).split('viewBox="0 0 ')[1].split(" ")[0].strip('"'))
    quiet = int(4 * module) - 1  # the last pixel may be part of a module
    white = b"\xff" * 3 * width
    assert lines[:quiet] == [white] * quiet
    assert lines[-quiet:] == [white] * quiet
    for line in lines:
        assert line[: 3 * quiet] == line[-3 * quiet :] == white[: 3 * quiet]


LISTEN = """() => {
  window.said = [];
  const region = document.getElementById("announcement");
  const listen = () => said.push(region.textContent.trim());
  new MutationObserver(listen).observe(region, { childList: true, characterData: true, subtree: true });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_code_is_read_at_200_pixels(page: Page, stage: Stage, theme: Any) -> None:
    await page.emulate_media(color_scheme=theme)
    await page.goto(stage.origin + "/login")
    shrink = "code => Object.assign(code.style, { width: '200px', height: '200px' })"
    await page.locator(".code").evaluate(shrink)
    await the_code_is_good(page, stage)
    assert (await page.locator(".code").bounding_box() or {})["width"] == 200
