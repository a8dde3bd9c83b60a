"""The operator's pages over HTTP: for whom they are, what they show, and that each change is recorded."""

from __future__ import annotations

import asyncio
import json
import re
from html import escape
from urllib.parse import quote

import pytest

from flows.admin import FRESH_SECONDS
from handlers.admin.base import AdminHandler
from handlers.admin.entry import Entry
from tests.handlers.operators import an_admin, audit, page_of, press, someone, who
from tests.harness import Browser, Whole, running
from tests.receiver import LOOPBACK, SECRET, receiving
from tests.storage.samples import login
from wechat.api import PlatformError

PAGES = [
    "/admin",
    "/admin/people",
    "/admin/people/{id}",
    "/admin/people/{id}/delete",
    "/admin/logins",
    "/admin/sites",
    "/admin/settings",
    "/admin/audit",
]
CHANGES = ["remark", "block", "unblock", "sign_out", "make_admin", "unmake_admin", "delete"]
BUTTONS = [
    *(f"/admin/people/{{id}}/{change}" for change in CHANGES),
    "/admin/people.csv",
    "/admin/logins.csv",
    "/admin/sites/shop/test",
]


async def stored(whole: Whole, number: int = 1) -> tuple[object, ...]:
    """What the changes could change, and the audit log."""
    return (*await whole.stored(), await whole.user(whole.person(number)), await audit(whole))


# --- For whom.


def test_every_address_below_admin_is_guarded(whole):
    rules = whole.server._changes._application.wildcard_router.rules
    below = [rule.target for rule in rules if rule.matcher.regex.pattern.startswith("/admin")]
    assert len(below) >= 15
    assert {target for target in below if not issubclass(target, (AdminHandler, Entry))} == set()


@pytest.mark.parametrize("page", PAGES)
async def test_pages_are_for_admins(whole, page):
    admin, other, stranger = await an_admin(whole, 0), await someone(whole, 1), whole.browser()
    path = page.format(id=(await who(whole, 1)).id)
    assert (await admin.get(path)).code == 200
    refused = await other.get(path)
    assert (refused.code, b"Only admins may see this." in refused.body) == (403, True)
    assert (await who(whole, 1)).id.encode() not in refused.body
    sent = await stranger.get(f"{path}?a=b")
    assert (sent.code, sent.headers["Location"]) == (303, f"/login?next={quote(f'{path}?a=b')}")


@pytest.mark.parametrize("button", BUTTONS)
async def test_buttons_are_for_admins(whole, button):
    other, stranger = await someone(whole, 1), whole.browser()
    await page_of(other, "/account")
    await stranger.open_login()
    path, before = button.format(id=(await who(whole, 1)).id), await stored(whole)
    assert (await press(other, path)).code == 403
    sent = await press(stranger, path)
    assert (sent.code, sent.headers["Location"]) == (303, "/login?next=/admin")
    assert await stored(whole) == before


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"X-XSRFToken": ""}])
async def test_nobody_elses_page_presses_buttons(whole, headers):
    admin = await an_admin(whole)
    await someone(whole, 1)
    before = await stored(whole)
    for button in BUTTONS:
        path = button.format(id=(await who(whole, 1)).id)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await admin.post(path, "remark=x", **{**form, **headers})).code == 403
        assert (await admin.get(path)).code in (405, 200 if path.endswith("/delete") else 405)
    assert await stored(whole) == before


async def test_who_is_no_admin_any_more_is_none_at_once(whole):
    first, second = await an_admin(whole, 0), await an_admin(whole, 1)
    assert (await second.get("/admin")).code == 200
    path = f"/admin/people/{(await who(whole, 1)).id}/unmake_admin"
    assert (await press(first, path)).code == 303
    assert (await second.get("/admin")).code == 403
    assert (await press(second, f"/admin/people/{(await who(whole, 0)).id}/block")).code == 403
    assert not (await who(whole, 0)).blocked


