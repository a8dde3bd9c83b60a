"""The login page as it is sent: at once, small, and in the way of the device that asks."""

from __future__ import annotations

import re
import time

import pytest

from emulator.platform import QRCODE_CREATE
from flows.code_pool import MOMENT_SECONDS
from tests.harness import Whole, running

APP = {"issuer": "https://app.example", "key": "k" * 32, "link": "shop://login?u={url}"}
SITE = {
    "name": "书店",
    "logo": "/logo.svg",
    "icp": "京ICP备1号",
    "privacy_url": "https://shop.example/privacy",
    "terms_url": "https://shop.example/terms",
}
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
WECHAT = f"{IPHONE} MicroMessenger/8.0.60"
SAFARI = f"{IPHONE} Version/18.0 Safari/604.1"
DESKTOP_WECHAT = "Mozilla/5.0 (Windows NT 10.0) Chrome/130 MicroMessenger/7.0.20 WindowsWechat"


async def page_of(whole: Whole, path: str = "/login", **headers: str) -> str:
    response = await whole.browser(**headers).get(path)
    assert response.code == 200
    return response.body.decode()


async def test_a_page_waits_no_more_than_a_moment_for_wechat(tmp_path):
    async with running(tmp_path, wechat={"pool_size": 0}) as whole:
        browser = whole.browser(**{"Accept-Language": "en"})
        whole.emulator.platform.delay(QRCODE_CREATE, 10, times=9)
        started = time.monotonic()
        response = await browser.get("/login?next=/cart%3Fa%3D1%26b")
        assert time.monotonic() - started < MOMENT_SECONDS + 1
        whole.emulator.platform.heal()
        page = response.body.decode()
        assert response.code == 200
        assert 'data-state="LOADING" data-ticket=""' in page
        assert not browser.cookies.keys() & {"saoma_ticket"}
        link = re.search(r'<noscript>\s*<a class="button" href="([^"]+)">\s*Show the code</a>', page)
        assert link
        shown = (await browser.get(link[1].replace("&amp;", "&"))).body.decode()
        assert 'data-state="WAITING"' in shown
        assert 'data-next="/cart?a=1&amp;b"' in shown


async def test_without_any_code_the_page_says_so_to_who_waits(tmp_path, expect_log):
    expect_log(r"WeChat's API did not answer")
    async with running(tmp_path, wechat={"pool_size": 0}) as whole:
        whole.emulator.platform.down = True
        assert (await whole.browser().get("/login?wait=1")).code == 503
        assert "LOADING" in await page_of(whole)


@pytest.mark.parametrize(
    ("agent", "method", "kind", "steps"),
    [
        (WECHAT, "wechat", "png", "长按二维码，直到出现菜单。"),
        (SAFARI, "wechat", "png", "把二维码图片保存到这部手机。"),
        (SAFARI, "app", "png", "点这里的按钮打开 saoma 客户端。"),
        (WECHAT, "app", "png", "点右上角菜单，选择“在浏览器打开”。"),
        (DESKTOP_WECHAT, "wechat", "svg", "打开手机微信，点右上角“+”，选择“扫一扫”。"),
        ("", "app", "svg", "打开手机上的 saoma 客户端，点“扫一扫”。"),
    ],
)
async def test_each_device_gets_its_steps_and_its_kind_of_picture(tmp_path, agent, method, kind, steps):
    async with running(tmp_path, wechat={"pool_size": 1}, app=APP) as whole:
        browser = whole.browser(**{"User-Agent": agent, "Accept-Language": "zh-CN"})
        ticket = await browser.open_login(f"/login?method={method}")
        page = (await browser.get(f"/login?method={method}")).body.decode()
        assert f'data-ticket="{ticket}"' in page
        assert re.findall("<li>(.*?)</li>", page)[0] == steps
        assert f'data-picture="{kind}"' in page
        picture = f"/api/v1/tickets/{ticket}/qr.png"
        assert (f'<img src="{picture}"' in page) == (kind == "png")
        assert ("<svg" in page.split('class="code"')[1].split("</div>")[0]) == (kind == "svg")
        saved = f'href="{picture}" download="login.png"' in page
        assert saved == (kind == "png" and (agent, method) != (WECHAT, "wechat"))
        assert ('id="app-link"' in page) == (kind == "png" and method == "app")
        assert "method=wechat" in page, "no tab for another way"
        assert "method=app" in page, "no tab for another way"
        if kind == "png":
            assert (await browser.get(picture)).headers["Content-Type"] == "image/png"


async def test_the_whole_page_is_small_and_all_of_it_is_ours(tmp_path):
    """Everything that a browser fetches for it, in bytes as sent, on a phone with all there is to show."""
    async with running(tmp_path, wechat={"pool_size": 2}, app=APP, site=SITE) as whole:
        for agent in (SAFARI, DESKTOP_WECHAT):
            browser = whole.browser(**{"User-Agent": agent})
            response = await browser.get("/login?next=/cart")
            page = response.body.decode()
            policy = response.headers["Content-Security-Policy"]
            for rule in ("default-src 'none'", "script-src 'self';", "style-src 'self';", "base-uri 'none'"):
                assert rule in policy
            assert "unsafe" not in policy
            links = set(re.findall(r'<(?:link|script|img)[^>]*?(?:href|src)="([^"]+)"', page))
            links -= {"/logo.svg"}  # the team's own
            modules = {link for link in links if ".js" in link}
            assert len(modules) == 2
            size = len(response.body)
            for link in links:
                assert link.startswith("/")
                assert not link.startswith("//")
                part = await browser.get(link)
                assert part.code == 200, link
                size += len(part.body)
            assert size < 60_000, size
            assert size > 20_000, "something was not counted"
