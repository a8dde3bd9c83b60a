"""The platform's interface and the phone page over HTTP."""

import asyncio
import json
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from tornado.httpclient import HTTPClientError, HTTPResponse

from emulator import Emulator
from emulator.people import Speaker
from emulator.pictures import AVATAR_PIXELS
from emulator.platform import CALLBACK_IP, CUSTOM_SEND, QRCODE_CREATE, STABLE_TOKEN, TOKEN, USER_INFO
from tests.emulator.server import APPID, SECRET, Callback, code, fetch

CREATE = {
    "action_name": "QR_STR_SCENE",
    "expire_seconds": 60,
    "action_info": {"scene": {"scene_str": "abc"}},
}
CREDENTIALS = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET}


async def call(
    emulator: Emulator, path: str, query: dict[str, str] | None = None, body: Any = None
) -> dict[str, Any]:
    """The JSON of a call; one with a body is a POST. Asserts what all of WeChat's answers have in common."""
    url = f"{emulator.base_url}{path}?{urlencode(query or {})}"
    response = await (
        fetch(url) if body is None else fetch(url, method="POST", body=json.dumps(body, ensure_ascii=False))
    )
    assert response.code == 200
    assert response.headers["Content-Type"] == "text/plain"
    answer: dict[str, Any] = json.loads(response.body)
    return answer


async def token(emulator: Emulator) -> dict[str, str]:
    answer = await call(emulator, STABLE_TOKEN, body=CREDENTIALS)
    return {"access_token": answer["access_token"]}


def text(response: HTTPResponse) -> str:
    return response.body.decode()


async def submit(emulator: Emulator, action: str, origin: str = "", **form: str) -> HTTPResponse:
    url = f"{emulator.base_url}/phone/{action}"
    headers = {"Origin": origin} if origin else {}
    return await fetch(url, method="POST", body=urlencode(form), headers=headers)


async def control(emulator: Emulator, **orders: Any) -> dict[str, Any]:
    response = await fetch(f"{emulator.base_url}/_control", method="POST", body=json.dumps(orders))
    assert response.code == 200, response.body
    answer: dict[str, Any] = json.loads(response.body)
    return answer


# --- WeChat's interface ---------------------------------------------------------------------------------


async def test_tokens_codes_people_and_messages(emulator: Emulator) -> None:
    ordinary = await call(emulator, TOKEN, CREDENTIALS)
    assert ordinary["expires_in"] == 7200
    query = {"access_token": ordinary["access_token"]}
    created = await call(emulator, QRCODE_CREATE, query, CREATE)
    assert created["url"].startswith(f"{emulator.base_url}/q/")
    assert "=" in created["ticket"], "a ticket has to be quoted in a query"
    person = emulator.platform.add_person("Ada 😀", following=True)
    assert (await call(emulator, USER_INFO, {**query, "openid": person.openid}))["subscribe"] == 1
    await emulator.phone.scan(person.openid, created["url"])
    sent = {"touser": person.openid, "msgtype": "text", "text": {"content": "你好"}}
    assert await call(emulator, CUSTOM_SEND, query, sent) == {"errcode": 0, "errmsg": "ok"}
    assert (person.chat[-1].speaker, person.chat[-1].text) == (Speaker.ACCOUNT, "你好")
    assert "127.0.0.1" in (await call(emulator, CALLBACK_IP, query))["ip_list"]


async def test_errors_look_like_wechats(emulator: Emulator) -> None:
    answer = await call(emulator, USER_INFO, {"access_token": "made-up", "openid": "o"})
    assert answer.keys() == {"errcode", "errmsg"}
    assert answer["errcode"] == 40001
    assert re.search(r" rid: [0-9a-f]{8}-\S{8}-\S{8}$", answer["errmsg"])


@pytest.mark.parametrize("path", [QRCODE_CREATE, USER_INFO, CUSTOM_SEND, CALLBACK_IP])
async def test_every_call_needs_a_token(emulator: Emulator, path: str) -> None:
    body: dict[str, str] | None = {} if path in (QRCODE_CREATE, CUSTOM_SEND) else None
    assert (await call(emulator, path, body=body))["errcode"] == 41001
    platform_token = await token(emulator)
    emulator.platform.expire_tokens()
    assert (await call(emulator, path, platform_token, body))["errcode"] == 42001


