"""The REST part about tickets: how one is made, and what whoever has not its secret is told."""

from __future__ import annotations

import json

import pytest

from tests.handlers.programs import PROBLEM, ticket
from tests.harness import document, running

# --- Making one.


async def test_a_page_gets_its_secret_as_a_cookie_alone(whole):
    browser = whole.browser()
    response = await browser.post(
        "/api/v1/tickets", {"method": "wechat", "next": "/a?b=c#d", "unknown": {"$gt": 1}}
    )
    assert response.code == 201
    made = document(response)
    assert made.keys() == {"id", "state", "expires_in", "interval", "qr"}
    assert (made["state"], made["expires_in"], made["interval"]) == ("WAITING", 300, 3)
    assert len(made["id"]) <= 64
    assert made["qr"] == (await whole.ticket(made["id"])).code
    assert response.headers["Location"] == f"/api/v1/tickets/{made['id']}"
    assert response.headers["Content-Type"] == "application/json"
    secret = browser.cookies[f"saoma-ticket-{made['id']}"]
    assert len(secret) >= 22
    assert secret not in response.body.decode()
    assert document(await browser.get(response.headers["Location"]))["state"] == "WAITING"


async def test_every_ticket_has_an_id_and_a_secret_of_its_own(whole):
    ids, secrets = set(), set()
    browser = whole.browser()
    for _ in range(20):
        made = document(await browser.post("/api/v1/tickets"))
        ids.add(made["id"])
        secrets.add(browser.cookies[f"saoma-ticket-{made['id']}"])
    assert len(ids) == len(secrets) == 20


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"x"',
        "\xff",
        b"\xff\xfe",
        '{"method": "telegram"}',
        '{"method": 1}',
        '{"method": null}',
        '{"client": "admin"}',
        '{"client": ["browser"]}',
        '{"next": 5}',
        '{"next": {"$ne": ""}}',
        '{"next": "\\ud800"}',
        '{"next": "//evil.example"}',
        '{"next": "https://evil.example/"}',
        '{"next": "/\\r\\nSet-Cookie: a=b"}',
        json.dumps({"next": "/" + "a" * 4096}),
        "[" * 10_000,
        '{"next": ' + "[" * 10_000 + "]" * 10_000 + "}",
    ],
)
async def test_a_body_that_is_not_understood(whole, body):
    used = whole.transactions()
    response = await whole.browser().post("/api/v1/tickets", body)
    assert response.code == 400, response.body
    assert response.headers["Content-Type"] == PROBLEM
    assert document(response)["code"] == "bad_request"
    assert "Set-Cookie" not in response.headers
    assert b"evil" not in response.body
    assert not used


async def test_a_ticket_that_is_not_kept_is_not_told(whole):
    whole.store_goes_away()
    response = await whole.browser().post("/api/v1/tickets")
    assert response.code == 503
    assert document(response)["code"] == "store_unavailable"
    assert "Set-Cookie" not in response.headers


async def test_a_method_that_is_not_set_up(whole):
    response = await whole.browser().post("/api/v1/tickets", {"method": "app"})
    assert response.code == 503
    assert document(response)["code"] == "method_unavailable"


async def test_too_many_are_told_when_to_come_again(tmp_path):
    limits = {"tickets_per_address": 3}
    async with running(tmp_path, limits=limits, server={"trusted_proxies": ["127.0.0.1"]}) as whole:
        for _ in range(3):
            assert (await whole.browser().post("/api/v1/tickets")).code == 201
        for response in (await whole.browser().post("/api/v1/tickets"), await whole.browser().get("/login")):
            assert response.code == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 20
            assert "Set-Cookie" not in response.headers or "ticket" not in response.headers["Set-Cookie"]
        assert document(await whole.browser().post("/api/v1/tickets"))["code"] == "too_many_requests"
        # Another address is not meant, and time heals.
        assert (
            await whole.browser(**{"X-Forwarded-For": "198.51.100.7"}).post("/api/v1/tickets")
        ).code == 201
        whole.clock.pass_(21)
        assert (await whole.browser().get("/login")).code == 200


