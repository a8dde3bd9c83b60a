from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import vectors
from wechat.messages import Action, Message, read_message
from wechat.xml import MalformedXml, parse

ACTIONS = {
    "subscribe_with_scene": Action.FOLLOW_BY_CODE,
    "scan_existing_follower": Action.SCAN,
    "subscribe_no_scene": Action.FOLLOW,
    "unsubscribe": Action.UNFOLLOW,
    "message": Action.MESSAGE,
    "ignore_for_login": Action.OTHER_EVENT,
}
LOGS_IN = {Action.FOLLOW_BY_CODE, Action.SCAN}


def message(**changed: str) -> Message:
    fields: dict[str, Any] = {
        "ToUserName": "gh_0123456789ab",
        "FromUserName": "oABCDEFGHIJKLMNOPQRSTUVWXYZ1",
        "CreateTime": "1700000000",
        "MsgType": "event",
        "Event": "SCAN",
        "EventKey": "scene-1",
        "Ticket": "gQH-ticket",
    }
    return read_message(fields | changed)


@vectors.each("xml_message")
def test_means_what_it_should(vector: vectors.Vector) -> None:
    semantic = vector.expected["semantic"]
    read = read_message(parse(vector.inputs["xml"].encode()))

    assert read.account == semantic["account"]
    assert read.openid == semantic["openid"]
    assert read.created_at == semantic["create_time"]
    assert read.action is ACTIONS[semantic["action"]]
    assert read.scene == semantic.get("scene")
    if read.action is Action.MESSAGE:
        assert read.type == semantic["type"]
    else:
        assert (read.type, read.event) == ("event", semantic["event"])
    assert read.ticket == semantic.get("ticket", vector.expected["fields"].get("Ticket", ""))
    assert read.message_id == vector.expected["fields"].get("MsgId", "")
    if "ticket" in semantic:
        assert read.action in LOGS_IN


@vectors.each("policy", only=lambda vector: "deliveries" in vector.inputs)
def test_a_redelivery_is_known_and_a_new_push_is_not(vector: vectors.Vector) -> None:
    keys = [read_message(parse(body.encode())).delivery_key for body in vector.inputs["deliveries"]]
    assert len(set(keys)) == vector.expected["actions"]


def test_pushes_that_differ_have_different_keys() -> None:
    fields = [vector.expected["fields"] for vector in vectors.ALL if vector.kind == "xml_message"]
    identities = {
        (
            one["ToUserName"],
            one["FromUserName"],
            one["MsgType"],
            *(
                (one["MsgId"],)
                if one["MsgType"] != "event" and "MsgId" in one
                else (one["CreateTime"], one.get("Event", "").lower(), one.get("EventKey", ""))
            ),
        )
        for one in fields
    }
    assert len({read_message(one).delivery_key for one in fields}) == len(identities) > 60


@pytest.mark.parametrize(
    "changed",
    [
        {"ToUserName": "gh_other"},
        {"FromUserName": "oOTHER"},
        {"CreateTime": "1700000001"},
        {"Event": "subscribe"},
        {"EventKey": "scene-2"},
        {"MsgType": "text"},
        {"MsgType": "text", "MsgId": "1"},
        # Nothing may slip from one member into the next.
        {"ToUserName": "gh_0123456789abo", "FromUserName": "ABCDEFGHIJKLMNOPQRSTUVWXYZ1"},
        {"Event": "SCANscene", "EventKey": "-1"},
    ],
)
def test_each_part_of_an_event_counts_in_its_key(changed: dict[str, str]) -> None:
    assert message(**changed).delivery_key != message().delivery_key


def test_the_key_of_a_message_is_its_id_not_its_time() -> None:
    first = message(MsgType="text", MsgId="24000000000000001")
    assert (
        message(MsgType="text", MsgId="24000000000000001", CreateTime="1").delivery_key == first.delivery_key
    )
    # As floats the two would be one.
    assert message(MsgType="text", MsgId="24000000000000002").delivery_key != first.delivery_key
    assert first.message_id == "24000000000000001"


def test_an_event_cannot_pass_for_new_with_a_message_id() -> None:
    assert message(MsgId="1").delivery_key == message(MsgId="2").delivery_key


