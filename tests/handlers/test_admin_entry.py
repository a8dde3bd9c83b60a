"""How the first admin comes in: each clause of rule 22 of the security rules."""

from __future__ import annotations

import base64
import json
import logging
import re
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from admin_link import admin_link
from composition import opened
from flows.admin import FRESH_SECONDS, LIFETIME, PATH, look
from tests.handlers.operators import an_admin, audit, page_of, press, someone, who
from tests.handlers.relying_party import SITE
from tests.harness import Browser, Child, Whole, new_account, running, write_settings
from tests.ports import free_port
from tests.test_control import settings_of
from wechat.callback import Mode

ENTER = "/admin/enter"
COOKIE = "saoma-admin-link"


async def printed(whole: Whole, capsys: pytest.CaptureFixture[str]) -> str:
    """The path of a link made by the command."""
    assert await admin_link(whole.server.settings)
    link = capsys.readouterr().out.strip()
    assert link.startswith(whole.base_url + PATH) or whole.server.settings.sqlite_path is None
    return urlsplit(link).path


def token_of(path: str) -> str:
    return path.removeprefix(PATH)


async def begun(whole: Whole, path: str, browser: Browser | None = None) -> Browser:
    """A browser in which the link was opened and its button pressed."""
    browser = browser or whole.browser(**{"Accept-Language": "en"})
    await page_of(browser, path)
    answer = await press(browser, path)
    assert (answer.code, answer.headers["Location"]) == (303, f"/login?next={ENTER}")
    return browser


async def is_admin(whole: Whole, number: int = 0) -> bool:
    user = await whole.user(whole.person(number))
    return user is not None and user.admin


async def test_from_the_terminal_to_the_overview(whole, capsys):
    path = await printed(whole, capsys)
    browser = await begun(whole, path)
    collected = await whole.log_in(browser, whole.person(), path=f"/login?next={ENTER}")
    assert collected["next"] == ENTER
    page = await page_of(browser, ENTER)
    assert "<h1>Make WeChat user an admin?</h1>" in page
    assert not await is_admin(whole), "the page changes nothing"
    answer = await press(browser, ENTER)
    assert (answer.code, answer.headers["Location"]) == (303, "/admin")
    assert await is_admin(whole)
    assert COOKIE not in browser.cookies
    assert "<h1>Overview</h1>" in await page_of(browser, "/admin")
    (entry,) = await audit(whole)
    admin = (await who(whole, 0)).id
    assert (entry.action, entry.admin_id, entry.target) == ("became_admin", admin, admin)
    assert entry.address == "127.0.0.1"


async def test_looking_changes_nothing(whole, capsys):
    path = await printed(whole, capsys)
    browser = whole.browser()
    for _ in range(3):
        answer = await browser.get(path)
        assert answer.code == 200
        assert COOKIE not in browser.cookies
    assert await look(whole.server.context, token_of(path)) is not None


async def test_the_cookie(whole, capsys):
    path = await printed(whole, capsys)
    browser = whole.browser()
    await page_of(browser, path)
    answer = await press(browser, path)
    header = next(line for line in answer.headers.get_list("Set-Cookie") if line.startswith(COOKIE))
    morsel = SimpleCookie(header)[COOKIE]
    assert morsel.value == token_of(path)
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
    assert 0 < int(morsel["max-age"]) <= LIFETIME


def test_ten_minutes():
    assert LIFETIME == FRESH_SECONDS == 600


@pytest.mark.parametrize("step", ["look", "begin", "confirm", "enter"])
@pytest.mark.parametrize("late", [False, True])
async def test_it_is_good_for_ten_minutes(whole, capsys, step, late):
    path = await printed(whole, capsys)
    browser = whole.browser(**{"Accept-Language": "en"})
    await page_of(browser, path)
    if step in ("confirm", "enter"):
        await begun(whole, path, browser)
        whole.clock.pass_(400)
        await whole.log_in(browser, whole.person())
        whole.clock.pass_(-400)
    whole.clock.pass_(LIFETIME + 1 if late else LIFETIME - 60)
    if step in ("look", "confirm"):
        answer = await browser.get(path if step == "look" else ENTER)
    else:
        answer = await press(browser, path if step == "begin" else ENTER)
    assert answer.code == (404 if late else 200 if step in ("look", "confirm") else 303)
    assert ("no longer valid" in answer.body.decode()) is late
    assert await is_admin(whole) is (step == "enter" and not late)