async def test_limits_can_be_lifted(tmp_path):
    async with running(tmp_path, limits={"enabled": False, "tickets_per_address": 1}) as whole:
        for _ in range(5):
            assert (await whole.browser().post("/api/v1/tickets")).code == 201


# --- Whoever has not the secret.


async def test_unknown_expired_and_foreign_are_one_answer(whole):
    owner, stranger = whole.browser(), whole.browser()
    expired = await owner.open_login()
    whole.clock.pass_(301)
    foreign = await owner.open_login()
    confirmed = await owner.open_login("/login?next=/a")
    await whole.scan(confirmed, whole.person())
    stranger.xsrf = owner.xsrf
    own = document(await stranger.post("/api/v1/tickets"))["id"]
    secret = stranger.cookies[f"saoma-ticket-{own}"]
    stranger.cookies["saoma-xsrf"] = owner.cookies["saoma-xsrf"]
    answers = {}
    for name, asked, client in (
        ("unknown", "A" * 24, stranger),
        ("short", "-", stranger),
        ("long", "_" * 64, stranger),
        ("expired", expired, owner),
        ("foreign", foreign, stranger),
        ("foreign and confirmed", confirmed, stranger),
    ):
        # A planted cookie, another ticket's secret, and nothing at all.
        for given in (
            {},
            ticket(secret),
            ticket("x" * 5000),
            ticket("\xfc\xff"),
            {"Cookie": f"saoma-ticket-{asked}={secret}"},
        ):
            if name == "expired" and given:
                continue
            url = f"/api/v1/tickets/{asked}"
            xsrf = f"saoma-xsrf={owner.cookies['saoma-xsrf']}"
            more = {"Cookie": f"{given['Cookie']}; {xsrf}"} if "Cookie" in given else given
            for number, request in enumerate(
                (
                    client.get(url, **given),
                    client.get(f"{url}?wait=5", **given),
                    client.get(f"{url}?wait=5&state=INVALID", **given),
                    client.get(f"{url}/qr.svg", **given),
                    client.get(f"{url}/qr.png", **given),
                    client.post(f"{url}/exchange", **more),
                    client.post(f"{url}/abandon", **more),
                )
            ):
                response = await request
                kept = {
                    key: value
                    for key, value in response.headers.get_all()
                    if key not in ("X-Request-Id", "Date")
                }
                answers[name, number, str(given)[:30]] = (response.code, response.body, json.dumps(kept))
    assert len(set(answers.values())) == 1, set(answers.values())
    status, body, _ = next(iter(answers.values()))
    assert status == 404
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "ticket_unknown",
        "detail": "This ticket is unknown or has expired.",
        "state": "INVALID",
    }
    assert (await whole.ticket(confirmed)).state == "CONFIRMED"


async def test_an_id_that_can_be_none_is_no_page_of_ours(whole):
    for path in (
        "/api/v1/tickets/",
        "/api/v1/tickets/a.b",
        f"/api/v1/tickets/{'a' * 65}",
        "/api/v1/tickets/a/b/c",
    ):
        assert (await whole.browser().get(path)).code == 404


# --- The picture.


async def test_the_code_as_a_picture(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    svg = await browser.get(f"/api/v1/tickets/{ticket_id}/qr.svg")
    assert (svg.code, svg.headers["Content-Type"]) == (200, "image/svg+xml; charset=UTF-8")
    assert svg.body.lstrip().startswith((b"<svg", b"<?xml"))
    png = await browser.get(f"/api/v1/tickets/{ticket_id}/qr.png")
    assert (png.code, png.headers["Content-Type"]) == (200, "image/png")
    assert png.body.startswith(b"\x89PNG\r\n")
    for response in (svg, png):
        assert response.headers["Cache-Control"] == "no-store"
    assert (await browser.get(f"/api/v1/tickets/{ticket_id}/qr.gif")).code == 404