async def test_methods_and_bodies(emulator: Emulator) -> None:
    query = await token(emulator)
    assert (await call(emulator, QRCODE_CREATE, query))["errcode"] == 43002
    assert (await call(emulator, USER_INFO, query, {}))["errcode"] == 43001
    for body in (b"{", b"[]", b"\xff"):
        response = await fetch(
            f"{emulator.base_url}{QRCODE_CREATE}?{urlencode(query)}", method="POST", body=body
        )
        assert json.loads(response.body)["errcode"] == 47001


async def test_text_is_not_escaped(emulator: Emulator) -> None:
    query = await token(emulator)
    full = next(person for person in emulator.platform.people.values() if person.name == "陈默")
    response = await fetch(f"{emulator.base_url}{USER_INFO}?{urlencode({**query, 'openid': full.openid})}")
    assert '"nickname":"陈默"'.encode() in response.body
    picture = await fetch(json.loads(response.body)["headimgurl"])
    assert picture.code == 200
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.body[16:24] == AVATAR_PIXELS.to_bytes(4, "big") * 2


async def test_a_used_up_quota(emulator: Emulator) -> None:
    query = await token(emulator)
    emulator.platform.quotas[QRCODE_CREATE] = 2
    answers = [await call(emulator, QRCODE_CREATE, query, CREATE) for _ in range(3)]
    assert [answer.get("errcode", 0) for answer in answers] == [0, 0, 45009]
    assert emulator.platform.calls[QRCODE_CREATE] == 3


async def test_an_error_on_demand_is_for_so_many_calls(emulator: Emulator) -> None:
    emulator.platform.fail(STABLE_TOKEN, -1, times=2)
    answers = [await call(emulator, STABLE_TOKEN, body=CREDENTIALS) for _ in range(3)]
    assert [answer.get("errcode", 0) for answer in answers] == [-1, -1, 0]
    assert emulator.platform.calls[STABLE_TOKEN] == 3


async def test_an_error_is_for_one_path(emulator: Emulator) -> None:
    emulator.platform.fail(TOKEN, 45009)
    assert "access_token" in await call(emulator, STABLE_TOKEN, body=CREDENTIALS)
    assert (await call(emulator, TOKEN, CREDENTIALS))["errcode"] == 45009


async def test_any_answer_on_demand(emulator: Emulator) -> None:
    emulator.platform.answer(TOKEN, b"<html>502</html>", status=502)
    response = await fetch(f"{emulator.base_url}{TOKEN}?{urlencode(CREDENTIALS)}")
    assert (response.code, response.body) == (502, b"<html>502</html>")
    assert "access_token" in await call(emulator, TOKEN, CREDENTIALS)


async def test_a_delay_on_demand(emulator: Emulator) -> None:
    emulator.platform.delay(TOKEN, 0.2)
    before = time.monotonic()
    await call(emulator, TOKEN, CREDENTIALS)
    assert time.monotonic() - before >= 0.2
    assert emulator.platform.next_delay(TOKEN) == 0, "it was for one call"


async def test_a_platform_that_is_down_closes_without_an_answer(emulator: Emulator) -> None:
    emulator.platform.down = True
    with pytest.raises(HTTPClientError, match="Stream closed"):
        await call(emulator, TOKEN, CREDENTIALS)
    assert emulator.platform.calls[TOKEN] == 1
    emulator.platform.heal()
    assert "access_token" in await call(emulator, TOKEN, CREDENTIALS)


async def test_the_picture_of_a_code(emulator: Emulator, tmp_path: Path) -> None:
    created = emulator.platform.create_code(CREATE)
    showqrcode = f"{emulator.base_url}/cgi-bin/showqrcode?ticket="
    response = await fetch(showqrcode + quote(created["ticket"]))
    assert response.headers["Content-Type"] == "image/png"
    assert response.body.startswith(b"\x89PNG\r\n")
    assert (await fetch(showqrcode + "nonsense")).code == 404
    if shutil.which("zbarimg") is None:
        pytest.skip("zbarimg is not installed")
    picture = tmp_path / "code.png"
    picture.write_bytes(response.body)
    process = await asyncio.create_subprocess_exec(
        *("zbarimg", "-q", "--raw", picture), stdout=asyncio.subprocess.PIPE
    )
    decoded, _ = await process.communicate()
    assert decoded.decode().strip() == created["url"]


