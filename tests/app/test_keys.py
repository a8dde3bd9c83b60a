"""The backend's published keys, from a server that may answer anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from app.keys import AGE_SECONDS, PAUSE_SECONDS, KeysUnavailable, RemoteKeys
from app.token import PUBLIC_KEY_ALGORITHMS, Policy
from errors import MethodUnavailable, Unauthenticated
from flows.app_login import AppLogin
from tests.app.keys import AUDIENCE, ISSUER, PRIVATE, SECRET, Backend, claims_now, private_pem, public_pem
from tests.flows.world import made


def published(*keys: Key, **more: Any) -> bytes:
    return json.dumps({"keys": [{**key.as_dict(private=False), **more} for key in keys]}).encode()


def rsa_key(kid: str) -> tuple[Backend, RSAKey]:
    private = rsa.generate_private_key(65537, 2048)
    return Backend("RS256", private), RSAKey.import_key(public_pem(private), {"kid": kid})


class Publisher:
    """The backend's address of keys."""

    def __init__(self) -> None:
        self.body, self.status = b"", 200
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.asked = 0
        publisher = self

        class Handler(RequestHandler):
            async def get(self) -> None:
                publisher.asked += 1
                await asyncio.sleep(publisher.delay)
                self.set_status(publisher.status)
                for name, value in publisher.headers.items():
                    self.set_header(name, value)
                self.finish(publisher.body or None)

        sockets = bind_sockets(0, "127.0.0.1")
        self._server = HTTPServer(Application([("/jwks", Handler)], log_function=lambda _: None))
        self._server.add_sockets(sockets)
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/jwks"

    async def stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    publisher = Publisher()
    yield publisher
    await publisher.stop()


class Remote(RemoteKeys):
    """With a clock that stands, far from zero as clocks are."""

    def __init__(self, url: str) -> None:
        self.seconds = 1_000_000.0
        self.http = AsyncHTTPClient(force_instance=True)
        super().__init__(url, self.http, lambda: self.seconds)

    async def kids(self, key_id: str | None = None) -> set[str | None]:
        return {key.kid for key in (await self.get(key_id)).keys}


@pytest.fixture
async def remote(publisher: Publisher) -> AsyncIterator[Remote]:
    remote = Remote(publisher.url)
    yield remote
    remote.http.close()


ONE, TWO = rsa_key("1"), rsa_key("2")
REFUSED = r"app.jwks_url answered with no set of public keys"
AWAY = r"app.jwks_url cannot be reached"


async def test_fetched_once_and_kept(publisher, remote):
    publisher.body = published(ONE[1])
    for key_id in ("1", None, "1", None):
        assert await remote.kids(key_id) == {"1"}
    remote.seconds += AGE_SECONDS - 1
    assert await remote.kids("1") == {"1"}
    assert publisher.asked == 1


async def test_old_keys_are_fetched_anew(publisher, remote):
    publisher.body = published(ONE[1])
    assert await remote.kids() == {"1"}
    publisher.body = published(TWO[1])
    remote.seconds += AGE_SECONDS
    assert await remote.kids() == {"2"}  # what is taken back is believed no longer
    assert publisher.asked == 2


async def test_unknown_keys_are_looked_for_once_a_minute(publisher, remote):
    """Strangers write tokens: what they name may not make us ask again and again."""
    publisher.body = published(ONE[1])
    assert await remote.kids("1") == {"1"}
    for number in range(50):
        assert await remote.kids(f"stranger {number}") == {"1"}
    assert publisher.asked == 1
    remote.seconds += PAUSE_SECONDS
    publisher.body = published(ONE[1], TWO[1])
    for number in range(50):
        assert await remote.kids(f"stranger {number}") == {"1", "2"}
    assert publisher.asked == 2
    assert await remote.kids("2") == {"1", "2"}
    assert publisher.asked == 2


async def test_many_at_once_fetch_once(publisher, remote):
    publisher.body, publisher.delay = published(ONE[1]), 0.1
    assert await asyncio.gather(*(remote.kids("1") for _ in range(50))) == [{"1"}] * 50
    assert publisher.asked == 1


