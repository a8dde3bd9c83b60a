import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import platform, vectors
from wechat.messages import Message, read_message
from wechat.replies import MAX_TEXT_BYTES, SUCCESS, text_reply
from wechat.xml import parse, write

INCOMING = read_message(parse(platform.scan()))


def caused_by(openid: str, account: str) -> Message:
    return Message(account, openid, 1, "text", "", "", "", "1")


def content_of(reply: bytes) -> object:
    return parse(reply)["Content"]


@vectors.each("passive_reply", only=lambda vector: "fields" in vector.expected)
def test_reads_and_writes_every_reply(vector: vectors.Vector) -> None:
    fields = vector.expected["fields"]
    sample = vector.expected.get("xml_sample") or vector.expected["one_correct_xml"]
    assert parse(sample.encode()) == fields
    assert parse(write(fields).encode()) == fields


@vectors.each("passive_reply", only=lambda vector: vector.inputs["reply_type"] == "text")
def test_replies_with_a_text(vector: vectors.Vector) -> None:
    fields = vector.expected["fields"]
    incoming = caused_by(openid=fields["ToUserName"], account=fields["FromUserName"])
    reply = text_reply(incoming, fields["Content"], float(fields["CreateTime"]))
    assert parse(reply) == fields


def test_replies_to_the_byte() -> None:
    vector = vectors.named("fastwego-reply-text-chinese")
    inputs = vector.inputs
    reply = text_reply(caused_by(inputs["to"], inputs["frm"]), inputs["content"], inputs["create_time"])
    assert reply.decode() == vector.expected["xml_sample"]


@vectors.each("passive_reply", only=lambda vector: vector.inputs["reply_type"] is None)
def test_nothing_to_say_is_said_with_success(vector: vectors.Vector) -> None:
    assert vector.expected["body"].encode() == SUCCESS


def test_a_reply_goes_back_in_whole_seconds() -> None:
    assert parse(text_reply(INCOMING, "hi", 1700000000.999)) == {
        "ToUserName": platform.OPENID,
        "FromUserName": platform.ACCOUNT,
        "CreateTime": "1700000000",
        "MsgType": "text",
        "Content": "hi",
    }


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("character", ["a", "é", "扫", "😀"])
def test_is_cut_at_a_whole_character(before: int, character: str) -> None:
    text = "x" * before + character * 3000
    size = len(character.encode())
    fitting = (2048 - before) // size
    assert content_of(text_reply(INCOMING, text, 0)) == "x" * before + character * fitting


def test_is_cut_only_beyond_the_limit() -> None:
    assert MAX_TEXT_BYTES == 2048
    assert content_of(text_reply(INCOMING, "a" * 2048, 0)) == "a" * 2048
    assert content_of(text_reply(INCOMING, "a" * 2049, 0)) == "a" * 2048


def test_the_cut_cannot_open_a_section() -> None:
    for length in range(2040, 2050):
        text = "a" * length + "]]><Evil/>"
        assert parse(text_reply(INCOMING, text, 0)) == parse(text_reply(INCOMING, text[:2048], 0))
        assert content_of(text_reply(INCOMING, text, 0)) == text[:2048]


@given(st.text(st.characters(), max_size=3000) | st.integers(0, 1100).map("😀]]>".__mul__))
def test_any_text_makes_a_reply_that_can_be_read(text: str) -> None:
    fields = parse(text_reply(INCOMING, text, 0))
    assert set(fields) == {"ToUserName", "FromUserName", "CreateTime", "MsgType", "Content"}
    assert len(str(fields["Content"]).encode("utf-8")) <= 2048
