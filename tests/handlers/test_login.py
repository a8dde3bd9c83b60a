"""One login from the page to the session, over real sockets."""

from __future__ import annotations

import json

from tests.harness import document, running


async def test_a_new_follower_is_logged_in(tmp_path):
    async with running(tmp_path) as whole:
        browser, person = whole.browser(), whole.person()
        ticket = await browser.open_login("/login?next=/deep%3Fa%3Db")
        async with browser.socket(ticket) as socket:
            assert json.loads(await socket.read_message())["state"] == "WAITING"
            assert whole.server.broker.waiting == 1
            outcome = await whole.emulator.phone.scan(person, await browser.code_of(ticket, whole.storage))
            assert outcome.accepted
            assert len(outcome.attempts) == 1
            assert "127.0.0.1" in outcome.reply_text
            assert "Chrome" in outcome.reply_text
            told = json.loads(await socket.read_message())
            assert told["state"] == "CONFIRMED"
            assert told["user"]["name"]
            collected = await browser.exchange(ticket)
            assert collected.code == 200, collected.body
            assert document(collected)["next"] == "/deep?a=b"
            assert "token" not in document(collected)
            assert json.loads(await socket.read_message())["state"] == "CONSUMED"
            assert await socket.read_message() is None
        me = document(await browser.get("/api/v1/me"))
        assert me["identities"] == [{"provider": "wechat", "subject": person, "following": True}]
        assert whole.server.broker.waiting == whole.server.broker.tickets == 0
