"""npm's openid-client: each way to authenticate, both algorithms, every endpoint that it knows."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.programs import npm_packages, started
from tests.clients.sites import SECRET, site
from tests.clients.visitor import Visitor
from tests.harness import Whole, running
from tests.missing import NotHere, skip
from tests.ports import free_port

SOURCES = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        packages = npm_packages(SOURCES)
    except NotHere as missing:
        skip(missing)
    folder = tmp_path_factory.mktemp("node")
    for name in ("client.js", "package.json"):
        shutil.copy(SOURCES / name, folder)
    (folder / "node_modules").symlink_to(packages)
    return folder


@dataclass
class Client:
    whole: Whole
    origin: str

    def visitor(self) -> Visitor:
        return Visitor(self.whole)


@asynccontextmanager
async def serving(
    program: Path, folder: Path, authentication: str = "basic", algorithm: str = "RS256"
) -> AsyncIterator[Client]:
    port = free_port()
    public = authentication == "none"
    registered = site(
        f"http://127.0.0.1:{port}",
        id_token_alg=algorithm,
        public=public,
        **({"secret": ""} if public else {}),
    )
    async with running(folder, sites=[registered]) as whole:
        environment = {
            "ISSUER": whole.base_url,
            "CLIENT_ID": "client",
            "CLIENT_SECRET": SECRET,
            "AUTHENTICATION": authentication,
            "ALGORITHM": algorithm,
            "PORT": str(port),
        }
        async with started(["node", "client.js"], program, port, environment) as origin:
            yield Client(whole, origin)


@pytest.mark.parametrize(
    ("authentication", "algorithm"),
    [("basic", "RS256"), ("post", "ES256"), ("none", "RS256")],
)
async def test_login_refresh_logout(program, tmp_path, authentication, algorithm):
    async with serving(program, tmp_path, authentication, algorithm) as client:
        visitor, origin = client.visitor(), client.origin
        person = await visitor.open(f"{origin}/login")
        first = person.document
        user = await client.whole.user(visitor.person)
        assert visitor.scans == 1
        assert first["claims"]["sub"] == user.id
        assert first["claims"]["urn:saoma:identities"] == [
            {"provider": "wechat", "subject": visitor.person, "following": True}
        ]
        told = (await visitor.open(f"{origin}/me")).document
        assert (told["sub"], bool(told["name"])) == (user.id, True)

        second = (await visitor.open(f"{origin}/refresh")).document
        assert second["claims"]["sub"] == user.id
        assert second["access_token"] != first["access_token"]
        assert second["refresh_token"] != first["refresh_token"]
        assert (await visitor.open(f"{origin}/me")).document["sub"] == user.id
        if authentication != "none":
            looked = (await visitor.open(f"{origin}/look")).document
            assert (looked["active"], looked["sub"]) == (True, user.id)

        gone = await visitor.open(f"{origin}/logout")
        assert gone.address.startswith(f"{origin}/bye?")
        assert gone.document == {"state": "see you"}
        assert not await visitor.logged_in_here()
        assert (await visitor.open(f"{origin}/me")).status == 500, "its tokens have ended with the session"


async def test_an_old_refresh_token_ends_all(program, tmp_path):
    async with serving(program, tmp_path) as client:
        visitor, origin = client.visitor(), client.origin
        old = (await visitor.open(f"{origin}/login")).document["refresh_token"]
        assert (await visitor.open(f"{origin}/refresh")).status == 200
        again = await visitor.open(f"{origin}/again?refresh_token={old}")
        assert (again.status, '"error":"invalid_grant"' in again.text) == (500, True)
        assert (await visitor.open(f"{origin}/me")).status == 500
        assert await visitor.logged_in_here(), "the browser's own session is not the thief's"


async def test_tokens_given_back(program, tmp_path):
    async with serving(program, tmp_path) as client:
        visitor, origin = client.visitor(), client.origin
        await visitor.open(f"{origin}/login")
        assert (await visitor.open(f"{origin}/give-back")).status == 200
        assert (await visitor.open(f"{origin}/look")).document == {"active": False}


async def test_silent_and_repeated_logins(program, tmp_path):
    async with serving(program, tmp_path) as client:
        visitor, origin = client.visitor(), client.origin
        nobody = await visitor.open(f"{origin}/login?prompt=none")
        assert (nobody.status, '"error":"login_required"' in nobody.text) == (500, True)
        first = (await visitor.open(f"{origin}/login")).document
        silent = (await visitor.open(f"{origin}/login?prompt=none")).document
        assert visitor.scans == 1
        assert silent["claims"]["auth_time"] == first["claims"]["auth_time"]
        assert (await visitor.open(f"{origin}/login?max_age=1000")).status == 200
        assert visitor.scans == 1
        assert (await visitor.open(f"{origin}/login?prompt=login")).document["claims"]["sub"]
        assert visitor.scans == 2