async def test_who_gives_up_takes_nobody_with_them(publisher, remote):
    publisher.body, publisher.delay = published(ONE[1]), 0.2
    impatient, patient = (asyncio.create_task(remote.kids("1")) for _ in range(2))
    await asyncio.sleep(0.05)
    impatient.cancel()
    assert await patient == {"1"}
    assert publisher.asked == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>not yet</html>", b"null", b"[]", b"5", b'"keys"', b"{}", b"{", b"\xff\xfe"),
        b"[" * 9999,
        *(b'{"keys": null}', b'{"keys": 5}', b'{"keys": []}', b'{"keys": {}}', b'{"keys": "RSA"}'),
        *(b'{"keys": [null]}', b'{"keys": [{}]}', b'{"keys": [{"kty": "RSA"}]}', b'{"keys": [{"kty": []}]}'),
        published(OctKey.import_key(SECRET)),
        json.dumps({"keys": [OctKey.import_key(SECRET).as_dict(private=True)]}).encode(),
        json.dumps({"keys": [ONE[1].as_dict(), OctKey.import_key(SECRET).as_dict(private=True)]}).encode(),
        json.dumps({"keys": [RSAKey.import_key(private_pem(ONE[0].key)).as_dict(private=True)]}).encode(),
        published(ECKey.import_key(public_pem(PRIVATE["P-384"]))),
    ],
    ids=lambda body: ascii(body)[:16],  # keys are made anew: their names must not differ from run to run
)  # fmt: skip
async def test_what_is_no_set_of_public_keys(publisher, remote, expect_log, body):
    expect_log(REFUSED)
    publisher.body = body
    with pytest.raises(KeysUnavailable):
        await remote.get("1")
    publisher.body = published(ONE[1])
    with pytest.raises(KeysUnavailable):
        await remote.get("1")  # not again at once
    remote.seconds += PAUSE_SECONDS
    assert await remote.kids("1") == {"1"}
    publisher.body = body  # and later it harms nobody
    remote.seconds += AGE_SECONDS
    assert await remote.kids("1") == {"1"}
    assert publisher.asked == 3


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500, 503])
async def test_a_failed_fetch_keeps_the_known_keys(publisher, remote, expect_log, status):
    publisher.body = published(ONE[1])
    assert await remote.kids() == {"1"}
    expect_log(f"{AWAY}|{REFUSED}")
    other = Publisher()
    other.body = published(TWO[1])
    publisher.status, publisher.headers = status, {"Location": other.url}
    publisher.body = b"" if status == 204 else published(TWO[1])
    remote.seconds += AGE_SECONDS
    for _ in range(5):
        assert await remote.kids("1") == {"1"}
    assert (publisher.asked, other.asked) == (2, 0)  # no redirect is followed
    await other.stop()


async def test_nobody_there(publisher, remote, expect_log):
    expect_log(AWAY)
    await publisher.stop()
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await remote.get(None)


async def test_an_answer_that_does_not_come(publisher, remote, expect_log, monkeypatch):
    monkeypatch.setattr("app.keys.FETCH_SECONDS", 0.2)
    publisher.body = published(ONE[1])
    assert await remote.kids() == {"1"}
    expect_log(AWAY)
    publisher.delay = 2.0
    remote.seconds += AGE_SECONDS
    async with asyncio.timeout(1):
        assert await remote.kids() == {"1"}


async def test_keys_of_no_use_are_left_out(publisher, remote):
    """A set may hold keys for others, and kinds that nobody knew when this was written."""
    strange = [
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short"},
        *(OKPKey.import_key(public_pem(PRIVATE[name])).as_dict() for name in ("Ed448", "X25519")),
        5,
    ]
    publisher.body = json.dumps({"keys": [*strange, ONE[1].as_dict()], "more": 1}).encode()
    assert await remote.kids("1") == {"1"}


# Through the login: a token is verified with what is published.


@pytest.fixture
async def login(publisher: Publisher, tmp_path) -> AsyncIterator[Any]:
    async with made(tmp_path) as world:
        http = AsyncHTTPClient(force_instance=True)
        login: Any = AppLogin(
            world.context,
            [
                (
                    Policy(ISSUER, AUDIENCE, PUBLIC_KEY_ALGORITHMS),
                    RemoteKeys(publisher.url, http, world.clock),
                )
            ],
        )
        login.clock = world.clock
        yield login
        http.close()


