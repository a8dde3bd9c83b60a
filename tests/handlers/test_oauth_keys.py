"""The keys that sign: how they come, change and are kept."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sqlite3
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from errors import StoreUnavailable
from flows.signing import Signer
from tests.handlers.relying_party import SITE, RelyingParty
from tests.harness import Browser, Whole, document, running

HOUR, DAY = 3600.0, 86400.0
DAILY: dict[str, Any] = {"oidc": {"key_lifetime": DAY}, "wechat": {"pool_size": 0}}


def kid_of(token: str) -> str:
    return json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))["kid"]


async def published(whole: Whole) -> dict[str, Any]:
    """The public keys of RS256 by `kid`."""
    answer = await whole.browser().get("/oauth2/jwks")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.headers["Content-Type"] == "application/json"
    return {key["kid"]: key for key in document(answer)["keys"] if key["alg"] == "RS256"}


async def id_token(whole: Whole, browser: Browser) -> str:
    return (await RelyingParty(whole).given(browser))["id_token"]


def verifies(keys: dict[str, Any], token: str) -> bool:
    try:
        jwt.decode(token, KeySet.import_key_set({"keys": list(keys.values())}), algorithms=["RS256"])
    except (JoseError, ValueError):
        return False
    return True


async def test_keys_take_turns_and_nobody_meets_one_that_was_not_published(tmp_path):
    """A site looks at the key set every few hours; whatever was signed since verifies against that."""
    async with running(tmp_path, sites=[SITE], **DAILY) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        tokens: list[str] = []
        for _ in range(9):
            looked = await published(whole)
            whole.clock.pass_(6 * HOUR)
            tokens.append(await id_token(whole, browser))
            assert verifies(looked, tokens[-1])
        turns = [kid_of(token) for token in tokens]
        assert sorted(turns, key=turns.index) == turns, "none comes back"
        assert len(set(turns)) == 3, "one a day"
        last = await published(whole)
        assert all(verifies(last, token) for token in tokens), "for a week after its key's turn"
        whole.clock.pass_(6 * DAY)
        later = await published(whole)
        assert not verifies(later, tokens[0])
        assert verifies(later, tokens[-1])


async def test_after_a_pause_nobody_meets_an_unknown_key_either(tmp_path):
    async with running(tmp_path, sites=[SITE], **DAILY) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        old = kid_of(await id_token(whole, browser))
        whole.clock.pass_(4 * DAY)
        assert kid_of(await id_token(whole, browser)) == old
        looked = await published(whole)
        whole.clock.pass_(2 * HOUR)
        new = await id_token(whole, browser)
        assert kid_of(new) != old
        assert verifies(looked, new)


async def test_a_restart_keeps_the_keys(tmp_path):
    kept = []
    for _ in range(2):
        async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
            kept.append(await published(whole))
    assert kept[0] == kept[1]


async def test_another_address_of_ours_is_another_issuer(tmp_path):
    """Our keys alone do not make it a token of this issuer."""
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        browser, former = whole.browser(), whole.server.port
        await whole.log_in(browser, whole.person())
        hint = await id_token(whole, browser)
        assert "code" in await RelyingParty(whole).authorize(browser, prompt="none", id_token_hint=hint)
    taken = socket.create_server(("127.0.0.1", former))
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        taken.close()
        visitor = whole.browser()
        visitor.cookies = browser.cookies
        assert verifies(await published(whole), hint)
        refused = await RelyingParty(whole).authorize(visitor, prompt="none", id_token_hint=hint)
        assert refused["error"] == "login_required"


async def test_a_copy_of_the_database_cannot_sign(tmp_path):
    """Nor does the key set tell more than it must."""
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        answer = document(await whole.browser().get("/oauth2/jwks"))
        signer = Signer(whole.server.context)
        await signer.ready()
        keys: list[dict[str, Any]] = [dict(key.private.as_dict(private=True)) for key in signer._keys]
        assert {key["alg"] for key in keys} == {"RS256", "ES256"}
        await whole.storage.ping()
    names = [file for file in (tmp_path / "data").iterdir() if "saoma.db" in file.name]
    stored = b"".join(file.read_bytes() for file in names)
    for key in keys:
        assert key["kid"].encode() in stored
        for part in ("d", "p", "q", "dp", "dq", "qi"):
            if part not in key:
                continue
            raw = base64.urlsafe_b64decode(key[part] + "==")
            for spelled in (key[part].encode(), raw, raw.hex().encode(), raw[:16], raw[:16].hex().encode()):
                assert spelled not in stored
    assert all(not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys() for key in answer["keys"])


async def test_under_another_secret_key_there_are_new_keys_and_a_line_in_the_log(tmp_path, expect_log):
    """And the former token is nobody's."""
    secrets = [{"secret_key": letter * 32} for letter in "ab"]
    async with running(tmp_path, sites=[SITE], server=secrets[0], wechat={"pool_size": 0}) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        former, keys = await id_token(whole, browser), await published(whole)
        assert verifies(keys, former)
    expect_log("signing key RS256/1 was sealed under another server.secret_key")
    expect_log("signing key ES256/1 was sealed under another server.secret_key")
    async with running(tmp_path, sites=[SITE], server=secrets[1], wechat={"pool_size": 0}) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        fresh = await id_token(whole, browser)
        now = await published(whole)
        assert not now.keys() & keys.keys()
        assert verifies(now, fresh)
        assert not verifies(now, former)
        hinted = RelyingParty(whole)
        assert (await hinted.authorize(browser, prompt="none", id_token_hint=former))[
            "error"
        ] == "login_required"
        whole.clock.pass_(120)
        assert await published(whole) == now, "once"


async def test_a_sealed_key_that_was_tampered_with_is_not_used(tmp_path, expect_log):
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        before = await published(whole)
    for change in (
        "UPDATE signing_keys SET sealed = substr(sealed, 1, 100) || '00' || substr(sealed, 103)",
        "UPDATE signing_keys SET sealed = ''",
        "UPDATE signing_keys SET sealed = 'no hex'",
    ):
        (path,) = (tmp_path / "data").glob("saoma.db")
        database = sqlite3.connect(path)
        with database:
            database.execute(change)
        database.close()
        expect_log("was sealed under another server.secret_key")
        async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
            after = await published(whole)
            assert after
            assert not after.keys() & before.keys()
            before = after


async def test_made_at_once_by_many_they_are_one_set(tmp_path):
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        signers = [Signer(whole.server.context) for _ in range(6)]
        sets = await asyncio.gather(*(signer.public_set() for signer in signers for _ in range(3)))
        assert all(found == sets[0] for found in sets)
        assert sorted(key["alg"] for key in sets[0]["keys"]) == ["ES256", "RS256"]
        token = await signers[0].id_token(whole.server.settings.sites[0], {"iss": whole.base_url, "sub": "x"})
        assert (await signers[5].verified(token)) == {"iss": whole.base_url, "sub": "x"}


async def test_without_a_store_and_without_keys_nothing_is_signed(tmp_path):
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        whole.store_goes_away()
        answer = await whole.browser().get("/oauth2/jwks")
        assert answer.code == 503
        assert document(answer)["error"] == "temporarily_unavailable"
        assert "public" not in answer.headers["Cache-Control"], "nobody keeps that"
        with pytest.raises(StoreUnavailable):
            await Signer(whole.server.context).ready()
