"""Requests that another site makes a browser send: Origin and XSRF token on every change by cookie."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.harness import document, running

SITES = [{"id": "shop", "name": "Shop", "secret": "s" * 32}]


async def logged_in(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    return browser


async def exchange_at_hand(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, whole.person())
    return browser, ticket_id


def wrong_origins(whole):
    port = whole.server.port
    return {
        "missing": "",
        "null": "null",
        "foreign": "https://evil.example",
        "subdomain": f"http://a.127.0.0.1:{port}",
        "prefix of ours": f"http://127.0.0.1:{port}.evil.example",
        "suffix of ours": f"http://evil127.0.0.1:{port}",
        "other port": f"http://127.0.0.1:{port + 1}",
        "no port": "http://127.0.0.1",
        "other scheme": f"https://127.0.0.1:{port}",
        "no scheme": f"127.0.0.1:{port}",
        "user part": f"http://127.0.0.1:{port}@evil.example",
        "with a path": f"http://127.0.0.1:{port}/",
        "two": f"http://127.0.0.1:{port}, https://evil.example",
        "blank in front": f"http:// 127.0.0.1:{port}",
        "empty host": "http://",
    }


async def test_every_post_by_cookie_takes_our_origin_and_the_token(tmp_path):
    async with running(tmp_path) as whole:
        browser = await logged_in(whole)
        token = browser.cookies["saoma-session"]
        waiting = await browser.open_login("/login?next=/other")
        await whole.scan(waiting, whole.person())
        before = await whole.stored(waiting)
        paths = {
            "/logout": "",
            "/profile": urlencode({"name": "Mallory"}),
            f"/api/v1/tickets/{waiting}/exchange": "",
            f"/api/v1/tickets/{waiting}/abandon": "",
            "/api/v1/sessions/current/revoke": "",
        }
        passed = []
        for path, body in paths.items():
            for name, origin in wrong_origins(whole).items():
                response = await browser.post(path, body, Origin=origin)
                if response.code != 403:
                    passed.append((path, name))
            for name, given in {
                "missing": "",
                "wrong": "x",
                "of somebody else": whole.browser().xsrf or "2|00000000|" + "0" * 32 + "|1700000000",
                "not ASCII": "%C3%BC",
                "version 1": "0" * 32,
            }.items():
                response = await browser.post(path, body, **{"X-XSRFToken": given})
                if response.code != 403:
                    passed.append((path, f"token {name}"))
            cookieless = {**browser.cookies}
            cookieless.pop("saoma-xsrf")
            kept, browser.cookies = browser.cookies, cookieless
            if (await browser.post(path, body)).code != 403:
                passed.append((path, "no cookie to compare with"))
            browser.cookies = kept
        assert passed == []
        assert await whole.stored(waiting) == before
        assert (await browser.get("/api/v1/me")).code == 200
        assert browser.cookies["saoma-session"] == token
        # And all of them work where nothing is wrong.
        assert (await browser.post("/profile", urlencode({"name": "Alice"}))).code == 303
        assert (await browser.post(f"/api/v1/tickets/{waiting}/exchange")).code == 200
        assert (await browser.post("/logout")).code == 303


async def test_a_token_in_the_form_is_as_good_as_in_the_header(tmp_path):
    async with running(tmp_path) as whole:
        browser = await logged_in(whole)
        form = urlencode({"name": "Alice", "_xsrf": browser.xsrf})
        assert (await browser.post("/profile", form, **{"X-XSRFToken": ""})).code == 303
        assert document(await browser.get("/api/v1/me"))["name"] == "Alice"
        # But never in the address, which stands in logs.
        in_query = await browser.post(
            f"/profile?_xsrf={browser.xsrf}", "name=Mallory", **{"X-XSRFToken": "", "Origin": "null"}
        )
        assert in_query.code == 403


async def test_a_refusal_says_what_it_is(tmp_path):
    async with running(tmp_path) as whole:
        browser, ticket_id = await exchange_at_hand(whole)
        refused = await browser.post(f"/api/v1/tickets/{ticket_id}/exchange", Origin="https://evil.example")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert document(refused)["code"] == "forbidden"
        page = await browser.post("/logout", Origin="https://evil.example")
        assert page.code == 403
        assert page.headers["Content-Type"].startswith("text/html")


async def test_what_brings_its_own_credentials_needs_neither(tmp_path):
    bare = {"Origin": "", "X-XSRFToken": ""}
    async with running(tmp_path) as whole:
        browser, ticket_id = await exchange_at_hand(whole)
        secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
        program = whole.browser()
        authorized = {"Authorization": f"Ticket {secret}", **bare}
        collected = await program.post(f"/api/v1/tickets/{ticket_id}/exchange", **authorized)
        assert collected.code == 200
        bearer = {"Authorization": f"Bearer {program.cookies['saoma-session']}", **bare}
        program.cookies.clear()
        assert (await program.post("/api/v1/sessions/current/revoke", **bearer)).code == 204
        second = await browser.open_login()
        authorized["Authorization"] = f"Ticket {browser.cookies[f'saoma-ticket-{second}']}"
        assert (await program.post(f"/api/v1/tickets/{second}/abandon", **authorized)).code == 200


@pytest.mark.parametrize(
    "scheme", ["Basic YTpi", "Digest username=a", "Negotiate YTpi", "Junk", "", "Bearer", "Ticket"]
)
async def test_an_authorization_that_browsers_send_by_themselves_lifts_nothing(tmp_path, scheme):
    """A browser repeats Basic credentials of its own accord, on other sites' orders too."""
    async with running(tmp_path) as whole:
        browser = await logged_in(whole)
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, whole.person())
        foreign = {"Origin": "https://evil.example", "X-XSRFToken": "", "Authorization": scheme or " "}
        for path in ("/logout", f"/api/v1/tickets/{ticket_id}/exchange", "/api/v1/sessions/current/revoke"):
            assert (await browser.post(path, **foreign)).code == 403, path
        assert (await browser.get("/api/v1/me")).code == 200