def token(login: Any, backend: Backend, kid: str | None = None, **claims: Any) -> str:
    header = {} if kid is None else {"kid": kid}
    return backend.token(header=header, **{**claims_now(login.clock()), **claims})


async def test_rotation_with_overlap(publisher, login):
    publisher.body = published(ONE[1])
    assert (await login.person(token(login, ONE[0], "1"))).subject == "u1"
    with pytest.raises(Unauthenticated):
        await login.person(token(login, TWO[0], "2"))
    publisher.body = published(ONE[1], TWO[1])  # the new one beside the old
    login.clock.pass_(PAUSE_SECONDS)
    for pair, kid in ((TWO, "2"), (ONE, "1")):
        assert (await login.person(token(login, pair[0], kid))).subject == "u1"
    publisher.body = published(TWO[1])  # the old one is gone
    login.clock.pass_(AGE_SECONDS)
    assert (await login.person(token(login, TWO[0], "2"))).subject == "u1"
    with pytest.raises(Unauthenticated):
        await login.person(token(login, ONE[0], "1"))


async def test_every_kind_of_key_is_verified_with_its_own_algorithm_alone(publisher, login):
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    publisher.body = published(
        ONE[1],
        ECKey.import_key(public_pem(curve), {"kid": "ec"}),
        OKPKey.import_key(public_pem(edwards), {"kid": "ed"}),
    )
    for backend, kid in (
        (ONE[0], "1"),
        (Backend("PS256", ONE[0].key), "1"),
        (Backend("ES256", curve), "ec"),
        (Backend("EdDSA", edwards), "ed"),
        (Backend("Ed25519", edwards), "ed"),
    ):
        assert (await login.person(token(login, backend, kid))).subject == "u1"
        for other in {"1", "ec", "ed"} - {kid}:
            with pytest.raises(Unauthenticated):
                await login.person(token(login, backend, other))
    confused = Backend("HS256", public_pem(ONE[0].key).encode())
    with pytest.raises(Unauthenticated):
        await login.person(token(login, confused, "1"))


@pytest.mark.parametrize("told", [{"use": "enc"}, {"alg": "PS256"}, {"key_ops": ["encrypt"]}], ids=str)
async def test_a_key_for_something_else_verifies_nothing(publisher, login, told):
    publisher.body = published(ONE[1], **told)
    with pytest.raises(Unauthenticated):
        await login.person(token(login, ONE[0], "1"))


async def test_without_kid(publisher, login):
    """One key needs no name; of several, none is guessed."""
    publisher.body = published(ONE[1])
    assert await login.person(token(login, ONE[0]))
    publisher.body = published(ONE[1], TWO[1])
    login.clock.pass_(AGE_SECONDS)
    with pytest.raises(Unauthenticated):
        await login.person(token(login, ONE[0]))


async def test_keys_that_a_token_brings_along_are_not_used(publisher, login):
    publisher.body = published(ONE[1])
    stranger = Publisher()
    stranger.body = published(TWO[1])
    for header in ({"jwk": TWO[1].as_dict()}, {"jku": stranger.url}, {"x5u": stranger.url}):
        for kid in ({}, {"kid": "1"}, {"kid": "2"}):
            with pytest.raises(Unauthenticated):
                await login.person(TWO[0].token(header={**header, **kid}, **claims_now(login.clock())))
    assert stranger.asked == 0
    await stranger.stop()


async def test_without_any_key_the_method_is_unavailable(publisher, login, expect_log):
    expect_log(REFUSED)
    publisher.body = b"<html>"
    with pytest.raises(MethodUnavailable):
        await login.person(token(login, ONE[0], "1"))


async def test_a_clock_that_is_set_back_prolongs_no_pause(publisher, remote):
    publisher.body = published(ONE[1])
    assert await remote.kids("1") == {"1"}
    publisher.body = published(ONE[1], TWO[1])
    remote.seconds -= 3600
    assert await remote.kids("2") == {"1", "2"}
    publisher.body = published(TWO[1])
    remote.seconds -= 3600
    assert await remote.kids("2") == {"2"}, "old keys are fetched anew, too"
