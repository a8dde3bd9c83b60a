"""The team's own app logs the browser in: scan, confirm, cancel, over real sockets."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import quote

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.harness import document, running
from tickets import Scanner, State

SECRET = "a secret that the app's backend shares with us"
APP = {"issuer": "https://app.example.com", "key": SECRET, "link": "myteam://login?code={url}"}


def bearer(subject: str, **claims) -> dict[str, str]:
    now = int(time.time())
    told = {"iss": APP["issuer"], "aud": "saoma", "sub": subject, "iat": now, "exp": now + 60, **claims}
    token = jwt.encode({"alg": "HS256"}, told, OctKey.import_key(SECRET))
    return {"Authorization": f"Bearer {token}"}


async def test_scan_confirm_collect(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app&next=/deep")
        path = f"/api/v1/tickets/{ticket}"
        assert await browser.code_of(ticket, whole.storage) == f"{whole.base_url}/s/{ticket}"
        async with browser.socket(ticket) as socket:
            assert json.loads(await socket.read_message())["state"] == "WAITING"
            scanned = await phone.post(f"{path}/scan", **bearer("u1", name="小王"))
            assert scanned.code == 200, scanned.body
            seen = document(scanned)
            assert (seen["state"], seen["site"], seen["browser"]) == ("SCANNED", "saoma", "Chrome")
            assert seen["address"] == "127.0.0.1"
            told = json.loads(await socket.read_message())
            assert (told["state"], told["user"]["name"]) == ("SCANNED", "小**")
            again = await phone.post(f"{path}/scan", **bearer("u1"))
            assert document(again)["handle"] == seen["handle"]

            assert (await phone.post(f"{path}/scan", **bearer("u2"))).code == 409
            handle = {"handle": seen["handle"]}
            assert (await phone.post(f"{path}/confirm", handle, **bearer("u2"))).code == 409
            wrong = {"handle": "x" * 64}
            assert (await phone.post(f"{path}/confirm", wrong, **bearer("u1"))).code == 403
            assert (await phone.post(f"{path}/confirm", **bearer("u1"))).code == 400
            assert (await browser.exchange(ticket)).code == 409

            sure = bearer("u1")
            for _ in range(2):
                confirmed = await phone.post(f"{path}/confirm", handle, **sure)
                assert (confirmed.code, document(confirmed)) == (200, {"state": "CONFIRMED"})
            assert json.loads(await socket.read_message())["state"] == "CONFIRMED"
        collected = await browser.exchange(ticket)
        assert collected.code == 200, collected.body
        me = document(await browser.get("/api/v1/me"))
        assert me["identities"] == [{"provider": "app", "subject": "u1", "following": True}]

        # One token confirms once: it cannot be carried to another ticket.
        other = await whole.browser().open_login("/login?method=app")
        seen = document(await phone.post(f"/api/v1/tickets/{other}/scan", **bearer("u1")))
        handle = {"handle": seen["handle"]}
        refused = await phone.post(f"/api/v1/tickets/{other}/confirm", handle, **sure)
        assert refused.code == 401
        cancelled = await phone.post(f"/api/v1/tickets/{other}/cancel", handle, **bearer("u1"))
        assert document(cancelled) == {"state": "CANCELLED"}
        assert (await phone.post(f"/api/v1/tickets/{other}/confirm", handle, **bearer("u1"))).code == 409


async def test_only_the_apps_own_tokens_and_tickets(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}"
        now = int(time.time())
        for faulty in (
            {},
            {"Authorization": "Bearer nonsense"},
            bearer("u1", exp=now - 60),
            bearer("u1", exp=now + 3600),
            bearer("u1", iat=now + 600, exp=now + 660),
            bearer("u1", aud="other"),
            bearer("u1", iss="other"),
            bearer("", name="nobody"),
        ):
            refused = await phone.post(f"{path}/scan", **faulty)
            assert refused.code == 401, faulty
            assert document(refused)["code"] == "unauthenticated"
        assert await browser.state(ticket) == "WAITING"
        foreign = await browser.open_login("/login?method=wechat")
        refused = await phone.post(f"/api/v1/tickets/{foreign}/scan", **bearer("u1"))
        assert (refused.code, document(refused)["state"]) == (404, "INVALID")


# --- What the app is told, and by whom it is believed.


async def scanned(whole, phone, subject: str = "u1", **claims) -> tuple[str, str]:
    """A fresh ticket that the person has scanned: its path, and the handle."""
    ticket = await whole.browser().open_login("/login?method=app")
    path = f"/api/v1/tickets/{ticket}"
    answer = await phone.post(f"{path}/scan", **bearer(subject, **claims))
    assert answer.code == 200, answer.body
    return path, document(answer)["handle"]


async def test_what_scan_answers(tmp_path):
    async with running(tmp_path, app=APP, site={"name": "The 店"}) as whole:
        before = int(whole.clock())
        browser = whole.browser(**{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"})
        ticket = await browser.open_login("/login?method=app")
        answer = await whole.browser().post(f"/api/v1/tickets/{ticket}/scan", **bearer("u1"))
        seen = document(answer)
        assert seen.keys() == {"state", "site", "browser", "system", "address", "created", "handle"}
        assert (seen["state"], seen["site"], seen["browser"], seen["system"], seen["address"]) == (
            *("SCANNED", "The 店", "Firefox", "Linux", "127.0.0.1"),
        )
        assert before <= seen["created"] <= before + 5
        assert isinstance(seen["created"], int)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers


async def test_the_body_names_nobody(tmp_path):
    """The person comes from the token, never from the body."""
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}"
        other = {"sub": "u2", "subject": "u2", "user": {"id": "u2"}, "user_id": "u2", "scanner": "u2"}
        seen = document(await phone.post(f"{path}/scan", other, **bearer("u1")))
        assert (await whole.ticket(ticket)).scanner == Scanner("app", "u1")
        confirmed = await phone.post(f"{path}/confirm", {**other, "handle": seen["handle"]}, **bearer("u1"))
        assert confirmed.code == 200
        assert (await browser.exchange(ticket)).code == 200
        me = document(await browser.get("/api/v1/me"))
        assert [identity["subject"] for identity in me["identities"]] == ["u1"]


async def test_repeats_are_harmless_after_the_login_was_collected(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}"
        handle = {"handle": document(await phone.post(f"{path}/scan", **bearer("u1")))["handle"]}
        for _ in range(2):
            assert (await phone.post(f"{path}/confirm", handle, **bearer("u1"))).code == 200
        assert (await browser.exchange(ticket)).code == 200
        again = await phone.post(f"{path}/confirm", handle, **bearer("u1"))
        assert (again.code, document(again)) == (200, {"state": "CONSUMED"})
        assert document(await phone.post(f"{path}/scan", **bearer("u1")))["state"] == "CONSUMED"
        assert (await phone.post(f"{path}/cancel", handle, **bearer("u1"))).code == 409
        assert (await phone.post(f"{path}/confirm", handle, **bearer("u2"))).code == 409


async def test_confirm_and_cancel_take_a_scan_and_its_handle(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        phone = whole.browser()
        waiting = f"/api/v1/tickets/{await whole.browser().open_login('/login?method=app')}"
        (one, first), (two, second) = [await scanned(whole, phone) for _ in range(2)]
        for act in ("confirm", "cancel"):
            for path, handle, subject, status, code in (
                (waiting, first, "u1", 409, "transition_refused"),
                (one, first, "u2", 409, "transition_refused"),
                (one, second, "u1", 403, "handle_wrong"),
                (two, first, "u1", 403, "handle_wrong"),
                (one, "", "u1", 403, "handle_wrong"),
            ):
                answer = await phone.post(f"{path}/{act}", {"handle": handle}, **bearer(subject))
                assert (answer.code, document(answer)["code"]) == (status, code), (act, status)
        assert document(await phone.post(f"{one}/cancel", {"handle": first}, **bearer("u1"))) == {
            "state": "CANCELLED"
        }
        assert (await phone.post(f"{one}/cancel", {"handle": first}, **bearer("u1"))).code == 200
        assert (await phone.post(f"{one}/confirm", {"handle": first}, **bearer("u1"))).code == 409


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", "5", '"x"', '{"handle": null}', '{"handle": 5}', '{"handle": ["x"]}'),
        *('{"handle": {"$gt": ""}}', '{"handle": "' + "x" * 257 + '"}', '{"handle": "\\ud800"}', "handle=x"),
        *("[" * 5000, b"\xff\xfe", b"\x00", '{"Handle": "x"}'),
    ],
    ids=lambda body: ascii(body)[:30],
)  # fmt: skip
async def test_bodies_that_are_no_decision(tmp_path, body):
    async with running(tmp_path, app=APP) as whole:
        phone = whole.browser()
        path, _ = await scanned(whole, phone)
        for act in ("confirm", "cancel"):
            answer = await phone.request(
                "POST", f"{path}/{act}", body=body or b"", headers={"Content-Length": "", **bearer("u1")}
            )
            assert (answer.code, document(answer)["code"]) == (400, "bad_request"), answer.body
        assert (await whole.ticket(path.rpartition("/")[2])).state is State.SCANNED


async def test_a_token_anywhere_but_in_its_header(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}/scan"
        token = bearer("u1")["Authorization"].split()[1]
        for query in (f"access_token={token}", f"token={token}", f"Authorization=Bearer%20{token}"):
            refused = await phone.post(f"{path}?{query}")
            assert refused.code == 401
            assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        for body in ({"access_token": token}, {"token": token}):
            assert (await phone.post(path, body)).code == 401
        for scheme in ("Ticket", "Basic", "JWT", "Bearer:", "Bearer Bearer"):
            assert (await phone.post(path, Authorization=f"{scheme} {token}")).code == 401
        phone.cookies["saoma-session"] = token
        assert (await phone.post(path)).code == 401
        phone.cookies.clear()
        assert await browser.state(ticket) == "WAITING"
        assert (await phone.post(path, Authorization=f"bearer  {token}")).code == 200  # any case (RFC 9110)


@pytest.mark.parametrize("act", ["scan", "confirm", "cancel"])
async def test_ids_that_are_none_of_ours(tmp_path, act):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        expired = await browser.open_login("/login?method=app")
        wechat = await browser.open_login("/login?method=wechat")
        whole.clock.pass_(301)
        fresh = await browser.open_login("/login?method=wechat")
        now = int(whole.clock())
        alive = {"iat": now, "exp": now + 60}
        for ticket in (expired, wechat, fresh, "x", "x" * 64, "-", "_"):
            answer = await phone.post(
                f"/api/v1/tickets/{ticket}/{act}", {"handle": "x"}, **bearer("u1", **alive)
            )
            assert answer.code == 404
            assert (document(answer)["state"], document(answer)["code"]) == ("INVALID", "ticket_unknown")
        for ticket in ("x" * 65, "%00", "a.b", "%F0%9F%99%82", "..%2f..", "a%2fb", "'"):
            answer = await phone.post(f"/api/v1/tickets/{ticket}/{act}", **bearer("u1", **alive))
            assert answer.code == 404
        assert (await phone.get(f"/api/v1/tickets/{fresh}/{act}", **bearer("u1", **alive))).code == 405


async def test_a_blocked_person_is_refused(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        phone = whole.browser()
        path, handle = await scanned(whole, phone)

        async def block(transaction):
            user = await transaction.users.by_identity("app", "u1")
            await transaction.users.set_blocked(user.id, True)

        await whole.storage.transact(block)
        for answer in (
            await phone.post(f"{path}/confirm", {"handle": handle}, **bearer("u1")),
            await phone.post(f"{path}/scan", **bearer("u1")),
        ):
            assert (answer.code, document(answer)["code"]) == (403, "login_refused")


@pytest.mark.parametrize("claims", [{}, {"jti": "one"}])
async def test_one_token_confirms_once(tmp_path, claims):
    async with running(tmp_path, app=APP) as whole:
        phone = whole.browser()
        (one, first), (two, second) = [await scanned(whole, phone) for _ in range(2)]
        token = bearer("u1", **claims)
        assert (await phone.post(f"{one}/confirm", {"handle": first}, **token)).code == 200
        refused = await phone.post(f"{two}/confirm", {"handle": second}, **token)
        assert (refused.code, document(refused)["code"]) == (401, "unauthenticated")
        assert (await phone.post(f"{one}/confirm", {"handle": first}, **token)).code == 200
        fresh = bearer("u1", jti="two")
        assert (await phone.post(f"{two}/confirm", {"handle": second}, **fresh)).code == 200


async def test_the_method_switched_off(whole):
    answer = await whole.browser().post("/api/v1/tickets/x/scan", **bearer("u1"))
    assert (answer.code, document(answer)["code"]) == (503, "method_unavailable")
    assert (await whole.browser().get("/login?method=app")).code == 503


async def test_the_person_as_the_token_tells_of_them(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, phone = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}"
        picture = f"{whole.base_url}/static/favicon.svg"
        told = {"name": "<b>小\u202e王</b>\r\n", "picture": picture}
        handle = document(await phone.post(f"{path}/scan", **bearer("u1", **told)))["handle"]
        await phone.post(f"{path}/confirm", {"handle": handle}, **bearer("u1"))
        assert (await browser.exchange(ticket)).code == 200
        me = document(await browser.get("/api/v1/me"))
        assert me["name"] == "<b>小王</b>"
        page = (await browser.get("/")).body.decode()
        assert "<b>" not in page
        assert "&lt;b&gt;小王&lt;/b&gt;" in page
        # Its picture is on no listed host: nobody is sent there, and it is not fetched.
        assert picture not in page + str(me)
        assert me["picture"].startswith(f"{whole.base_url}/pictures/")
        assert (await browser.get(me["picture"])).code == 404


# --- The code, and the page on a phone.

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604"
ANDROID = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0 Safari/537.36"


@pytest.mark.parametrize("link", [APP["link"], "myteam://t/{id}", ""])
async def test_what_the_code_leads_to_is_inert_and_tells_nothing(tmp_path, link):
    async with running(tmp_path, app={**APP, "link": link}) as whole:
        browser, stranger = whole.browser(), whole.browser()
        ticket = await browser.open_login("/login?method=app&next=/deep")
        pages = {}
        used = whole.transactions()
        for known in (ticket, "never-issued", "x" * 64):
            answer = await stranger.get(f"/s/{known}")
            assert answer.code == 200
            assert "Set-Cookie" not in answer.headers
            assert answer.headers["Referrer-Policy"] == "same-origin"
            pages[known] = answer.body.decode().replace(known, "ID")
        assert len(set(pages.values())) == 1  # of whatever ticket, or none
        assert used == []
        page = pages[ticket]
        url = f"{whole.base_url}/s/{ticket}"
        wanted = link.replace("{url}", quote(url, safe="")).replace("{id}", ticket).replace(ticket, "ID")
        assert (f'href="{wanted}"' in page) is bool(link)
        assert "deep" not in page
        assert "127.0.0.1:" not in page.replace(whole.base_url, "")
        assert (await stranger.post(f"/s/{ticket}")).code == 405  # there is nothing to do
        assert await browser.state(ticket) == "WAITING"


@pytest.mark.parametrize(
    ("agent", "link", "shown"),
    [
        (IPHONE, True, True),
        (ANDROID, True, True),
        (WINDOWS, True, False),
        ("", True, False),
        (IPHONE, False, False),
    ],
    ids=["iPhone", "Android", "Windows", "none", "no link set"],
)
async def test_the_link_to_the_app_on_a_phone(tmp_path, agent, link, shown):
    app = APP if link else {**APP, "link": ""}
    async with running(tmp_path, app=app) as whole:
        browser = whole.browser(**{"User-Agent": agent})
        page = (await browser.get("/login?method=app")).body.decode()
        assert ('id="app-link"' in page) is shown
        ticket = re.search(r'data-ticket="([^"]+)"', page)[1]
        if shown:
            url = quote(f"{whole.base_url}/s/{ticket}", safe="")
            assert f'href="myteam://login?code={url}"' in page
        assert 'id="app-link"' not in (await browser.get("/login?method=wechat")).body.decode()


async def test_a_tab_for_each_method_with_a_ticket_of_its_own(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser = whole.browser()
        tickets: dict[str, set[str]] = {}
        for method in ("wechat", "app"):
            for _ in range(2):  # a reload shows the same
                page = (await browser.get(f"/login?method={method}&next=/a%26b")).body.decode()
                tickets.setdefault(method, set()).add(re.search(r'data-ticket="([^"]+)"', page)[1])
                for other in ("wechat", "app"):
                    assert f'href="/login?method={other}&amp;next=%2Fa%26b"' in page
                current = re.search(r'<a href="/login\?method=(\w+)[^>]*aria-current="page"', page)
                assert current[1] == method
        assert [len(found) for found in tickets.values()] == [1, 1]
        assert tickets["wechat"] != tickets["app"]
        for method, (ticket,) in tickets.items():
            assert (await whole.ticket(ticket)).method == method


async def test_no_tabs_for_one_method(tmp_path, whole):
    assert 'class="tabs"' not in (await whole.browser().get("/login")).body.decode()
    nothing = {"appid": "", "secret": "", "token": "", "encoding_aes_key": ""}
    async with running(tmp_path / "app", app=APP, wechat=nothing) as other:
        page = (await other.browser().get("/login")).body.decode()
        assert 'class="tabs"' not in page
        assert 'data-method="app"' in page