async def test_a_cookie_adds_nothing_to_an_authorization(tmp_path):
    """With its own credentials a request stands on these alone, or a cookie would act without its checks."""
    async with running(tmp_path) as whole:
        browser = await logged_in(whole)
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, whole.person())
        bare = {"Origin": "", "X-XSRFToken": ""}
        for scheme in ("Bearer wrong", "Ticket wrong"):
            for path in (
                "/logout",
                f"/api/v1/tickets/{ticket_id}/exchange",
                f"/api/v1/tickets/{ticket_id}/abandon",
                "/api/v1/sessions/current/revoke",
            ):
                await browser.post(path, Authorization=scheme, **bare)
        assert (await whole.ticket(ticket_id)).state == "CONFIRMED"

        async def sessions(transaction):
            user = await transaction.users.by_identity("wechat", whole.person())
            return await transaction.sessions.of_user(user.id, now=whole.clock())

        assert len(await whole.storage.transact(sessions)) == 1


async def test_a_new_ticket_and_the_callback_need_no_token(tmp_path):
    async with running(tmp_path, sites=SITES) as whole:
        page = whole.browser()
        for origin in ("", "null", "https://evil.example"):
            response = await page.post("/api/v1/tickets", Origin=origin, **{"X-XSRFToken": ""})
            assert response.code == 201
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_no_answer_invites_other_sites(tmp_path):
    async with running(tmp_path) as whole:
        browser = await logged_in(whole)
        for path in ("/", "/login", "/api/v1/me", "/healthz"):
            response = await browser.get(path, Origin="https://evil.example")
            assert not [name for name in response.headers if name.startswith("Access-Control")]
        preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        response = await browser.request("OPTIONS", "/api/v1/sessions/current/revoke", headers=preflight)
        assert response.code == 405
