"""The signature, with the package of Standard Webhooks as the one who knows."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as some
from standardwebhooks import Webhook, WebhookVerificationError

from webhooks import signed_headers

NEW, OLD = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
BODY = json.dumps({"type": "test", "data": {"name": "张三 👩‍💻"}}, ensure_ascii=False).encode()


def headers(*secrets: str, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    return signed_headers("msg_1", int(time.time() if at is None else at), body, secrets)


@given(
    some.binary(min_size=24, max_size=64),
    some.dictionaries(some.text(max_size=20), some.text(max_size=20)),
    some.from_regex(r"msg_[0-9a-f]{32}", fullmatch=True),
)
def test_whoever_knows_the_secret_can_verify_it(key, document, name):
    secret, body = f"whsec_{base64.b64encode(key).decode()}", json.dumps(document).encode()
    signed = signed_headers(name, int(time.time()), body, [secret])
    assert Webhook(secret).verify(body, signed) == document


@pytest.mark.parametrize("known", [NEW, OLD])
def test_while_secrets_rotate_either_of_them_will_do(known):
    assert Webhook(known).verify(BODY, headers(NEW, OLD)) == json.loads(BODY)


def test_the_secret_in_use_comes_first():
    assert headers(NEW, OLD)["webhook-signature"].split()[0] == headers(NEW)["webhook-signature"]


def test_a_former_secret_alone_is_not_enough():
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY, headers(NEW))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_the_signature_covers_name_and_time(name):
    changed = headers(NEW)
    changed[name] = "msg_2" if name == "webhook-id" else str(int(changed[name]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY, changed)


def test_the_signature_covers_the_body():
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY + b" ", headers(NEW))


def test_a_recorded_message_is_too_old_later():
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(NEW).verify(BODY, headers(NEW, at=time.time() - 3600))