async def test_it_works_once(whole, capsys):
    path = await printed(whole, capsys)
    first, second = await begun(whole, path), await begun(whole, path)
    await whole.log_in(first, whole.person(0))
    await whole.log_in(second, whole.person(1))
    await page_of(second, ENTER)
    assert (await press(first, ENTER)).code == 303
    assert (await press(second, ENTER)).code == 404
    assert (await second.get(ENTER)).code == 404
    assert (await first.get(path)).code == 404
    assert [await is_admin(whole, 0), await is_admin(whole, 1)] == [True, False]
    assert len(await audit(whole)) == 1


async def test_it_marks_who_then_scans_and_nobody_who_was_there_before(whole, capsys):
    browser = await someone(whole, 0)
    await page_of(browser, "/account")
    whole.clock.pass_(1)
    path = await printed(whole, capsys)
    await begun(whole, path, browser)
    answer = await browser.get(ENTER)
    assert (answer.code, answer.headers["Location"]) == (303, f"/login?next={ENTER}")
    assert (await press(browser, ENTER)).code == 404
    assert not await is_admin(whole, 0)
    await begun(whole, path, browser)
    await whole.log_in(browser, whole.person(1))
    await page_of(browser, ENTER)
    assert (await press(browser, ENTER)).code == 303
    assert [await is_admin(whole, 0), await is_admin(whole, 1)] == [False, True]


async def test_nobody_without_a_login(whole, capsys):
    path = await printed(whole, capsys)
    browser = await begun(whole, path)
    assert (await browser.get(ENTER)).code == 303
    assert (await press(browser, ENTER)).code == 404
    assert await audit(whole) == []


@pytest.mark.parametrize("token", ["", "x", "a" * 32])
async def test_a_token_of_nobodys(whole, token):
    browser = await someone(whole)
    await page_of(browser, "/account")
    browser.cookies[COOKIE] = token
    assert (await browser.get(ENTER)).code == 404
    browser.cookies[COOKIE] = token
    assert (await press(browser, ENTER)).code == 404
    assert (await browser.get(f"{PATH}{token}")).code == 404
    assert not await is_admin(whole)


async def test_a_link_for_something_else(whole):
    """The "not you?" link of a login is no way in."""
    browser = await someone(whole)
    await page_of(browser, "/account")
    outcome = await whole.scan(await browser.open_login(), whole.person())
    token = re.search(r"/not-me/([\w-]+)", str(outcome))[1]
    browser.cookies[COOKIE] = token
    assert (await press(browser, ENTER)).code == 404
    assert not await is_admin(whole)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"X-XSRFToken": ""}])
async def test_nobody_elses_page_presses_the_buttons(whole, capsys, headers):
    path = await printed(whole, capsys)
    browser = await begun(whole, path)
    await whole.log_in(browser, whole.person())
    await page_of(browser, ENTER)
    for address in (path, ENTER):
        assert (await browser.post(address, "", **headers)).code == 403
    assert not await is_admin(whole)


async def test_plain_mode_makes_no_admin_and_lets_none_in(tmp_path, capsys):
    async with running(tmp_path, mode=Mode.PLAIN) as whole:
        path = await printed(whole, capsys)
        browser = await begun(whole, path)
        await whole.log_in(browser, whole.person())
        await page_of(browser, ENTER)
        answer = await press(browser, ENTER)
        assert (answer.code, "switch wechat.mode to safe" in answer.body.decode()) == (403, True)
        assert not await is_admin(whole)
        assert await audit(whole) == []
        known = await an_admin(whole, 1)
        assert (await known.get("/admin")).code == 403, "anybody could have forged the scan"


