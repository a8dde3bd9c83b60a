"""The team's own app logs the browser in: scan, confirm, cancel, over real sockets."""

from __future__ import annotations

import json
import time

from joserfc import jwt
from joserfc.jwk import OctKey

from tests.harness import document, running

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
            assert (told["state"], told["user"]["name"]) == ("SCANNED", "小王")
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