async def test_the_account_page_leads_there(whole):
    admin, other = await an_admin(whole, 0), await someone(whole, 1)
    assert 'href="/admin"' in await page_of(admin, "/account")
    assert 'href="/admin"' not in await page_of(other, "/account")


# --- Changes, each with its line.


async def change(whole: Whole, admin: Browser, action: str, **fields: str) -> None:
    """Of person 1; what follows in the audit log is checked."""
    path, before = f"/admin/people/{(await who(whole, 1)).id}", len(await audit(whole))
    await page_of(admin, path)
    answer = await press(admin, f"{path}/{action}", **fields)
    assert (answer.code, answer.headers["Location"]) == (303, f"{path}?done={action}")
    assert 'role="status"' in await page_of(admin, f"{path}?done={action}")
    lines = await audit(whole)
    assert len(lines) == before + 1
    line = lines[0]
    assert (line.action, line.target, line.address) == (action, (await who(whole, 1)).id, "127.0.0.1")
    assert line.admin_id == (await who(whole, 0)).id
    assert escape(line.detail) in await page_of(admin, "/admin/audit")


async def test_a_remark(whole):
    admin, _ = await an_admin(whole), await someone(whole, 1)
    await change(whole, admin, "remark", remark="  市场部 <b>&  周三\t👩‍💻 ")
    kept = "市场部 <b>& 周三 👩‍💻"
    assert (await who(whole, 1)).remark == (await audit(whole))[0].detail == kept
    assert "市场部 &lt;b&gt;&amp; 周三" in await page_of(admin, "/admin/people?q=" + quote("周三"))
    path = f"/admin/people/{(await who(whole, 1)).id}/remark"
    for wrong in ("x" * 501, "\u202eevil"):
        assert (await press(admin, path, remark=wrong)).code == 400
    assert (await who(whole, 1)).remark == kept


async def test_blocking_and_unblocking(whole):
    admin, other = await an_admin(whole), await someone(whole, 1)
    await change(whole, admin, "block")
    assert (await who(whole, 1)).blocked
    assert (await other.get("/api/v1/me")).code == 401
    await change(whole, admin, "unblock")
    assert not (await who(whole, 1)).blocked
    await whole.log_in(other, whole.person(1))


async def test_signing_out_everywhere(whole):
    admin, here, there = await an_admin(whole), await someone(whole, 1), await someone(whole, 1)
    scanned = whole.browser()
    ticket_id = await scanned.open_login()
    await whole.scan(ticket_id, whole.person(1))
    await change(whole, admin, "sign_out")
    assert [(await browser.get("/api/v1/me")).code for browser in (here, there)] == [401, 401]
    assert (await scanned.exchange(ticket_id)).code in (403, 409), "what was scanned is taken back"
    assert (await admin.get("/admin")).code == 200


async def test_admins_make_admins(whole):
    admin, other = await an_admin(whole), await someone(whole, 1)
    await change(whole, admin, "make_admin")
    assert (await other.get("/admin")).code == 200
    await change(whole, admin, "unmake_admin")
    assert (await other.get("/admin")).code == 403


async def test_deleting(whole):
    admin, other = await an_admin(whole), await someone(whole, 1)
    user_id = (await who(whole, 1)).id
    page = await page_of(admin, f"/admin/people/{user_id}/delete")
    assert "cannot be undone" in page
    assert await whole.user(whole.person(1)) is not None, "looking deletes nothing"
    answer = await press(admin, f"/admin/people/{user_id}/delete")
    assert (answer.code, answer.headers["Location"]) == (303, "/admin/people?done=delete")
    assert await whole.user(whole.person(1)) is None
    assert (await other.get("/api/v1/me")).code == 401
    (line,) = await audit(whole)
    assert (line.action, line.target) == ("delete", user_id)
    assert user_id in await page_of(admin, "/admin/audit")
    assert (await admin.get(f"/admin/people/{user_id}")).code == 404