async def test_a_programs_login_makes_no_admin_and_lets_none_in(tmp_path, capsys):
    async with running(tmp_path, sites=[SITE]) as whole:
        path = await printed(whole, capsys)
        basic = base64.b64encode(f"{SITE['id']}:{SITE['secret']}".encode()).decode()
        program = whole.browser()
        bare = {"Origin": "", "X-XSRFToken": ""}
        made = await program.post(
            "/api/v1/tickets", {"client": "api"}, Authorization=f"Basic {basic}", **bare
        )
        ticket = json.loads(made.body)
        await whole.scan(ticket["id"], whole.person())
        secret = f"Ticket {ticket['secret']}"
        answer = await program.post(f"/api/v1/tickets/{ticket['id']}/exchange", Authorization=secret, **bare)
        token = json.loads(answer.body)["token"]
        browser = await begun(whole, path)
        browser.cookies["saoma-session"] = token
        assert (await press(browser, ENTER)).code == 404
        assert not await is_admin(whole)
        user = await who(whole, 0)
        await whole.storage.transact(lambda transaction: transaction.users.set_admin(user.id, True))
        assert (await program.get("/admin", Authorization=f"Bearer {token}")).code == 403
        assert (await browser.get("/admin")).code == 403


async def test_the_token_is_in_no_log(whole, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    path = await printed(whole, capsys)
    browser = await begun(whole, path)
    await whole.log_in(browser, whole.person())
    await page_of(browser, ENTER)
    await press(browser, ENTER)
    await browser.get(path)
    await browser.get(path + "/more")
    assert "POST /admin/enter/…" in caplog.text
    assert token_of(path) not in caplog.text


async def test_no_link_comes_over_the_web(whole):
    browser = await someone(whole)
    await page_of(browser, "/account")
    for path in ("/admin-link", "/admin/admin-link", "/admin/enter/", "/control/admin-link"):
        assert (await press(browser, path)).code in (403, 404)
        assert b"/admin/enter/" not in (await browser.get(path)).body


async def test_where_no_server_runs(tmp_path, capsys):
    async with running(tmp_path) as whole:
        settings = whole.server.settings
    assert await admin_link(settings)
    token = capsys.readouterr().out.strip().rpartition("/")[2]
    async with opened(settings) as context:
        assert await look(context, token) is not None


async def test_where_there_is_no_database(tmp_path, capsys):
    assert not await admin_link(settings_of(tmp_path))
    said = capsys.readouterr()
    assert "start the server first" in said.err
    assert not said.out


async def test_with_mongodb(tmp_path, capsys, mongodb_url):
    async with running(tmp_path, storage={"url": mongodb_url}) as whole:
        path = await printed(whole, capsys)
        browser = await begun(whole, path)
        await whole.log_in(browser, whole.person())
        await page_of(browser, ENTER)
        assert (await press(browser, ENTER)).code == 303
        assert await is_admin(whole)


async def test_the_commands(tmp_path: Path):
    """As an operator runs them: what the one prints, the log of the other never has."""
    port = free_port()
    account = new_account()
    limits = {"wechat": {"pool_size": 0}, "server": {"port": port}, "metrics": {"port": 0}}
    settings = write_settings(tmp_path, account, "http://127.0.0.1:9", **limits)
    async with Child.serving(settings) as serving:
        await serving.says("serving")
        async with Child("admin-link", "--settings", str(settings)) as command:
            assert await command.ended() == 0
            link = re.search(
                rf"^http://127\.0\.0\.1:{port}{PATH}([\w-]{{32}})$", command.output, re.MULTILINE
            )
            assert link, command.output
            assert "works once" in command.output
        browser = Browser(f"http://127.0.0.1:{port}", {})
        assert (await browser.get(PATH + link[1])).code == 200
        await serving.says(f"GET {PATH}…")
        assert link[1] not in serving.output
