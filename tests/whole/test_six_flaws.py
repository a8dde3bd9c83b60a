"""The six flaws that studies have found in logins by QR code, each tried against a running server.

What an attacker has here is what the studies give them: the code on the screen, the addresses, a phone and an
account of their own, a victim who scans what they are shown, other browsers; never the ticket's secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from tornado.httpclient import HTTPClientError

from emulator.phone import scan_fields
from tests.handlers.test_app import APP, SECRET, bearer
from tests.harness import Browser, Whole, document, running
from tickets import State

SHOP = {"id": "shop", "name": "Shop", "secret": "s" * 40}
ENOUGH = 400  # tickets for the statistics


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    async with running(tmp_path, app=APP, sites=[SHOP], limits={"enabled": False}) as whole:
        yield whole


async def open_app_login(browser: Browser) -> str:
    return await browser.open_login("/login?method=app")


async def call(whole: Whole, ticket: str, act: str, handle: str = "", **token: str) -> Any:
    """What the app's call is answered."""
    return await whole.browser().post(f"/api/v1/tickets/{ticket}/{act}", {"handle": handle}, **token)


async def scanned(whole: Whole, ticket: str, subject: str = "victim") -> str:
    """The handle of the person's scan."""
    return document(await call(whole, ticket, "scan", **bearer(subject, jti=str(time.time_ns()))))["handle"]


async def confirmed(whole: Whole, ticket: str, subject: str = "victim") -> None:
    handle = await scanned(whole, ticket, subject)
    answer = await call(whole, ticket, "confirm", handle, **bearer(subject, jti=str(time.time_ns())))
    assert answer.code == 200, answer.body


# 1. Unbound session: whoever saw the code gets the login.


async def test_flaw_1_unbound_session(whole):
    """The code, the id and the socket's address are worth nothing without the secret of the one browser."""
    owner, thief, phone = whole.browser(), whole.browser(), whole.browser()
    ticket = await open_app_login(owner)
    await open_app_login(thief)  # cookies and XSRF token of their own
    theirs = next(value for name, value in thief.cookies.items() if name.startswith("saoma-ticket-"))
    assert (await phone.get(f"/s/{ticket}")).code == 200  # what the code leads to
    await confirmed(whole, ticket)
    for attempt in ({}, {"Authorization": f"Ticket {theirs}"}, {"Authorization": f"Ticket {ticket}"}):
        for path in ("", "?wait=1&state=WAITING", "/qr.svg", "/qr.png"):
            answer = await thief.get(f"/api/v1/tickets/{ticket}{path}", **attempt)
            assert (answer.code, document(answer)["state"]) == (404, "INVALID"), (path, attempt)
        for act in ("exchange", "abandon"):
            answer = await thief.post(f"/api/v1/tickets/{ticket}/{act}", **attempt)
            assert (answer.code, document(answer)["state"]) == (404, "INVALID"), (act, attempt)
        async with thief.socket(ticket, **attempt) as socket:
            assert json.loads(await socket.read_message()).keys() & {"state", "user"} == {"state", "user"}
            assert await socket.read_message() is None, "closed after INVALID"
    form = {"_xsrf": thief.xsrf, "ticket": ticket, "method": "app", "next": ""}
    by_hand = await thief.post("/login", urlencode(form), **{"Content-Type": FORM})
    assert (by_hand.code, "saoma-session" in thief.cookies) == (404, False)
    # The phone that confirmed is logged in to nothing either: its answers carry no cookie and no token.
    assert phone.cookies.keys() <= {"saoma-xsrf"}
    collected = await owner.exchange(ticket)
    assert collected.code == 200
    assert (await owner.get("/api/v1/me")).code == 200
    assert (await thief.get("/api/v1/me")).code == 401


FORM = "application/x-www-form-urlencoded"


# 2. Reusable: a code, a ticket or a token works a second time.