@pytest.mark.parametrize("action", ["block", "unmake_admin", "delete"])
async def test_nobody_does_it_to_themselves(whole, action):
    """So that the last admin stays one."""
    admin = await an_admin(whole)
    path = f"/admin/people/{(await who(whole, 0)).id}"
    page = await page_of(admin, path)
    assert "this is you" in page
    assert f"{path}/{action}" not in page
    answer = await press(admin, f"{path}/{action}")
    assert (answer.code, b"to themselves" in answer.body) == (403, True)
    assert (await admin.get("/admin")).code == 200
    assert await audit(whole) == []


@pytest.mark.parametrize("action", [action for action in CHANGES if action != "delete"] + ["delete"])
async def test_of_somebody_who_is_not_there(whole, action):
    admin = await an_admin(whole)
    assert (await press(admin, f"/admin/people/nobody/{action}", remark="x")).code == 404
    assert await audit(whole) == []


@pytest.mark.parametrize(("action", "back"), [("delete", "/delete"), ("make_admin", "")])
async def test_what_cannot_be_undone_takes_a_fresh_login(whole, action, back):
    admin, _ = await an_admin(whole), await someone(whole, 1)
    person = f"/admin/people/{(await who(whole, 1)).id}"
    whole.clock.pass_(FRESH_SECONDS)
    before = await stored(whole)
    if action == "delete":
        assert (await admin.get(f"{person}/delete")).code == 403
    refused = await press(admin, f"{person}/{action}")
    link = re.search(r'href="(/login\?next=[^"]+)"', refused.body.decode())
    assert (refused.code, link[1]) == (403, f"/login?next={quote(f'{person}{back}', safe='')}")
    assert await stored(whole) == before
    collected = await whole.log_in(admin, whole.person(0), path=link[1])
    assert collected["next"] == f"{person}{back}"
    await page_of(admin, person)
    assert (await press(admin, f"{person}/{action}")).code == 303
    assert [line.action for line in await audit(whole)] == [action]


async def test_a_person_shows_what_is_stored(whole):
    admin = await an_admin(whole)
    await someone(whole, 1, **{"User-Agent": "Firefox/140.0 Linux"})
    user = await who(whole, 1)
    page = await page_of(admin, f"/admin/people/{user.id}")
    for told in (whole.person(1), user.id, "following", "Firefox, Linux", "127.0.0.1", "logged in"):
        assert told in page, told


# --- Lists and their cursors.


async def crowd(whole: Whole, count: int) -> None:
    now = whole.server.context.now()

    async def work(transaction):
        for n in range(count):
            subject = f"o-{n:04}"
            user = await transaction.users.upsert_identity(
                "app", subject, following=True, event_at=now, new_id=f"crowd{n:04}", now=now + n
            )
            if n % 3 == 0:
                await transaction.users.set_chosen_name(user.id, "=1+1" if n % 2 else f"张三{n}")
                await transaction.users.set_remark(user.id, '@a,"b"\n换行')

    await whole.storage.transact(work)


def links_in(page: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'href="/admin/people/(crowd\d+)"', page)))


def following(page: str) -> str:
    found = re.search(r'href="([^"]*cursor=[^"]*)">Next page', page)
    return found[1].replace("&amp;", "&") if found else ""


async def test_people_page_by_page(whole):
    admin = await an_admin(whole)
    await crowd(whole, 120)
    page = await page_of(admin, "/admin/people?q=o-0")
    seen = links_in(page)
    assert "Back to the beginning" not in page
    while more := following(page):
        page = await page_of(admin, more)
        assert "Back to the beginning" in page
        seen += links_in(page)
    assert seen == [f"crowd{n:04}" for n in range(120)]


