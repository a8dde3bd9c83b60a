"""Debian's Apache with libapache2-mod-auth-openidc before a page that says who reads it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.clients.programs import APACHE_MODULES, find_apache, started
from tests.clients.sites import LOOPBACK, SECRET, eventually, site
from tests.clients.visitor import Page, Visitor
from tests.harness import running
from tests.missing import NotHere, skip
from tests.ports import free_port

CONFIGURATION = Path(__file__).parent / "apache" / "apache.conf"
PAGE = """<h1>Hello <!--#echo encoding="entity" var="OIDC_CLAIM_name" --></h1>
<p id="user"><!--#echo var="REMOTE_USER" --></p>"""
COOKIE = "mod_auth_openidc_session"


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return find_apache()
    except NotHere as missing:
        skip(missing)


@dataclass
class Site:
    visitor: Visitor
    origin: str

    async def open(self, path: str) -> Page:
        return await self.visitor.open(f"{self.origin}{path}")

    async def tokens(self) -> dict[str, str]:
        return (await self.open("/private/callback?info=json")).document

    async def back_to(self, action: str, path: str, **more: str) -> Page:
        """One of the module's own actions (logout, refresh), which leads to `path`."""
        query = urlencode({action: f"{self.origin}{path}", **more}, quote_via=quote)
        return await self.open(f"/private/callback?{query}")


@contextmanager
def place() -> Iterator[Path]:
    """Apache's folder with its pages; not in tmp_path, where www-data has no way into."""
    with tempfile.TemporaryDirectory(prefix="saoma-apache-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "pages" / "private").mkdir(parents=True)
        (folder / "pages" / "private" / "index.html").write_text(PAGE)
        (folder / "pages" / "bye.html").write_text("bye")
        yield folder


@asynccontextmanager
async def serving(program: str, settings: Path) -> AsyncIterator[Site]:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    registered = site(
        origin,
        redirect_uris=[f"{origin}/private/callback"],
        post_logout_redirect_uris=[f"{origin}/bye.html"],
        backchannel_logout_uri=f"{origin}/private/callback?logout=backchannel",
    )
    with place() as folder:
        async with running(settings, sites=[registered], server=LOOPBACK) as whole:
            environment = {
                "PORT": str(port),
                "FOLDER": str(folder),
                "MODULES": str(APACHE_MODULES),
                "ISSUER": whole.base_url,
                "CLIENT_SECRET": SECRET,
                "PASSPHRASE": "of this test",
            }
            root = ["-D", "ROOT"] if os.geteuid() == 0 else []
            command = [program, "-f", str(CONFIGURATION), "-D", "FOREGROUND", *root]
            async with started(command, folder, port, environment):
                yield Site(Visitor(whole), origin)


async def test_login_refresh_logout(program, tmp_path):
    async with serving(program, tmp_path) as apache:
        visitor = apache.visitor
        page = await apache.open("/private/index.html")
        user = await visitor.whole.user(visitor.person)
        assert page.status == 200
        assert f'<p id="user">{user.id}</p>' in page.text
        first = await apache.tokens()
        assert first["userinfo"]["sub"] == user.id
        assert f"<h1>Hello {first['userinfo']['name']}</h1>" in page.text
        assert first["id_token"]["urn:saoma:identities"][0]["subject"] == visitor.person
        assert visitor.scans == 1

        page = await apache.back_to("refresh", "/private/index.html", access_token=first["access_token"])
        assert (page.status, page.address) == (200, f"{apache.origin}/private/index.html")
        second = await apache.tokens()
        assert second["access_token"] != first["access_token"]
        assert second["refresh_token"] != first["refresh_token"]

        page = await apache.back_to("logout", "/bye.html")
        assert (page.text, page.address) == ("bye", f"{apache.origin}/bye.html")
        assert not await visitor.logged_in_here()
        assert (await apache.open("/private/index.html")).status == 200
        assert visitor.scans == 2, "who has logged out logs in anew"


async def test_an_old_refresh_token_ends_all(program, tmp_path):
    async with serving(program, tmp_path) as apache:
        await apache.open("/private/index.html")
        first = await apache.tokens()
        await apache.back_to("refresh", "/private/index.html", access_token=first["access_token"])
        second = await apache.tokens()
        whole = apache.visitor.whole
        again = await whole.browser().request(
            "POST",
            "/oauth2/token",
            body=urlencode(
                {
                    "grant_type": "refresh_token",
                    "refresh_token": first["refresh_token"],
                    "client_id": "client",
                    "client_secret": SECRET,
                }
            ),
            headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": ""},
        )
        assert again.code == 400
        failed = await apache.back_to("refresh", "/private/index.html", access_token=second["access_token"])
        assert "error_code=refresh_failed" in failed.address


async def test_it_hears_of_a_logout_elsewhere(program, tmp_path):
    async with serving(program, tmp_path) as apache:
        await apache.open("/private/index.html")
        another = Visitor(apache.visitor.whole)  # who has nothing but Apache's cookie
        another.browser.cookies[COOKIE] = apache.visitor.browser.cookies[COOKIE]

        async def knows_nobody() -> bool:
            return (await another.open(f"{apache.origin}/private/callback?info=json")).status == 401

        assert not await knows_nobody()
        await apache.visitor.sign_out_here()
        await eventually(knows_nobody)
