import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import vectors
from wechat.signature import matches, sign

PARTS = ("token", "1700000000", "nonce")


@vectors.each("signature_calc", families=("mp", "wecom"))
def test_signs_as_the_platform_does(vector: vectors.Vector) -> None:
    parts = vector.inputs["parts"]
    assert sign(*parts) == vector.expected["sha1_hex"]
    assert sign(*reversed(parts)) == vector.expected["sha1_hex"]
    assert matches(vector.expected["sha1_hex"], *parts)


@vectors.each("signature_property")
def test_two_pairs_may_share_one_signature_for_want_of_a_separator(vector: vectors.Vector) -> None:
    """Not wished for, but WeChat's: what one POST was seen with is its signature, never time and nonce."""
    signatures = {
        sign(vector.inputs["token"], pair["timestamp"], pair["nonce"])
        for pair in (vector.inputs["a"], vector.inputs["b"])
    }
    assert signatures == {vector.expected["a_signature"]}
    assert vector.expected["a_signature"] == vector.expected["b_signature"]


def test_sorts_by_bytes() -> None:
    # Locale order would be "_" before or after the letters, "a" before "B".
    assert sign("a", "B", "_", "1", "é") == hashlib.sha1("1B_aé".encode()).hexdigest()
    # In UTF-16 the emoji, a pair of surrogates, would come before U+FF21.
    assert sign("\U0001f600", "\uff21") == hashlib.sha1("\uff21\U0001f600".encode()).hexdigest()


@pytest.mark.parametrize(
    "wrong",
    ["", "0", "签名", "\ud800", "é" * 40, sign(*PARTS).upper(), sign(*PARTS)[:-1], sign(*PARTS) + "0"],
)
def test_refuses_any_other_text(wrong: str) -> None:
    assert not matches(wrong, *PARTS)


def test_refuses_every_changed_digit() -> None:
    right = sign(*PARTS)
    for at in range(40):
        changed = "0" if right[at] != "0" else "1"
        assert not matches(right[:at] + changed + right[at + 1 :], *PARTS)


@given(st.lists(st.text(st.characters()), min_size=1, max_size=5), st.text(st.characters()))
def test_never_raises(parts: list[str], claimed: str) -> None:
    assert matches(sign(*parts), *parts)
    assert not matches(claimed, *parts) or claimed == sign(*parts)


def test_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert not matches("claimed", *PARTS)
    assert compared == [(b"claimed", sign(*PARTS).encode())]