@pytest.mark.parametrize("end", ["CONSUMED", "CANCELLED", "abandoned", "expired"])
async def test_flaw_2_reusable(whole, end: str):
    """What is over stays over: for the code, for the ticket, for whoever holds its secret."""
    owner = whole.browser()
    ticket = await open_app_login(owner)
    handle = await scanned(whole, ticket)
    if end in ("CONSUMED", "expired"):
        assert (await call(whole, ticket, "confirm", handle, **bearer("victim"))).code == 200
    if end == "CONSUMED":
        assert (await owner.exchange(ticket)).code == 200
        whole.clock.pass_(60)  # after the repeat of a lost answer
    elif end == "CANCELLED":
        assert (await call(whole, ticket, "cancel", handle, **bearer("victim"))).code == 200
    elif end == "abandoned":
        assert (await owner.post(f"/api/v1/tickets/{ticket}/abandon")).code == 200
    else:
        whole.clock.pass_(301)
    now = int(whole.clock())
    for subject in ("victim", "attacker"):
        alive = bearer(subject, iat=now, exp=now + 60, jti=f"{subject} again")
        again = await call(whole, ticket, "scan", **alive)
        done = end == "CONSUMED" and subject == "victim"  # a repeat that says what has become of it
        assert again.code == (200 if done else 404 if end == "expired" else 409), (subject, again.body)
        if done:
            assert document(again)["state"] == "CONSUMED"
        answer = await call(whole, ticket, "confirm", handle, **alive)
        assert answer.code == (200 if done else 404 if end == "expired" else 409), (subject, answer.body)
    assert (await owner.exchange(ticket)).code in (404, 409)
    stored = await whole.ticket(ticket)
    assert stored is None or stored.state in (State.CONSUMED, State.CANCELLED, State.CONFIRMED)
    assert await owner.open_login("/login?method=app") != ticket


async def test_flaw_2_reusable_in_wechat(whole):
    """The same code scanned by another person, and the same event posted once more, a day later too."""
    owner, person, other = whole.browser(), whole.person(1), whole.person(3)
    ticket = await owner.open_login("/login?method=wechat")
    outcome = await whole.scan(ticket, person)
    assert (await owner.exchange(ticket)).code == 200
    me = document(await owner.get("/api/v1/me"))
    whole.clock.pass_(2)  # within a second it would be the same event once more
    for who in (other, person):
        told = await whole.scan(ticket, who)
        assert "http" not in told.reply_text, "no link, for nothing was logged in"
    assert outcome.accepted
    assert document(await owner.get("/api/v1/me")) == me
    code = whole.emulator.platform.find_code((await whole.ticket(ticket)).code)
    push = whole.emulator.courier.build(other, scan_fields(code), int(whole.clock()))
    whole.clock.pass_(86_400)
    assert (await whole.post(push)).status == 403, "its timestamp is not fresh"


async def test_flaw_2_reusable_token(whole):
    """The app's token confirms one login; the session's and the ticket's are nothing to each other."""
    first, second = whole.browser(), whole.browser()
    token = bearer("victim", jti="seen on the way")
    one, two = await open_app_login(first), await open_app_login(second)
    assert (await call(whole, one, "confirm", await scanned(whole, one), **token)).code == 200
    handle = await scanned(whole, two)
    assert (await call(whole, two, "confirm", handle, **token)).code == 401
    assert await second.state(two) == "SCANNED"
    session = document(await first.exchange(one)) and first.cookies["saoma-session"]
    for stolen in (first.cookies[f"saoma-ticket-{one}"], token["Authorization"].split()[1]):
        assert (await whole.browser().get("/api/v1/me", Authorization=f"Bearer {stolen}")).code == 401
    as_secret = {"Authorization": f"Ticket {session}"}
    assert (await whole.browser().get(f"/api/v1/tickets/{one}", **as_secret)).code == 404
    assert (await first.exchange(one)).code == 200, "a lost answer, within the minute"
    assert first.cookies["saoma-session"] != session
    former = await whole.browser().get("/api/v1/me", Authorization=f"Bearer {session}")
    assert former.code == 401, "one login, one session"


