import base64
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import platform, vectors
from wechat.crypto import DecryptionFailed, MessageCrypto, decode_key
from wechat.signature import sign
from wechat.xml import MalformedXml, parse, text_of

CRYPTO = MessageCrypto(platform.KEY, platform.APPID)
EVERY_FAMILY = ("mp", "wecom", "component")  # the bytes are the same for all of them
MESSAGE = b"<xml><Content>hello</Content></xml>"


@vectors.each("aes_decrypt", families=EVERY_FAMILY)
def test_decrypts(vector: vectors.Vector) -> None:
    encrypted = text_of(parse(vector.inputs["body"].encode()), "Encrypt")
    crypto = MessageCrypto(vector.inputs["encodingAESKey"], vector.inputs["appid"])
    try:
        message = crypto.decrypt(encrypted)
    except DecryptionFailed:
        # Made by a library that pads to 16: it may be read or refused.
        assert vector.optional
    else:
        assert message.decode() == vector.expected["plaintext"]


@vectors.each("url_verify_encrypted", families=EVERY_FAMILY)
def test_decrypts_what_other_products_send(vector: vectors.Vector) -> None:
    crypto = MessageCrypto(vector.inputs["encodingAESKey"], vector.inputs["appid"])
    assert crypto.decrypt(vector.inputs["echostr"]).decode() == vector.expected["response_body"]


@vectors.each("aes_encrypt", families=EVERY_FAMILY)
def test_encrypts_to_the_byte(vector: vectors.Vector) -> None:
    inputs, expected = vector.inputs, vector.expected
    crypto = MessageCrypto(inputs["encodingAESKey"], inputs["appid"])
    encrypted = crypto.encrypt(inputs["plaintext"].encode(), inputs["random16"].encode())
    assert encrypted == expected["encrypt_base64"]
    assert crypto.decrypt(encrypted).decode() == inputs["plaintext"]
    if "msg_signature" in expected:
        signed = sign(inputs["token"], inputs["timestamp"], inputs["nonce"], encrypted)
        assert signed == expected["msg_signature"]


def test_does_not_care_what_the_message_is() -> None:
    """That is the XML reader's to refuse."""
    plaintext = vectors.named("wecheat-enc-malformed-xml").inputs["plaintext"]
    assert CRYPTO.decrypt(CRYPTO.encrypt(plaintext.encode(), platform.RANDOM)).decode() == plaintext
    with pytest.raises(MalformedXml):
        parse(plaintext.encode())


@vectors.each("bad_base64", "bad_truncated", "bad_padding", "bad_length", "bad_utf8", "bad_appid")
def test_refuses_what_is_not_intact(vector: vectors.Vector) -> None:
    encrypted = text_of(parse(vector.inputs["body"].encode()), "Encrypt")
    crypto = MessageCrypto(vector.inputs["encodingAESKey"], vector.inputs["appid"])
    with pytest.raises(DecryptionFailed):
        crypto.decrypt(encrypted)


@vectors.each("good_key")
def test_takes_a_key_whose_last_bits_are_set(vector: vectors.Vector) -> None:
    assert decode_key(vector.inputs["encodingAESKey"]).hex() == vector.expected["key_hex"]


@vectors.each("bad_key", families=EVERY_FAMILY)
def test_refuses_a_bad_key_at_the_start(vector: vectors.Vector) -> None:
    with pytest.raises(ValueError, match="EncodingAESKey"):
        MessageCrypto(vector.inputs["encodingAESKey"], platform.APPID)


@pytest.mark.parametrize(
    "key",
    [
        platform.KEY + "=",
        platform.KEY + "\n",
        " " + platform.KEY[1:],
        platform.KEY[:-1] + "_",
        platform.KEY[:-1] + "é",
        platform.KEY[:-1] + "１",
        platform.KEY[:21] + "\n" + platform.KEY[22:],
    ],
)
def test_refuses_a_key_with_other_characters(key: str) -> None:
    with pytest.raises(ValueError, match="EncodingAESKey"):
        decode_key(key)


@given(st.text(), st.binary(min_size=16, max_size=16))
def test_reads_what_it_wrote(text: str, random: bytes) -> None:
    encrypted = CRYPTO.encrypt(text.encode(), random)
    assert CRYPTO.decrypt(encrypted) == text.encode()
    assert platform.open_frame(encrypted) == (random, text.encode(), platform.APPID.encode())


@given(st.text())
def test_reads_what_the_platform_wrote(text: str) -> None:
    encrypted = platform.encrypt(platform.padded(platform.frame(text.encode())))
    assert CRYPTO.decrypt(encrypted) == text.encode()