async def test_an_expired_code_has_no_picture(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    created = emulator.platform.create_code(CREATE)
    later = emulator.platform.now() + 60
    monkeypatch.setattr(emulator.platform, "now", lambda: later)
    url = f"{emulator.base_url}/cgi-bin/showqrcode?ticket={quote(created['ticket'])}"
    assert (await fetch(url)).code == 404


# --- the phone ------------------------------------------------------------------------------------------


async def test_an_ordinary_scan_leads_to_the_phone_with_the_code_ready(emulator: Emulator) -> None:
    url = code(emulator.platform)
    response = await fetch(url)
    assert response.code == 303
    location = response.headers["Location"]
    assert parse_qs(urlsplit(location).query)["code"] == [url]
    page = await fetch(emulator.base_url + location)
    assert page.code == 200
    assert f'value="{url}"' in text(page)


async def test_the_page_has_every_person_and_one_chosen(emulator: Emulator) -> None:
    people = list(emulator.platform.people.values())
    chosen = people[2]
    page = text(await fetch(f"{emulator.base_url}/?person={chosen.openid}&code=x"))
    assert all(f'data-choose="{person.openid}"' in page and person.name in page for person in people)
    assert f'<body data-person="{chosen.openid}">' in page
    assert page.count("aria-current") == 1
    assert f"/?person={people[0].openid}&amp;code=x" in page, "the code is kept when somebody else is chosen"
    assert (await fetch(f"{emulator.base_url}/?person=oNobody")).code == 404


async def test_a_scan_by_form_waits_and_shows_the_reply_and_the_wire(
    emulator: Emulator, callback: Callback
) -> None:
    callback.reply("完成 https://a.example/c/1?x=1&y=2")
    stranger = next(person for person in emulator.platform.people.values() if not person.following)
    before = text(await fetch(f"{emulator.base_url}/?person={stranger.openid}"))
    assert 'id="look"' in before
    assert 'id="follow"' in before
    response = await submit(emulator, "scan", person=stranger.openid, code=code(emulator.platform, "sc-1"))
    assert response.code == 303
    assert len(callback.received) == 1
    page = text(await fetch(emulator.base_url + response.headers["Location"]))
    link = "https://a.example/c/1?x=1&amp;y=2"
    assert f'<a href="{link}" target="_blank" rel="noopener noreferrer">{link}</a>' in page
    assert 'data-accepted="true" data-tries="1"' in page
    assert "qrscene_sc-1" in page
    assert "msg_signature=" in page
    assert 'id="unfollow"' in page
    assert 'id="look"' not in page


async def test_looking_following_writing_and_leaving_by_form(emulator: Emulator, callback: Callback) -> None:
    person = emulator.platform.add_person("Ada")
    url = code(emulator.platform)
    await submit(emulator, "scan", person=person.openid, code=url, follow="0")
    assert not callback.received
    for action, form in (("follow", {}), ("text", {"text": "你好"}), ("unfollow", {})):
        assert (await submit(emulator, action, person=person.openid, **form)).code == 303
    kinds = [received.delivery.fields.get("Event", "text") for received in callback.received]
    assert kinds == ["subscribe", "text", "unsubscribe"]


async def test_everything_is_escaped(emulator: Emulator, callback: Callback) -> None:
    evil = "<script>alert(1)</script>\"'>"
    callback.reply(evil)
    person = emulator.platform.add_person(evil, openid="oEvil", following=True)
    await emulator.phone.send_text(person.openid, evil)
    page = text(await fetch(f"{emulator.base_url}/?{urlencode({'person': 'oEvil', 'code': evil})}"))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5


async def test_forms_of_other_sites_are_refused(emulator: Emulator, callback: Callback) -> None:
    person = emulator.platform.add_person("Ada")
    for origin in ("https://evil.example", "null", emulator.base_url + "0"):
        response = await submit(emulator, "follow", origin, person=person.openid)
        assert response.code == 403
    assert not callback.received
    response = await submit(emulator, "follow", emulator.base_url, person=person.openid)
    assert response.code == 303
    assert len(callback.received) == 1


async def test_the_phone_knows_loopback_names_only(emulator: Emulator) -> None:
    for path in ("/", "/q/abc"):
        assert (await fetch(emulator.base_url + path, headers={"Host": "evil.example"})).code == 403
    assert (await fetch(emulator.base_url + "/", headers={"Host": "localhost:1"})).code == 200


async def test_it_listens_on_loopback_alone(emulator: Emulator) -> None:
    addresses = {bound.getsockname()[0] for bound in emulator.server._sockets.values()}
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("action", "form", "status"),
    [
        ("scan", {}, 400),
        ("text", {"text": " "}, 400),
        ("dance", {}, 404),
        ("follow", {"person": "oNobody"}, 404),
    ],
)
async def test_incomplete_forms(emulator: Emulator, action: str, form: dict[str, str], status: int) -> None:
    person = emulator.platform.add_person("Ada", following=True)
    assert (await submit(emulator, action, **{"person": person.openid, **form})).code == status