@pytest.mark.parametrize("of", ["name", "remark", "openid"])
async def test_searching(whole, of):
    admin = await an_admin(whole)
    await someone(whole, 1)
    user = await who(whole, 1)

    async def work(transaction):
        await transaction.users.set_chosen_name(user.id, "李雷 Lei")
        await transaction.users.set_remark(user.id, "Ground floor")

    await whole.storage.transact(work)
    text = {"name": "李雷 l", "remark": "gROUND", "openid": whole.person(1)[3:20]}[of]
    page = await page_of(admin, f"/admin/people?q={quote(text)}")
    assert f"/admin/people/{user.id}" in page
    assert f"/admin/people/{(await who(whole, 0)).id}" not in page
    assert "Nobody is found" in await page_of(admin, "/admin/people?q=%3Cscript%3E")


@pytest.mark.parametrize("path", ["/admin/people", "/admin/logins", "/admin/audit"])
async def test_cursors_that_are_not_ours(whole, path):
    admin = await an_admin(whole)
    await crowd(whole, 60)
    ours = following(await page_of(admin, "/admin/people")).partition("cursor=")[2]
    assert (await admin.get(f"/admin/people?cursor={ours}")).code == 200
    body, _, mac = ours.partition(".")
    forged = [ours[:-1] + ("0" if ours[-1] != "0" else "1"), f"x{ours}", f"{body}.", body, ".", f".{mac}"]
    forged += ["4000000000.0 x", "%C3%A9.%C3%A9", "x" * 5000, f"{'A' * 400}.{mac}"]
    if path != "/admin/people":
        forged.append(ours)  # of another list
    for cursor in forged:
        assert (await admin.get(f"{path}?cursor={cursor}")).code == 400, cursor


async def test_people_without_a_name_can_be_told_apart(whole):
    """Followers' names come back blank since 2021."""
    admin = await an_admin(whole)
    await someone(whole, 1)
    page = await page_of(admin, "/admin/people")
    ends = [f"WeChat user …{whole.person(number)[-5:]}" for number in (0, 1)]
    assert ends[0] in page
    assert ends[1] in page
    assert ends[1] in await page_of(admin, "/admin/logins")
    user = await who(whole, 1)
    await whole.storage.transact(lambda transaction: transaction.users.set_remark(user.id, "Ground floor"))
    await page_of(admin, f"/admin/people/{user.id}")
    await press(admin, f"/admin/people/{user.id}/sign_out")
    for path in ("/admin/logins", "/admin/audit"):
        assert "<bdi>Ground floor</bdi>" in await page_of(admin, path)


async def test_a_search_that_is_too_long(whole):
    assert (await (await an_admin(whole)).get("/admin/people?q=" + "x" * 201)).code == 400


async def lines(whole: Whole, *given: object) -> None:
    async def work(transaction):
        for line in given:
            await transaction.logins.append(line)

    await whole.storage.transact(work)


async def addresses(admin: Browser, query: str) -> list[str]:
    return re.findall(r"192\.0\.2\.\d+", await page_of(admin, f"/admin/logins?{query}"))


async def test_the_login_log_and_its_filters(tmp_path):
    async with running(tmp_path, site={"timezone": "Asia/Tokyo"}) as whole:
        admin = await an_admin(whole)
        user, noon = await who(whole, 0), 1_767_236_400.0  # 2026-01-01T12:00 in Tokyo
        ends = noon * 2
        await lines(
            whole,
            login("a", at=noon, address="192.0.2.1", user_id=user.id, expires_at=ends),
            login("b", at=noon - 1, address="192.0.2.2", method="app", expires_at=ends),
            login("c", at=noon + 60, address="192.0.2.3", result="blocked", expires_at=ends),
        )
        everything = ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
        assert await addresses(admin, "") == everything
        assert await addresses(admin, "since=2026-01-01T12:00") == everything[:2]
        assert await addresses(admin, "until=2026-01-01T12:00") == everything[2:]
        assert await addresses(admin, "since=2026-01-01T12:00&until=2026-01-01T12:01") == ["192.0.2.1"]
        assert await addresses(admin, "result=blocked") == ["192.0.2.3"]
        assert await addresses(admin, "method=app") == ["192.0.2.2"]
        assert await addresses(admin, f"person={user.id}") == ["192.0.2.1"]
        assert await addresses(admin, f"person={whole.person()}") == ["192.0.2.1"]
        assert await addresses(admin, "person=nobody") == []
        page = await page_of(admin, "/admin/logins?result=blocked")
        assert "refused: blocked" in page
        assert "not stored any more" in page
        for wrong in ("since=yesterday", "until=0001-01-01", "since=99999-01-01T00:00"):
            assert (await admin.get(f"/admin/logins?{wrong}")).code in (200, 400)
        assert (await admin.get("/admin/logins?since=yesterday")).code == 400