def test_the_key_does_not_show_who_it_is_about() -> None:
    key = message().delivery_key
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "event_key", ["", "last_trade_no_4200001", "scene-1", "QRSCENE_1", " qrscene_", "_qrscene_1"]
)
def test_a_follow_without_the_prefix_has_no_scene(event_key: str) -> None:
    read = message(Event="subscribe", EventKey=event_key)
    assert (read.action, read.scene) == (Action.FOLLOW, None)


@given(st.text())
def test_the_prefix_goes_once_and_from_a_follow_alone(scene: str) -> None:
    assert message(Event="subscribe", EventKey="qrscene_" + scene).scene == scene
    assert message(Event="SCAN", EventKey=scene).scene == scene
    assert message(Event="SCAN", EventKey="qrscene_" + scene).scene == "qrscene_" + scene


@pytest.mark.parametrize("event", ["scan", "SCAN", "Scan", "sCaN"])
def test_an_event_has_its_meaning_in_any_case(event: str) -> None:
    assert message(Event=event).action is Action.SCAN


@pytest.mark.parametrize(
    "event",
    [
        "",
        "scancode_push",
        "scancode_waitmsg",
        "user_scan_product",
        "subscribe_msg_popup_event",
        "ſcan",
        "scan ",
    ],
)
def test_an_event_that_only_looks_like_a_scan_is_none(event: str) -> None:
    read = message(Event=event, EventKey="qrscene_1")
    assert (read.action, read.scene) == (Action.OTHER_EVENT, None)


@pytest.mark.parametrize("kind", ["text", "TEXT", "image", "device_event", "events", "未知"])
def test_only_an_event_may_log_in(kind: str) -> None:
    read = message(MsgType=kind, Event="SCAN", EventKey="scene-1", Content="scene-1")
    assert (read.action, read.scene) == (Action.MESSAGE, None)


def test_the_type_has_its_meaning_in_any_case() -> None:
    assert message(MsgType="EVENT").action is Action.SCAN


@pytest.mark.parametrize("name", ["ToUserName", "FromUserName", "CreateTime", "MsgType"])
@pytest.mark.parametrize("value", [None, "", ["a", "b"], {"a": "b"}])
def test_refuses_a_push_without_its_common_fields(name: str, value: Any) -> None:
    fields: dict[str, Any] = {"ToUserName": "a", "FromUserName": "b", "CreateTime": "1", "MsgType": "text"}
    assert read_message(fields)
    if value is None:
        del fields[name]
    else:
        fields[name] = value
    with pytest.raises(MalformedXml):
        read_message(fields)


@pytest.mark.parametrize(
    "created_at",
    ["-1", "+1", "1.5", "1e9", "0x1", "1_000", " 1", "１２", "٣", "²", "now", "9" * 13, "9" * 5000],
)
def test_refuses_a_time_that_is_no_number_of_seconds(created_at: str) -> None:
    with pytest.raises(MalformedXml):
        message(CreateTime=created_at)


@pytest.mark.parametrize("openid", ["x" * 129, "a\nb", "a\0b", "a\u202eb", "a\u200bb", "\ue000"])
@pytest.mark.parametrize("name", ["FromUserName", "ToUserName"])
def test_refuses_an_id_that_is_none(name: str, openid: str) -> None:
    with pytest.raises(MalformedXml):
        message(**{name: openid})


def test_what_is_repeated_where_one_is_expected_is_not_believed() -> None:
    fields = parse(
        b"<xml><ToUserName>a</ToUserName><FromUserName>b</FromUserName><CreateTime>1</CreateTime>"
        b"<MsgType>event</MsgType><Event>SCAN</Event><Event>x</Event><EventKey>s</EventKey></xml>"
    )
    read = read_message(fields)
    assert (read.action, read.scene) == (Action.OTHER_EVENT, None)


TREES = st.recursive(
    st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(
    st.fixed_dictionaries(
        {"ToUserName": TREES, "FromUserName": TREES, "CreateTime": TREES, "MsgType": TREES},
        optional={"Event": TREES, "EventKey": TREES, "Ticket": TREES, "MsgId": TREES},
    )
)
def test_knows_one_error_only(fields: dict[str, Any]) -> None:
    try:
        read = read_message(fields)
    except MalformedXml:
        return
    assert read.delivery_key
    assert (read.scene is None) == (read.action not in LOGS_IN)
