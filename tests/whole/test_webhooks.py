"""The team's backend hears of everything: real servers, real receivers, the package of Standard Webhooks."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from emulator import Emulator
from flows import people
from tests.handlers.relying_party import SITE, RelyingParty
from tests.handlers.test_app import APP, bearer
from tests.harness import Browser, Child, document, new_account, running
from tests.ports import free_port
from tests.receiver import LOOPBACK, SECRET, Message, Receiver, receiving
from tests.whole.test_killed import Site
from tests.whole.test_nodes import cluster

FOLLOWER, CHEN = 1, 2  # of the emulator's people; Chen's profile is told
LOGINS = ["user.created", "login.succeeded"]  # without what the platform tells later


def shop(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {**SITE, "webhook_url": receiver.url, "webhook_secret": SECRET, **more}


def of_person(receiver: Receiver, user_id: str) -> list[Message]:
    return [
        message
        for message in receiver.received
        if user_id in (message.data.get("user_id"), message.data.get("user", {}).get("id"))
    ]


async def test_every_event_of_a_persons_time_with_us_arrives_signed_and_in_order(tmp_path):
    async with (
        receiving() as receiver,
        running(tmp_path, sites=[shop(receiver)], server=LOOPBACK, app=APP) as whole,
    ):
        person, browser, phone = whole.person(FOLLOWER), whole.browser(), whole.emulator.phone
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, person)
        await whole.server.profiles.idle()
        user = document(await browser.exchange(ticket_id))["user"]["id"]
        await browser.post("/profile", "name=Chosen", **{"Content-Type": "application/x-www-form-urlencoded"})
        assert (await phone.unfollow(person)).accepted
        whole.clock.pass_(2)
        assert (await phone.follow(person)).accepted
        await whole.log_in(browser, person)
        await people.set_blocked(whole.server.context, user, True)
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, person)
        await people.set_blocked(whole.server.context, user, False)
        whole.clock.pass_(2)
        await whole.log_in(browser, person)
        assert (await browser.request("DELETE", "/api/v1/me")).code == 204
        expected = [
            "user.created",
            "user.updated",  # the unionid
            "login.succeeded",
            "user.updated",  # a name
            "user.unfollowed",
            "session.ended",
            "user.followed",
            "login.succeeded",
            "user.updated",  # blocked
            "session.ended",
            "login.refused",
            "user.updated",  # welcome again
            "login.succeeded",
            "session.ended",
            "user.deleted",
        ]
        await receiver.has(len(expected))
        assert receiver.events == expected
        for message in receiver.received:
            assert message.verified() == message.document
        assert len({message.id for message in receiver.received}) == len(expected)
        assert of_person(receiver, user) == receiver.received


async def test_the_apps_people_too(tmp_path):
    async with (
        receiving() as receiver,
        running(tmp_path, sites=[shop(receiver)], server=LOOPBACK, app=APP) as whole,
    ):
        browser, phone = whole.browser(), whole.browser()
        ticket_id = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket_id}"
        seen = document(await phone.post(f"{path}/scan", **bearer("u1", name="Wei")))
        await phone.post(f"{path}/confirm", {"handle": seen["handle"]}, **bearer("u1"))
        user = document(await browser.exchange(ticket_id))["user"]["id"]
        await people.set_blocked(whole.server.context, user, True)
        other = await browser.open_login("/login?method=app")
        assert (await phone.post(f"/api/v1/tickets/{other}/scan", **bearer("u1"))).code == 403
        expected = ["user.created", "login.succeeded", "user.updated", "session.ended", "login.refused"]
        await receiver.has(len(expected))
        assert receiver.events == expected
        assert [message.verified()["data"].get("method") for message in receiver.received] == [
            None,
            "app",
            None,
            None,
            "app",
        ]


async def test_a_profile_that_comes_later_is_an_update(tmp_path):
    async with receiving() as receiver, running(tmp_path, sites=[shop(receiver)], server=LOOPBACK) as whole:
        await whole.log_in(whole.browser(), whole.person(CHEN))
        await receiver.has(3)
        assert Counter(receiver.events) == Counter(["user.created", "login.succeeded", "user.updated"])
        (update,) = (message for message in receiver.received if message.event == "user.updated")
        assert "name" in update.data["changed"]
        picture = update.data["user"]["picture"]
        assert picture.startswith(f"{whole.base_url}/pictures/")


async def test_a_site_hears_of_a_logout_by_the_back_channel(tmp_path):
    async with receiving() as receiver:
        site = {**SITE, "backchannel_logout_uri": f"{receiver.url}/logout"}
        async with running(tmp_path, sites=[site], server=LOOPBACK) as whole:
            browser, party = whole.browser(), RelyingParty(whole, site)
            brought = await party.log_in(browser, whole.person())
            id_token = await party.verified((await party.tokens(brought["code"]))["id_token"])
            await browser.post("/logout")
            (message,) = await receiver.has(1)
            keys = KeySet.import_key_set(document(await browser.get("/oauth2/jwks")))
            token = jwt.decode(message.form["logout_token"], keys, algorithms=["RS256"])
    assert message.path == "/hook/logout"
    assert token.header["typ"] == "logout+jwt"
    assert (token.claims["sub"], token.claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert token.claims["aud"] == site["id"]
    assert "http://schemas.openid.net/event/backchannel-logout" in token.claims["events"]
    assert "nonce" not in token.claims


async def test_a_server_that_stops_loses_nothing(tmp_path):
    receiver = Receiver(free_port())
    emulator = Emulator.start(new_account())
    sites = [shop(receiver, webhook_events=LOGINS)]
    try:
        async with running(tmp_path, emulator=emulator, sites=sites, server=LOOPBACK) as whole:
            await whole.log_in(whole.browser(), whole.person(FOLLOWER))
        receiver.start()
        async with running(tmp_path, emulator=emulator, sites=sites, server=LOOPBACK) as whole:
            whole.clock.pass_(10)
            whole.server._outbox.wake("webhook:shop")
            await receiver.has(2)
        assert receiver.events == LOGINS
    finally:
        await receiver.stop()
        await emulator.stop()


# --- Killed.


async def logged_in(site: Site) -> Browser:
    browser = site.browser()
    ticket_id = await browser.open_login()
    assert (await site.scan(ticket_id, FOLLOWER)).accepted
    assert (await browser.exchange(ticket_id)).code == 200
    return browser


def let_leases_end(folder: Path) -> int:
    """As if half a minute had passed; returns how many of the notices have never been answered."""
    with closing(sqlite3.connect(folder / "data" / "saoma.db")) as database, database:
        (unanswered,) = database.execute("SELECT count(*) FROM outbox WHERE attempts = 0").fetchone()
        database.execute("UPDATE outbox SET due_at = due_at - 60")
    return unanswered


async def test_what_was_committed_before_a_kill_is_told_after_it(tmp_path, emulator):
    receiver = Receiver(free_port())
    sites = [shop(receiver, webhook_events=LOGINS)]
    site = Site(tmp_path, emulator, sites=sites, server=LOOPBACK)
    async with site.child() as child:
        await child.says("serving")
        await logged_in(site)
        await child.end(signal.SIGKILL)
        let_leases_end(tmp_path)  # of one that was in hand at the kill
        receiver.start()
        await child.start()
        await receiver.has(2, seconds=45)
        assert receiver.events == LOGINS
        assert [message.verified()["type"] for message in receiver.received] == receiver.events
        await child.end(signal.SIGTERM)
    await receiver.stop()


async def test_what_was_on_its_way_at_a_kill_goes_again_under_its_name(tmp_path, emulator):
    killed = asyncio.Event()

    async def answer(message):
        if not killed.is_set():
            await killed.wait()
        return 204

    async with receiving(answer) as receiver:
        sites = [shop(receiver, webhook_events=LOGINS)]
        site = Site(tmp_path, emulator, sites=sites, server=LOOPBACK)
        async with site.child() as child:
            await child.says("serving")
            await logged_in(site)
            await receiver.has(1)
            await child.end(signal.SIGKILL)
            killed.set()
            assert let_leases_end(tmp_path) == 2
            await child.start()
            await receiver.has(3, seconds=20)
            await child.end(signal.SIGTERM)
        assert receiver.events == ["user.created", *LOGINS]
        first, second, _ = receiver.received
        assert first.id == second.id


async def test_the_command_lists_and_tests_while_a_server_runs_and_while_none_does(tmp_path, emulator):
    async with receiving() as receiver:
        sites = [shop(receiver, webhook_events=LOGINS)]
        site = Site(tmp_path, emulator, sites=sites, server=LOOPBACK)

        async def said(*more: str) -> tuple[int, str]:
            async with Child("webhooks", "--settings", str(site.settings), *more) as command:
                code = await command.ended()
            assert "Traceback" not in command.output
            return code, command.output

        async with site.child() as child:
            await child.says("serving")
            await logged_in(site)
            await receiver.has(2)
            assert (await said("--test", "nobody"))[0] == 1
            code, words = await said("--test", "shop")
            assert (code, words) == (0, f"delivered: 204 ({receiver.received[-1].id})\n")
            await child.end(signal.SIGKILL)
        code, listed = await said("--site", "shop", "--limit", "2")
        assert code == 0
        assert [line.split()[2] for line in listed.splitlines()[1:]] == ["test", "login.succeeded"]
        assert receiver.events[2:] == ["test"]


# --- More than one node.


async def test_two_nodes_never_tell_the_same_twice(tmp_path, redis_url, mongodb_url):
    async with receiving() as receiver:
        shared = {"sites": [shop(receiver)], "server": {**LOOPBACK, "secret_key": secrets.token_hex(32)}}
        async with cluster(tmp_path, 2, redis_url, mongodb_url, **shared) as nodes:

            async def log_in(number: int) -> None:
                node, path = nodes[number % 2], f"/login?method=app&next=/{number}"
                browser, phone = node.browser(), nodes[(number + 1) % 2].browser()
                ticket = f"/api/v1/tickets/{await browser.open_login(path)}"
                seen = document(await phone.post(f"{ticket}/scan", **bearer(f"u{number}")))
                await phone.post(f"{ticket}/confirm", {"handle": seen["handle"]}, **bearer(f"u{number}"))
                assert (await browser.post(f"{ticket}/exchange")).code == 200

            await asyncio.gather(*map(log_in, range(40)))
            await receiver.has(80)
            await asyncio.sleep(0.3)  # for what should not come
        assert Counter(Counter(message.id for message in receiver.received).values()) == {1: 80}
        by_person: dict[str, list[str]] = {}
        for message in receiver.received:
            by_person.setdefault(message.data["user"]["id"], []).append(message.event)
        assert list(by_person.values()) == [["user.created", "login.succeeded"]] * 40