@pytest.mark.parametrize("length", range(64))
def test_pads_every_length_to_blocks_of_32(length: int) -> None:
    encrypted = CRYPTO.encrypt(b"x" * length, platform.RANDOM)
    assert len(base64.b64decode(encrypted)) % 32 == 0
    assert platform.open_frame(encrypted).message == b"x" * length
    assert CRYPTO.decrypt(encrypted) == b"x" * length


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_wants_sixteen_random_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="16"):
        CRYPTO.encrypt(MESSAGE, b"r" * size)


@pytest.mark.parametrize("size", [1, 2, 16, 17, 31, 32])
def test_refuses_padding_with_any_wrong_byte(size: int) -> None:
    # 36 bytes of frame, so that the message decides how much padding there is.
    text = b"x" * ((32 - size - len(platform.frame(b""))) % 32)
    data = platform.padded(platform.frame(text))
    assert data[-1] == size
    assert CRYPTO.decrypt(platform.encrypt(data)) == text
    for at in range(len(data) - size, len(data)):
        for value in set(range(256)) - {size}:
            with pytest.raises(DecryptionFailed):
                CRYPTO.decrypt(platform.encrypt(data[:at] + bytes([value]) + data[at + 1 :]))


@pytest.mark.parametrize("size", [0, 33, 48, 64, 128, 255])
def test_refuses_padding_of_a_size_that_is_none(size: int) -> None:
    """Every byte of it is the size, as it should be: the size alone is wrong."""
    padding = bytes([size]) * (size or 32)
    text = b"x" * (-len(platform.frame(b"") + padding) % 32)
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(platform.encrypt(platform.frame(text) + padding))


@pytest.mark.parametrize("length", [0, 1, 4, 6, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_refuses_every_wrong_length(length: int) -> None:
    frame = platform.RANDOM + length.to_bytes(4, "big") + b"hello" + platform.APPID.encode()
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(platform.encrypt(platform.padded(frame)))


@pytest.mark.parametrize("size", range(21))
def test_refuses_a_frame_that_ends_early(size: int) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(platform.encrypt(platform.padded(platform.frame(MESSAGE)[:size])))


@pytest.mark.parametrize(
    "appid",
    ["", "wx", platform.APPID[:-1], platform.APPID + "0", platform.APPID.upper(), "\0" + platform.APPID],
)
def test_refuses_another_appid(appid: str) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(platform.encrypt(platform.padded(platform.frame(MESSAGE, appid=appid))))


def test_refuses_another_key() -> None:
    with pytest.raises(DecryptionFailed):
        MessageCrypto(platform.OTHER_KEY, platform.APPID).decrypt(CRYPTO.encrypt(MESSAGE, platform.RANDOM))


def test_a_blank_appid_cannot_be_set() -> None:
    """With none to compare, a message for anybody else's account would do."""
    with pytest.raises(ValueError, match="appid"):
        MessageCrypto(platform.KEY, "")


@pytest.mark.parametrize("message", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"ok\xe4\xbd"])
def test_refuses_what_is_not_utf8(message: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(platform.encrypt(platform.padded(platform.frame(message))))


ENCRYPTED = platform.encrypt(platform.padded(platform.frame(MESSAGE)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "A",
        "AAAA",
        "é" * 64,
        "\ud800" * 64,
        "１" * 64,
        ENCRYPTED[:-1],
        ENCRYPTED[1:],
        " " + ENCRYPTED,
        ENCRYPTED + "\n",
        ENCRYPTED[:76] + "\r\n" + ENCRYPTED[76:],
        ENCRYPTED + "!",
        "@" + ENCRYPTED,
        ENCRYPTED + "====",
        ENCRYPTED + ENCRYPTED,
        ENCRYPTED.replace("+", "-").replace("/", "_").replace("A", "_"),
    ],
)
def test_refuses_what_is_no_base64_of_whole_blocks(text: str) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(text)


@given(st.text(st.characters()) | st.binary(max_size=256).map(lambda raw: base64.b64encode(raw).decode()))
def test_knows_one_error_only(text: str) -> None:
    with pytest.raises(DecryptionFailed):
        CRYPTO.decrypt(text)


def test_random_blocks_are_refused_by_the_one_error() -> None:
    for _ in range(500):
        with pytest.raises(DecryptionFailed):
            CRYPTO.decrypt(base64.b64encode(secrets.token_bytes(64)).decode())
