"""Codes, people, windows and quotas of the platform without HTTP."""

from typing import Any

import pytest

from emulator import ApiError, Disclosure, Platform
from emulator.people import openid_of
from emulator.platform import QRCODE_CREATE
from tests.clock import Clock
from tests.emulator.server import APPID


def request(action: str = "QR_STR_SCENE", scene: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    scene = {"scene_str": "abc"} if scene is None else scene
    return {"action_name": action, "action_info": {"scene": scene}, **more}


def message(openid: str, content: str = "你好", msgtype: str = "text") -> dict[str, Any]:
    return {"touser": openid, "msgtype": msgtype, "text": {"content": content}}


def errcode_of(function: Any, *arguments: Any) -> int:
    with pytest.raises(ApiError) as caught:
        function(*arguments)
    return caught.value.errcode


def test_a_code_is_found_by_its_url_and_by_its_ticket(platform: Platform) -> None:
    answer = platform.create_code(request(expire_seconds=300))
    assert answer.keys() == {"ticket", "expire_seconds", "url"}
    assert answer["expire_seconds"] == 300
    assert answer["url"].startswith("http://127.0.0.1:1/q/")
    found = platform.find_code(answer["url"])
    assert found is not None
    assert found.scene == "abc"
    assert platform.find_code(f" {answer['ticket']}\n") is found


def test_other_texts_are_no_codes(platform: Platform) -> None:
    url = platform.create_code(request())["url"]
    assert platform.find_code("https://example.com/q/" + url.rpartition("/")[2]) is None
    assert platform.find_code(url + "x") is None
    assert platform.find_code("") is None


@pytest.mark.parametrize(
    ("action", "scene", "carried"),
    [
        ("QR_STR_SCENE", {"scene_str": "x" * 64}, "x" * 64),
        ("QR_STR_SCENE", {"scene_str": "qrscene_1"}, "qrscene_1"),
        ("QR_SCENE", {"scene_id": 123}, "123"),
        ("QR_LIMIT_SCENE", {"scene_id": 100_000}, "100000"),
        ("QR_LIMIT_STR_SCENE", {"scene_str": "1"}, "1"),
    ],
)
def test_every_kind_of_scene(platform: Platform, action: str, scene: dict[str, Any], carried: str) -> None:
    found = platform.find_code(platform.create_code(request(action, scene))["url"])
    assert found is not None
    assert found.scene == carried


@pytest.mark.parametrize(
    ("wrong", "errcode"),
    [
        (request(scene={"scene_str": ""}), 40053),
        (request(scene={"scene_str": "x" * 65}), 40053),
        (request(scene={"scene_str": 7}), 40053),
        (request(scene={"scene_id": 7}), 40053),
        (request("QR_SCENE", {"scene_id": 0}), 40053),
        (request("QR_SCENE", {"scene_id": 2**32}), 40053),
        (request("QR_SCENE", {"scene_id": True}), 40053),
        (request("QR_LIMIT_SCENE", {"scene_id": 100_001}), 40053),
        (request("QR_OTHER"), 40052),
        ({"action_name": "QR_STR_SCENE"}, 40053),
        (request(expire_seconds=0), 40097),
        (request(expire_seconds=2_592_001), 40097),
        (request(expire_seconds="60"), 40097),
    ],
)
def test_wrong_requests_for_codes(platform: Platform, wrong: dict[str, Any], errcode: int) -> None:
    assert errcode_of(platform.create_code, wrong) == errcode
    assert not platform.codes


def test_temporary_codes_expire_and_permanent_ones_do_not(platform: Platform, clock: Clock) -> None:
    temporary = platform.find_code(platform.create_code(request(expire_seconds=60))["url"])
    answer = platform.create_code(request("QR_LIMIT_STR_SCENE", expire_seconds=60))
    permanent = platform.find_code(answer["url"])
    assert "expire_seconds" not in answer
    assert temporary is not None
    assert permanent is not None
    assert not temporary.expired(clock() + 59.9)
    assert temporary.expired(clock() + 60)
    assert not permanent.expired(clock() + 10**9)


def test_the_cast_has_every_kind_of_profile(platform: Platform) -> None:
    people = list(platform.people.values())
    assert {person.disclosure for person in people} == set(Disclosure)
    assert all(len(openid) == 28 and openid[0] == "o" for openid in platform.people)
    assert any(person.unionid.startswith(" ") for person in people)
    assert {person.following for person in people} == {True, False}


def test_an_openid_belongs_to_a_person_and_an_account() -> None:
    assert openid_of(APPID, "陈默") == openid_of(APPID, "陈默")
    assert len({openid_of(APPID, "陈默"), openid_of(APPID, "林小满"), openid_of("wx0", "陈默")}) == 3


def test_what_user_info_gives_away(platform: Platform) -> None:
    stranger = platform.add_person("路人", unionid="u1")
    blank = platform.add_person("Blank", following=True, unionid=" u2")
    absent = platform.add_person("Absent", following=True, disclosure=Disclosure.ABSENT)
    full = platform.add_person("陈默 😀", following=True, disclosure=Disclosure.FULL)
    assert platform.user_info(stranger.openid) == {"subscribe": 0, "openid": stranger.openid}
    answer = platform.user_info(blank.openid)
    assert (answer["nickname"], answer["headimgurl"], answer["unionid"]) == ("", "", " u2")
    assert "nickname" not in platform.user_info(absent.openid)
    assert "unionid" not in platform.user_info(absent.openid)
    answer = platform.user_info(full.openid)
    assert answer["nickname"] == "陈默 😀"
    assert answer["headimgurl"] == f"http://127.0.0.1:1/avatar/{full.openid}.png"
    assert errcode_of(platform.user_info, "oNobody") == 40003


def test_a_message_needs_an_open_window(platform: Platform, clock: Clock) -> None:
    person = platform.add_person("Ada", following=True)
    assert errcode_of(platform.send_custom_message, message(person.openid)) == 45015
    platform.open_window(person.after_event, (60, 3))
    for _ in range(3):
        assert platform.send_custom_message(message(person.openid)) == {"errcode": 0, "errmsg": "ok"}
    assert errcode_of(platform.send_custom_message, message(person.openid)) == 45047
    assert [entry.text for entry in person.chat] == ["你好"] * 3
    platform.open_window(person.after_message, (100, 1))
    platform.send_custom_message(message(person.openid))
    clock.seconds += 100
    assert errcode_of(platform.send_custom_message, message(person.openid)) == 45015


def test_messages_that_cannot_be_sent(platform: Platform) -> None:
    stranger = platform.add_person("Stranger")
    send = platform.send_custom_message
    assert errcode_of(send, message("oNobody")) == 40003
    assert errcode_of(send, message(stranger.openid)) == 43004
    assert errcode_of(send, message(stranger.openid, msgtype="image")) == 40008
    assert errcode_of(send, message(stranger.openid, "")) == 44004
    assert errcode_of(send, message(stranger.openid, "扫" * 683)) == 45002


def test_a_quota_is_for_a_day_in_beijing(platform: Platform, clock: Clock) -> None:
    clock.seconds = 1_800_000_000 // 86400 * 86400 + 16 * 3600 - 1  # the last second before midnight there
    platform.quotas[QRCODE_CREATE] = 2
    platform.spend(QRCODE_CREATE)
    platform.spend(QRCODE_CREATE)
    assert errcode_of(platform.spend, QRCODE_CREATE) == 45009
    clock.seconds += 1
    platform.spend(QRCODE_CREATE)


def test_the_quotas_of_the_start(platform: Platform) -> None:
    for _ in range(2000):
        platform.spend("/cgi-bin/token")
    assert errcode_of(platform.spend, "/cgi-bin/token") == 45009


def test_message_ids_would_not_survive_a_float(platform: Platform) -> None:
    first, second = platform.next_message_id(), platform.next_message_id()
    assert first != second
    assert 2**53 < first < 2**63
