"""Go's go-oidc with x/oauth2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.clients.programs import go_program, started
from tests.clients.sites import LOOPBACK, SECRET, eventually, site
from tests.clients.visitor import Visitor
from tests.harness import running
from tests.missing import NotHere, skip
from tests.ports import free_port

SOURCES = Path(__file__).parent / "go"


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return go_program(SOURCES)
    except NotHere as missing:
        skip(missing)


@asynccontextmanager
async def serving(program: Path, folder: Path) -> AsyncIterator[tuple[Visitor, str]]:
    """Somebody who visits the site, and its origin."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    registered = site(origin, backchannel_logout_uri=f"{origin}/ended")
    async with running(folder, sites=[registered], server=LOOPBACK) as whole:
        environment = {
            "ISSUER": whole.base_url,
            "CLIENT_ID": "client",
            "CLIENT_SECRET": SECRET,
            "PORT": str(port),
        }
        async with started([program], folder, port, environment):
            yield Visitor(whole), origin


async def test_login_refresh_logout(program, tmp_path):
    async with serving(program, tmp_path) as (visitor, origin):
        first = (await visitor.open(f"{origin}/login")).document
        user = await visitor.whole.user(visitor.person)
        assert (first["sub"], bool(first["name"])) == (user.id, True)
        assert (await visitor.open(f"{origin}/me")).document["sub"] == user.id

        second = (await visitor.open(f"{origin}/refresh")).document
        assert second["sub"] == user.id
        assert second["access_token"] != first["access_token"]
        assert second["refresh_token"] != first["refresh_token"]
        assert (await visitor.open(f"{origin}/me")).document["sub"] == user.id

        assert (await visitor.open(f"{origin}/logout")).address == f"{origin}/bye"
        assert not await visitor.logged_in_here()
        assert (await visitor.open(f"{origin}/me")).status == 400
        assert visitor.scans == 1
        await visitor.open(f"{origin}/login")
        assert visitor.scans == 2, "who has logged out logs in anew"


async def test_an_old_refresh_token_ends_all(program, tmp_path):
    async with serving(program, tmp_path) as (visitor, origin):
        old = (await visitor.open(f"{origin}/login")).document["refresh_token"]
        await visitor.open(f"{origin}/refresh")
        again = await visitor.open(f"{origin}/again?refresh_token={old}")
        assert (again.status, "invalid_grant" in again.text) == (400, True)
        assert (await visitor.open(f"{origin}/refresh")).status == 400
        assert (await visitor.open(f"{origin}/me")).status == 400


async def test_it_hears_of_a_logout_elsewhere(program, tmp_path):
    async with serving(program, tmp_path) as (visitor, origin):
        await visitor.open(f"{origin}/login")
        await visitor.sign_out_here()

        async def knows_nobody() -> bool:
            page = await visitor.open(f"{origin}/me")
            return "nobody is logged in" in page.text

        await eventually(knows_nobody)
