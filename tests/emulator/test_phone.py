"""What people do, what is posted for it and what their chats show."""

import pytest

from emulator import Emulator, Entry
from emulator.people import Person, Speaker
from emulator.phone import EXPIRED, UNAVAILABLE
from tests.emulator.server import Callback, code
from wechat.messages import Action
from wechat.xml import write


def lines(person: Person) -> list[tuple[Speaker, str]]:
    return [(entry.speaker, entry.text) for entry in person.chat]


def last(person: Person) -> Entry:
    return person.chat[-1]


@pytest.fixture
def stranger(emulator: Emulator) -> Person:
    return emulator.platform.add_person("Stranger")


@pytest.fixture
def follower(emulator: Emulator) -> Person:
    return emulator.platform.add_person("Follower", following=True)


async def test_a_strangers_scan_follows_with_the_scene(
    emulator: Emulator, callback: Callback, stranger: Person
) -> None:
    url = code(emulator.platform, "qrscene_abc")
    callback.reply("欢迎")
    outcome = await emulator.phone.scan(stranger.openid, url)
    message = callback.received[0].delivery.message
    found = emulator.platform.find_code(url)
    assert outcome is not None
    assert found is not None
    assert message.action is Action.FOLLOW_BY_CODE
    assert message.event_key == "qrscene_qrscene_abc"
    assert message.scene == "qrscene_abc"
    assert message.ticket == found.ticket
    assert message.openid == stranger.openid
    assert stranger.following
    assert emulator.platform.user_info(stranger.openid)["qr_scene_str"] == "qrscene_abc"
    assert emulator.platform.user_info(stranger.openid)["subscribe_scene"] == "ADD_SCENE_QR_CODE"
    assert [speaker for speaker, _ in lines(stranger)] == [Speaker.ACTION, Speaker.ACCOUNT]
    assert last(stranger).text == "欢迎"
    assert stranger.chat[0].outcome is outcome


async def test_a_followers_scan_posts_scan(emulator: Emulator, callback: Callback, follower: Person) -> None:
    await emulator.phone.scan(follower.openid, code(emulator.platform, "abc"))
    message = callback.received[0].delivery.message
    assert message.action is Action.SCAN
    assert callback.received[0].delivery.fields["Event"] == "SCAN"
    assert message.scene == "abc"
    assert len(follower.chat) == 1, "success puts nothing into the chat"


async def test_somebody_who_only_looks_posts_nothing(
    emulator: Emulator, callback: Callback, stranger: Person
) -> None:
    url = code(emulator.platform)
    assert await emulator.phone.scan(stranger.openid, url, follow=False) is None
    assert not callback.received
    assert not stranger.following


async def test_an_expired_code_posts_nothing(
    emulator: Emulator, callback: Callback, follower: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = code(emulator.platform, seconds=60)
    later = emulator.platform.now() + 60
    monkeypatch.setattr(emulator.platform, "now", lambda: later)
    assert await emulator.phone.scan(follower.openid, url) is None
    assert not callback.received
    assert lines(follower) == [(Speaker.WECHAT, EXPIRED)]


async def test_any_other_code_is_shown_and_posts_nothing(
    emulator: Emulator, callback: Callback, follower: Person
) -> None:
    assert await emulator.phone.scan(follower.openid, "https://a.example/s/1") is None
    assert not callback.received
    assert "https://a.example/s/1" in last(follower).text


async def test_follow_and_unfollow(emulator: Emulator, callback: Callback, stranger: Person) -> None:
    callback.reply("hi")
    await emulator.phone.follow(stranger.openid)
    assert await emulator.phone.follow(stranger.openid) is None
    assert emulator.platform.user_info(stranger.openid)["subscribe"] == 1
    await emulator.phone.unfollow(stranger.openid)
    assert await emulator.phone.unfollow(stranger.openid) is None
    assert emulator.platform.user_info(stranger.openid)["subscribe"] == 0
    actions = [received.delivery.message.action for received in callback.received]
    assert actions == [Action.FOLLOW, Action.UNFOLLOW]
    assert callback.received[0].delivery.fields["EventKey"] == ""
    assert "Ticket" not in callback.received[0].delivery.fields
    assert [speaker for speaker, _ in lines(stranger)] == [Speaker.ACTION, Speaker.ACCOUNT, Speaker.ACTION]


async def test_a_text_and_its_reply(emulator: Emulator, callback: Callback, follower: Person) -> None:
    callback.reply("好的")
    await emulator.phone.send_text(follower.openid, "你好 😀")
    await emulator.phone.send_text(follower.openid, "again")
    first, second = (received.delivery for received in callback.received)
    assert first.fields["Content"] == "你好 😀"
    assert first.message.message_id != second.message.message_id
    assert lines(follower)[:2] == [(Speaker.PERSON, "你好 😀"), (Speaker.ACCOUNT, "好的")]


async def test_strangers_cannot_write(emulator: Emulator, callback: Callback, stranger: Person) -> None:
    assert await emulator.phone.send_text(stranger.openid, "hello") is None
    assert not callback.received
    assert last(stranger).speaker is Speaker.WECHAT


async def test_an_invalid_answer_shows_wechats_notice(
    emulator: Emulator, callback: Callback, follower: Person
) -> None:
    callback.answer = lambda delivery: b'{"ok":true}'
    outcome = await emulator.phone.send_text(follower.openid, "hello")
    assert outcome is not None
    assert not outcome.accepted
    assert (last(follower).speaker, last(follower).text) == (Speaker.WECHAT, UNAVAILABLE)


async def test_articles_are_shown_by_title_and_address(
    emulator: Emulator, callback: Callback, follower: Person
) -> None:
    article = {"Title": "标题", "Description": "", "PicUrl": "", "Url": "https://a.example/1"}
    reply = write(
        {
            "ToUserName": follower.openid,
            "FromUserName": emulator.platform.account.original_id,
            "CreateTime": 1_700_000_000,
            "MsgType": "news",
            "ArticleCount": 1,
            "Articles": {"item": article},
        }
    )
    callback.answer = lambda delivery: callback.sealed(delivery, reply.encode())
    await emulator.phone.send_text(follower.openid, "hello")
    assert last(follower).text == "标题\nhttps://a.example/1"


async def test_any_event_can_be_sent(emulator: Emulator, callback: Callback, stranger: Person) -> None:
    location = {"Latitude": "22.5", "Longitude": "114.0", "Precision": "65"}
    await emulator.phone.send_event(stranger.openid, "LOCATION", more=location)
    fields = callback.received[0].delivery.fields
    assert fields["Event"] == "LOCATION"
    assert fields["Latitude"] == "22.5"
    assert callback.received[0].delivery.message.action is Action.OTHER_EVENT


async def test_actions_open_the_windows_for_messages(emulator: Emulator, follower: Person) -> None:
    await emulator.phone.scan(follower.openid, code(emulator.platform))
    assert follower.after_event.left == 3
    assert follower.after_message.left == 0
    await emulator.phone.send_text(follower.openid, "hello")
    assert follower.after_message.left == 5
    await emulator.phone.unfollow(follower.openid)
    assert follower.after_event.left == follower.after_message.left == 0


async def test_nobody_has_an_unknown_openid(emulator: Emulator) -> None:
    with pytest.raises(KeyError):
        await emulator.phone.follow("oNobody")
