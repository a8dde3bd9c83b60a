"""examples/static: pages behind Debian's nginx, whose configuration is the example's own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
import yaml
from tornado.httpclient import AsyncHTTPClient

from tests.clients.programs import ROOT, started
from tests.clients.visitor import Visitor
from tests.harness import Whole, running
from tests.missing import NotHere, find, skip
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLE = ROOT / "examples" / "static"
SITE, SAOMA = "127.0.0.1:9005", "127.0.0.1:8888"  # as the example says


def settings(site: str) -> dict[str, object]:
    """What the README says, for the site at this address."""
    block = re.search(r"```yaml\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert SITE in block[1]
    return yaml.safe_load(block[1].replace(SITE, site))


def configure(folder: Path, here: Mapping[str, str]) -> Path:
    """The example's site with other addresses and paths, and what Debian has around it."""
    text = (EXAMPLE / "nginx.conf").read_text()
    for theirs, ours in here.items():
        assert theirs in text, f"the example has no longer: {theirs}"
        text = text.replace(theirs, ours)
    (folder / "static.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
        events {{}}
        http {{
            include /etc/nginx/mime.types; access_log off; {places}
            include {folder}/static.conf;
        }}
        """
    )
    return main


@asynccontextmanager
async def behind_nginx(folder: Path, port: int, saoma: str) -> AsyncIterator[str]:
    """The example on this port, where `saoma` is its host and port; the site's origin."""
    try:
        nginx = find("nginx", "nginx")
    except NotHere as missing:
        skip(missing)
    shutil.copytree(EXAMPLE / "pages", folder / "pages")
    here = {SITE: f"127.0.0.1:{port}", SAOMA: saoma, "/srv/static": f"{folder}/pages"}
    main = configure(folder, here)
    async with started([nginx, "-p", folder, "-e", "stderr", "-c", main], folder, port) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_and_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Whole, str]]:
    folder, port = tmp_path_factory.mktemp("static"), free_port()
    async with (
        running(folder, **settings(f"127.0.0.1:{port}")) as whole,
        behind_nginx(folder, port, whole.base_url.removeprefix("http://")) as site,
    ):
        yield whole, site


async def test_hello_and_sign_out(whole_and_site):
    whole, site = whole_and_site
    visitor = Visitor(whole)
    page = await visitor.open(f"{site}/index.html?kept=1&so=too")
    assert (page.status, page.address) == (200, f"{site}/index.html?kept=1&so=too")
    user = await whole.user(visitor.person)
    name = "小王 <b>&"

    async def rename(transaction):
        await transaction.users.set_chosen_name(user.id, name)

    await whole.storage.transact(rename)
    assert f'Hello <span id="name">{quote(name, safe="")}</span>' in (await visitor.open(f"{site}/")).text
    assert visitor.scans == 1

    asked = await visitor.open(f"{site}/sign-out")
    assert asked.address.startswith(f"{whole.base_url}/oauth2/sign_out?")
    assert await visitor.logged_in_here(), "a link alone signs nobody out"
    back = await visitor.press(asked, "退出")
    assert f"{site}/" in visitor.passed
    assert visitor.scans == 2, "the site asks for a login again"
    assert "Hello" in back.text


async def test_what_a_client_says_of_itself_is_nothing(whole_and_site):
    whole, site = whole_and_site
    visitor = Visitor(whole)
    visitor.browser.headers |= {"Remote-User": "root", "Remote-Name": "root", "Remote_Name": "root"}
    visitor.stops_at = whole.base_url
    assert (await visitor.open(f"{site}/")).address.startswith(f"{whole.base_url}/login?next=")
    visitor.stops_at = ""
    page = await visitor.open(f"{site}/")
    assert page.status == 200
    assert "root" not in page.text


async def test_no_page_while_saoma_is_away(tmp_path):
    async with behind_nginx(tmp_path, free_port(), f"127.0.0.1:{free_port()}") as site:
        answer = await AsyncHTTPClient().fetch(f"{site}/", raise_error=False)
    assert answer.code == 500
    assert b"Hello" not in answer.body