async def test_the_login_log_page_by_page(whole):
    admin = await an_admin(whole)
    now = whole.server.context.now()
    await lines(
        whole,
        *(
            login(f"{n}", at=now - n, address=f"192.0.2.{n}", method="app", expires_at=now * 2)
            for n in range(120)
        ),
    )
    page, seen = await page_of(admin, "/admin/logins?method=app"), []
    while True:
        seen += re.findall(r"192\.0\.2\.(\d+)", page)
        if not (more := following(page)):
            break
        assert "method=app" in more
        page = await page_of(admin, more)
    assert seen == [str(n) for n in range(120)]


# --- What else there is to see.


async def test_the_figures(whole):
    admin = await an_admin(whole)
    assert json.loads((await admin.get("/admin/now")).body) == {"waiting": 0, "sessions": 1, "people": 1}
    waiting = whole.browser()
    ticket_id = await waiting.open_login()
    async with waiting.socket(ticket_id) as socket:
        await socket.read_message()
        assert json.loads((await admin.get("/admin/now")).body)["waiting"] == 1
        assert 'data-now="waiting">1<' in await page_of(admin, "/admin")
    await someone(whole, 1)
    now = json.loads((await admin.get("/admin/now")).body)
    assert (now["sessions"], now["people"]) == (2, 2)
    assert (await whole.browser().get("/admin/now")).code == 401
    assert (await (await someone(whole, 2)).get("/admin/now")).code == 403


async def test_the_overview_draws_the_logins(whole):
    admin = await an_admin(whole)
    now = whole.server.context.now()
    await lines(
        whole,
        login("old", at=now - 30 * 3600, result="blocked", expires_at=now * 2),
        login("older", at=now - 80 * 3600, expires_at=now * 2),
    )
    day, three = await page_of(admin, "/admin"), await page_of(admin, "/admin?hours=72")
    assert "1 logged in and 0 refused in all; at most 1 in one hour." in day
    assert "1 logged in and 1 refused in all" in three
    assert "refused: blocked" in three
    assert "refused: blocked" not in day
    assert (day.count("<g>"), three.count("<g>")) == (24, 72)
    assert "style=" not in day
    assert day == (await page_of(admin, "/admin?hours=1000000")).replace("?hours=1000000", "")


async def test_how_things_stand_with_wechat(whole, expect_log):
    expect_log("The AppSecret is wrong")
    admin = await an_admin(whole)
    page = await page_of(admin, "/admin")
    assert "none: all calls succeed" in page
    assert "none since the start" not in page, "the scan that logged the admin in"
    assert "3 of 3" in page
    assert re.search(r"\d+ of 50000", page)
    assert "/cgi-bin/qrcode/create" in page
    whole.server.codes._client._note("/cgi-bin/user/info", PlatformError(40125))
    assert "The AppSecret is wrong: check wechat.secret" in await page_of(admin, "/admin")
    chinese = await page_of(admin, "/admin?lang=zh-CN")
    assert "AppSecret 不正确：请对照微信后台检查 wechat.secret。" in chinese