# 3. Predictable: the next code or secret can be told from others.


async def test_flaw_3_predictable(whole):
    """Of many tickets no two share an id or a secret, and every bit of them is as random as it looks.

    By construction an id has 144 random bits and a secret 256, of the operating system's generator; whatever
    the test sees of them must not contradict that.
    """
    browser = whole.browser()
    made = []
    for _ in range(ENOUGH):
        browser.cookies.clear()
        ticket = document(await browser.post("/api/v1/tickets", {"method": "app"}))["id"]
        made.append((ticket, browser.cookies[f"saoma-ticket-{ticket}"]))
    for kind, bits in (("id", 144), ("secret", 256)):
        values = [pair[kind == "secret"] for pair in made]
        assert len(set(values)) == ENOUGH
        raw = [base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)) for value in values]
        assert {len(one) * 8 for one in raw} == {bits}
        ones = [sum(one[bit // 8] >> bit % 8 & 1 for one in raw) for bit in range(bits)]
        # Six standard deviations of a fair coin: one run in a million fails by chance.
        assert max(abs(count - ENOUGH / 2) for count in ones) < 6 * math.sqrt(ENOUGH) / 2, (kind, ones)
        repeats = [sum(a == b for a, b in zip(one, two, strict=True)) for one, two in itertools.pairwise(raw)]
        assert max(repeats) < 6, "neighbours have no part in common"
        spread = Counter(byte for one in raw for byte in one)
        assert len(spread) == 256
        assert max(spread.values()) < 2 * len(raw) * bits / 8 / 256
    assert not any(secret in ticket or ticket in secret for ticket, secret in made)


# 4. Client-chosen id: the attacker plants what the server then trusts.


async def test_flaw_4_client_chosen_id(whole):
    """No request picks an id, a secret, a state or a person; a planted cookie is never adopted."""
    chosen = "A" * 24
    browser = whole.browser()
    wish: dict[str, Any] = dict.fromkeys(("id", "secret", "ticket", "scene", "scene_str", "code"), chosen)
    wish |= {"state": "CONFIRMED", "user": {"id": "admin"}, "user_id": "admin", "method": "app"}
    headers = {"Authorization": f"Ticket {chosen}", "X-Ticket-Id": chosen, "X-Ticket-Secret": chosen}
    made = document(await browser.post(f"/api/v1/tickets?{urlencode({'id': chosen})}", wish, **headers))
    assert chosen not in json.dumps(made)
    assert made["state"] == "WAITING"
    assert await whole.ticket(chosen) is None
    for path in (f"/login?id={chosen}&ticket={chosen}&method=app", f"/login?again={chosen}&method=app"):
        await browser.get(path)
        assert await whole.ticket(chosen) is None
    for act in ("scan", "confirm", "cancel"):
        assert (await call(whole, chosen, act, chosen, **bearer("attacker"))).code == 404
        assert await whole.ticket(chosen) is None
    # A scan with WeChat of a code that the attacker made up, or made with an account of their own.
    known = await whole.ticket(await browser.open_login("/login?method=wechat"))
    code = whole.emulator.platform.find_code(known.code)
    fields = {**scan_fields(code), "EventKey": chosen}
    push = whole.emulator.courier.build(whole.person(1), fields, int(whole.clock()))
    assert (await whole.post(push)).status == 200
    assert await whole.ticket(chosen) is None


async def test_flaw_4_planted_cookies(whole):
    """The attacker's ticket or session in the victim's browser: fixation."""
    attacker, victim = whole.browser(), whole.browser()
    theirs = await open_app_login(attacker)
    name = f"saoma-ticket-{theirs}"
    victim.cookies |= {name: "planted", "saoma-session": "planted", "saoma-browser": "planted"}
    ticket = await open_app_login(victim)
    assert ticket != theirs
    secret = victim.cookies[f"saoma-ticket-{ticket}"]
    assert secret not in ("planted", attacker.cookies[name])
    await confirmed(whole, ticket)
    assert (await victim.exchange(ticket)).code == 200
    assert victim.cookies["saoma-session"] != "planted"
    for stolen in ("planted", secret):
        attacker.cookies["saoma-session"] = stolen
        assert (await attacker.get("/api/v1/me")).code == 401
    # With the attacker's own good secret too, their ticket is not what the victim is shown for another wish,
    # and a login never takes over the session that was there before.
    attacker.cookies.pop("saoma-session")
    await confirmed(whole, theirs, "attacker")
    assert (await attacker.exchange(theirs)).code == 200
    victim.cookies["saoma-session"] = planted = attacker.cookies["saoma-session"]
    again = await open_app_login(victim)
    await confirmed(whole, again)
    assert (await victim.exchange(again)).code == 200
    assert victim.cookies["saoma-session"] != planted
    me = document(await victim.get("/api/v1/me"))
    assert [identity["subject"] for identity in me["identities"]] == ["victim"]


# 5. Weak check of the phone's token.


def forged(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    ]
    return ".".join([*parts, signature])


def bad_tokens(now: int, claims: dict[str, Any], key: str) -> dict[str, str]:
    """Each has one fault; `key` is what the server verifies with."""
    shared, other = OctKey.import_key(key), OctKey.import_key("another secret of thirty-two bytes, and more")

    def signed(header: dict[str, Any] | None = None, secret: OctKey = shared, **changes: Any) -> str:
        told = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode({"alg": "HS256", **(header or {})}, told, secret)

    good = signed()
    return {
        "none": forged({"alg": "none"}, claims),
        "None": forged({"alg": "None"}, claims, "x"),
        "no alg": forged({}, claims, good.rpartition(".")[2]),
        "signature cut off": good.rpartition(".")[0] + ".",
        "another key": signed(secret=other),
        "another's claims": forged({"alg": "HS256"}, {**claims, "sub": "boss"}, good.rpartition(".")[2]),
        "wrong issuer": signed(iss="https://evil.example"),
        "wrong audience": signed(aud="another"),
        "two audiences": signed(aud=["saoma", "another"]),
        "expired": signed(iat=now - 700, exp=now - 100),
        "too far ahead": signed(exp=now + 700),
        "from the future": signed(iat=now + 100, exp=now + 200),
        "no end": signed(exp=None),
        "no subject": signed(sub=None),
        "blank subject": signed(sub=""),
        "a number for a subject": signed(sub=10086),
        "no issuer": signed(iss=None),
        "no audience": signed(aud=None),
        "critical": forged({"alg": "HS256", "crit": ["x"], "x": 1}, claims, good.rpartition(".")[2]),
    }  # fmt: skip


async def test_flaw_5_weak_check_of_the_phones_token(whole):
    """None of them scans, and none confirms or cancels what the person has scanned with a good one."""
    now = int(whole.clock())
    claims = {"iss": APP["issuer"], "aud": "saoma", "sub": "victim", "iat": now, "exp": now + 60}
    browser = whole.browser()
    ticket, other = await open_app_login(browser), await open_app_login(whole.browser())
    handle = await scanned(whole, ticket)
    for fault, token in bad_tokens(now, claims, SECRET).items():
        header = {"Authorization": f"Bearer {token}"}
        for known, act in ((other, "scan"), (ticket, "confirm"), (ticket, "cancel")):
            answer = await call(whole, known, act, handle, **header)
            assert (answer.code, document(answer)["code"]) == (401, "unauthenticated"), (fault, act)
            assert document(answer)["detail"] == "The app's token is not valid.", "the same words for each"
    assert (await whole.ticket(other)).state is State.WAITING
    assert await browser.state(ticket) == "SCANNED"
    # A good token of somebody else, with the handle that they have seen on the victim's phone.
    for act in ("confirm", "cancel"):
        assert (await call(whole, ticket, act, handle, **bearer("attacker"))).code == 409
    assert (await call(whole, ticket, "confirm", handle, **bearer("victim"))).code == 200


async def test_flaw_5_a_public_key_is_no_shared_secret(tmp_path):
    """HS256 with the published key for its secret: the oldest confusion there is."""
    key = RSAKey.generate_key(2048, auto_kid=False)
    pem = key.as_pem(private=False).decode()
    async with running(tmp_path, app={"issuer": APP["issuer"], "key": pem}) as whole:
        now = int(whole.clock())
        claims = {"iss": APP["issuer"], "aud": "saoma", "sub": "victim", "iat": now, "exp": now + 60}
        ticket = await open_app_login(whole.browser())
        for secret in (pem, pem.strip(), key.as_der(private=False)):
            raw = secret if isinstance(secret, bytes) else secret.encode()
            unsigned = forged({"alg": "HS256"}, claims).rstrip(".")
            mac = hmac.digest(raw, unsigned.encode(), hashlib.sha256)
            confused = f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            answer = await call(whole, ticket, "scan", Authorization=f"Bearer {confused}")
            assert answer.code == 401
        good = jwt.encode({"alg": "RS256"}, claims, key)
        assert (await call(whole, ticket, "scan", Authorization=f"Bearer {good}")).code == 200


# 6. Leaked data: more is told than is needed, or to others, or in places where others look.


async def test_flaw_6_leaked_data(tmp_path, caplog):
    """Nothing personal before the scan, little before the yes, to the secret's holder alone; no secret in the
    log, in an address or in a Referer."""
    caplog.set_level(logging.DEBUG, logger="saoma")
    app = {**APP, "number_match": True}
    async with running(tmp_path, app=app, sites=[SHOP]) as whole:
        owner, stranger = whole.browser(), whole.browser()
        ticket = await open_app_login(owner)
        before = (await owner.get(f"/api/v1/tickets/{ticket}")).body.decode()
        assert document(await owner.get(f"/api/v1/tickets/{ticket}"))["user"] is None
        answers = [before]
        scan = await call(whole, ticket, "scan", **bearer("victim@example.com", name="Wei Zhang"))
        answers.append(scan.body.decode())
        assert "Wei" not in answers[-1]
        seen = document(await owner.get(f"/api/v1/tickets/{ticket}"))
        assert seen["user"] == {"name": "W**", "picture": ""}
        assert "victim" not in json.dumps(seen), "an id at the app's backend is nobody's here"
        number, handle = seen["number"], document(scan)["handle"]
        for path in (f"/s/{ticket}", f"/api/v1/tickets/{ticket}", f"/login?again={ticket}&method=app"):
            told = (await stranger.get(path)).body.decode()
            assert not re.search(rf"Wei|W\*\*|victim|>{number}<", told), path
        with pytest.raises(HTTPClientError):
            async with stranger.socket(ticket, Origin="https://evil.example"):
                pass
        body = {"handle": handle, "number": number}
        sure = await stranger.post(f"/api/v1/tickets/{ticket}/confirm", body, **bearer("victim@example.com"))
        assert (sure.code, document(sure)) == (200, {"state": "CONFIRMED"})
        collected = await owner.exchange(ticket)
        assert collected.code == 200
        page = await owner.get("/")
        secrets = {
            "ticket": owner.cookies[f"saoma-ticket-{ticket}"],
            "session": owner.cookies["saoma-session"],
            "handle": handle,
            "token": bearer("victim@example.com")["Authorization"].split()[1].split(".")[2],
            "person": "victim@example.com",
            "name": "Wei Zhang",
        }
        for answer in (page, collected, await owner.get("/login?method=app")):
            for name in ("ticket", "session"):
                assert secrets[name] not in answer.body.decode(), "a page's scripts see no credential"
            assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer")
            assert answer.headers["Cache-Control"] == "no-store"
    lines = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("saoma"))
    assert f"/api/v1/tickets/{ticket}/confirm" in lines
    assert {name for name, value in secrets.items() if value in lines} == set()
    assert not re.search(rf"number\D{{0,4}}{number}\b", lines)