async def test_the_page_works_without_any_script(emulator: Emulator) -> None:
    response = await fetch(emulator.base_url + "/")
    assert "<script" not in text(response)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    stylesheet = re.search(r'href="(/static/phone\.css[^"]*)"', text(response))
    assert stylesheet is not None
    assert (await fetch(emulator.base_url + stylesheet[1])).code == 200


# --- the switchboard ------------------------------------------------------------------------------------


async def test_faults_are_set_from_another_process(emulator: Emulator) -> None:
    await control(
        emulator,
        fail={"path": TOKEN, "errcode": 45009},
        quotas={QRCODE_CREATE: 0},
        token_lifetime=60,
        delay={"path": STABLE_TOKEN, "seconds": 0.1},
        answer={"path": USER_INFO, "body": "no JSON", "status": 500},
    )
    assert (await call(emulator, TOKEN, CREDENTIALS))["errcode"] == 45009
    before = time.monotonic()
    issued = await call(emulator, STABLE_TOKEN, body=CREDENTIALS)
    assert time.monotonic() - before >= 0.1
    assert issued["expires_in"] == 60
    query = {"access_token": issued["access_token"]}
    assert (await call(emulator, QRCODE_CREATE, query, CREATE))["errcode"] == 45009
    assert (await fetch(f"{emulator.base_url}{USER_INFO}")).code == 500
    answer = await control(emulator, revoke_tokens=True, down=True)
    assert answer["calls"][TOKEN] == 1
    assert answer["down"] is True
    assert {"openid", "name", "following"} == answer["people"][0].keys()
    assert (await control(emulator, heal=True))["down"] is False
    assert (await call(emulator, CALLBACK_IP, query))["errcode"] == 40001


@pytest.mark.parametrize("body", ["[]", "{", '{"nonsense": 1}', '{"fail": {}}', '{"fail": 1}'])
async def test_orders_that_are_not_understood(emulator: Emulator, body: str) -> None:
    assert (await fetch(f"{emulator.base_url}/_control", method="POST", body=body)).code == 400


async def test_other_sites_give_no_orders(emulator: Emulator) -> None:
    response = await fetch(
        f"{emulator.base_url}/_control",
        method="POST",
        body='{"down": true}',
        headers={"Origin": "https://evil.example"},
    )
    assert response.code == 403
    assert not emulator.platform.down


async def test_a_taken_port_is_an_error(emulator: Emulator) -> None:
    port = urlsplit(emulator.base_url).port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        Emulator.start(emulator.platform.account, port=port)


async def test_the_callback_may_be_named_later(emulator: Emulator, callback: Callback) -> None:
    address = emulator.platform.account.callback_url
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        emulator.deliver_to(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    person = emulator.platform.add_person("Ada")
    outcome = await emulator.phone.follow(person.openid)
    assert outcome is not None
    assert not outcome.accepted
    emulator.deliver_to(address)
    assert (await emulator.phone.send_event(person.openid, "CLICK", "key")).accepted