async def test_calls_are_counted_by_the_platforms_day(whole):
    admin = await an_admin(whole)
    client, path = whole.server.codes._client, "/cgi-bin/getcallbackip"
    await client.check_callback_addresses()
    assert path in await page_of(admin, "/admin")
    whole.clock.pass_(86400)
    assert path not in await page_of(admin, "/admin")
    await client.check_callback_addresses()
    assert client.calls[path] == 1


async def test_sites_and_a_test_of_their_webhook(tmp_path):
    answers = iter([204, 500])
    async with receiving(lambda message: next(answers)) as receiver:
        shop = {
            "id": "shop",
            "name": "小店",
            "secret": "s" * 32,
            "redirect_uris": ["https://shop.example/cb"],
        }
        shop |= {
            "webhook_url": f"{receiver.url}?key=secret",
            "webhook_secret": SECRET,
            "webhook_events": ["user.deleted"],
        }
        quiet = {
            "id": "quiet",
            "name": "Quiet",
            "public": True,
            "redirect_uris": ["https://quiet.example/cb"],
        }
        async with running(tmp_path, sites=[shop, quiet], server=LOOPBACK) as whole:
            admin = await an_admin(whole)
            page = await page_of(admin, "/admin/sites")
            for told in ("小店", "Quiet", "https://shop.example/cb", "public: has no secret", "user.deleted"):
                assert told in page, told
            assert "quiet/test" not in page
            assert "key=" not in page
            for words in ("delivered", "waiting"):
                answer = await press(admin, "/admin/sites/shop/test")
                assert (answer.code, answer.headers["Location"]) == (303, "/admin/sites#shop")
                assert words in await page_of(admin, "/admin/sites")
            assert [message.event for message in receiver.received] == ["test", "test"]
            assert ">500<" in await page_of(admin, "/admin/sites")
            assert [line.action for line in await audit(whole)] == ["test_webhook"] * 2
            assert (await press(admin, "/admin/sites/quiet/test")).code == 400
            assert (await press(admin, "/admin/sites/nobody/test")).code == 404


async def test_settings_without_secrets(tmp_path):
    hidden = "hidden" + "x" * 40
    sites = [{"id": "shop", "name": "Shop", "secret": hidden, "redirect_uris": []}]
    app = {"issuer": "https://app.example", "key": hidden}
    async with running(tmp_path, sites=sites, app=app, server={"secret_key": hidden}) as whole:
        admin = await an_admin(whole)
        page = await page_of(admin, "/admin/settings")
        settings = whole.server.settings
        assert "hidden" not in page.replace("set (hidden)", "")
        for secret in (settings.wechat.secret, settings.wechat.token, settings.wechat.encoding_aes_key):
            assert secret.get_secret_value() not in page
        assert page.count("set (hidden)") >= 5
        for told in ("not set", "https://app.example", settings.wechat.appid, "login_days", "2592000"):
            assert told in page, told
        for warning in settings.warnings:
            assert warning.split(":")[0] in page


async def test_a_lone_program_has_no_way_in(whole):
    """A session token as a header is a browser's here only if it was made by one."""
    admin = await an_admin(whole)
    token = admin.cookies["saoma-session"]
    assert (await whole.browser().get("/admin", Authorization=f"Bearer {token}x")).code == 303


async def test_two_who_take_it_from_each_other(whole):
    """One of them stays."""
    admins = [await an_admin(whole, number) for number in (0, 1)]
    ids = [(await who(whole, number)).id for number in (1, 0)]
    answers = await asyncio.gather(
        *(
            press(admin, f"/admin/people/{other}/unmake_admin")
            for admin, other in zip(admins, ids, strict=True)
        )
    )
    assert sorted(answer.code for answer in answers) == [303, 403]
    left = [(await who(whole, number)).admin for number in (0, 1)]
    assert sorted(left) == [False, True]
    assert len(await audit(whole)) == 1
