"""The sites in examples/ as real processes, registered as their READMEs say: login, "Hello", sign-out."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from demo import example_sites as demo_sites
from tests.clients.programs import ROOT, java_program, npm_packages, started
from tests.clients.sites import SECRET
from tests.clients.visitor import Page, Visitor
from tests.harness import Whole, running
from tests.missing import NotHere, find, skip
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = ROOT / "examples"
LOG_IN, SIGN_OUT = "Log in", "Sign out"

Command = Callable[[Path, int], Sequence[str]]


def php(_: Path, port: int) -> Sequence[str]:
    program = find("php", "php-cli")
    modules = subprocess.run([program, "-m"], capture_output=True, text=True, check=True).stdout
    if "curl" not in modules.split():
        raise NotHere("PHP has no curl (Debian's php-curl)")
    return [program, "-S", f"127.0.0.1:{port}", "index.php"]


def java(_: Path, port: int) -> Sequence[str]:
    jar = java_program(EXAMPLES / "java")
    # For a start in seconds on two busy cores.
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-jar", str(jar)]


def flask(_: Path, port: int) -> Sequence[str]:
    for package in ("flask", "authlib", "requests"):
        if importlib.util.find_spec(package) is None:
            raise NotHere(f"there is no {package} (requirements-dev.txt)")
    return [sys.executable, "hello.py"]


def node(folder: Path, port: int) -> Sequence[str]:
    (folder / "node_modules").symlink_to(npm_packages(EXAMPLES / "node"))
    return ["node", "site.js"]


SITES: dict[str, Command] = {"php": php, "java": java, "flask": flask, "node": node}


def told(name: str) -> dict[str, Any]:
    """The entry for `sites:` as it stands in the example's README."""
    text = (EXAMPLES / name / "README.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    (site,) = yaml.safe_load(block[1])["sites"]
    return site


def registered(name: str, port: int) -> dict[str, Any]:
    """The same for this port and with a secret."""
    site = told(name)
    assert site["secret"] == "…", "nobody must copy a secret"
    home = re.search(r"127\.0\.0\.1:\d+", site["redirect_uris"][0])
    moved = yaml.safe_dump({**site, "secret": SECRET}).replace(home[0], f"127.0.0.1:{port}")
    return yaml.safe_load(moved)


@dataclass
class Example:
    name: str
    whole: Whole
    origin: str

    @property
    def home(self) -> str:
        return f"{self.origin}/"

    async def log_in(self, visitor: Visitor) -> Page:
        """To the page after the login; an example may have no page without one."""
        page = await visitor.open(self.home)
        return await visitor.open(page.link(LOG_IN)) if LOG_IN in page.text else page

    async def brought_back(self, visitor: Visitor) -> str:
        """The address, with a code in it, that a login of theirs ends at; not opened yet."""
        visitor.stops_at = f"{self.origin}/callback"
        address = (await self.log_in(visitor)).address
        visitor.stops_at = ""
        return address


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(SITES))
async def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Example]:
    name, tmp_path = request.param, tmp_path_factory.mktemp(request.param)
    folder, port = tmp_path / "example", free_port()
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("node_modules", "target"))
    try:
        command = SITES[name](folder, port)
    except NotHere as missing:
        skip(missing)
    async with running(tmp_path, sites=[registered(name, port)]) as whole:
        environment = {"LOGIN_SERVER": whole.base_url, "LOGIN_SECRET": SECRET, "PORT": str(port)}
        async with started(command, folder, port, environment) as origin:
            yield Example(name, whole, origin)


@pytest.mark.parametrize("name", list(SITES))
async def test_the_demo_knows_it(name):
    (demo,) = (site for site in demo_sites(SECRET) if site["id"] == name)
    assert {**told(name), "name": demo["name"], "secret": SECRET} == demo


async def test_hello_and_sign_out(example):
    whole, visitor = example.whole, Visitor(example.whole)
    page = await example.log_in(visitor)
    assert page.address.partition("?")[0] == example.home
    assert "Hello 微信用户" in page.text
    assert visitor.scans == 1
    assert "Hello 微信用户" in (await visitor.open(example.home)).text, "it stays logged in"
    assert visitor.scans == 1

    away = await visitor.press(page, SIGN_OUT)
    assert example.home in visitor.passed, "saoma leads back to the site"
    assert "Hello" not in away.text or visitor.scans == 2
    assert any(f"{whole.base_url}/oauth2/logout?" in address for address in visitor.passed)

    # Somebody whose name is a script.
    user = await whole.user(visitor.person)
    evil = "<script>alert('&amp;')</script>"

    async def rename(transaction):
        await transaction.users.set_chosen_name(user.id, evil)

    await whole.storage.transact(rename)
    page = await example.log_in(Visitor(whole))
    assert "Hello &" in page.text
    assert "<script" not in page.text


async def test_a_login_that_was_not_begun_here(example):
    stolen = await example.brought_back(Visitor(example.whole))
    victim = Visitor(example.whole)
    victim.stops_at = example.whole.base_url
    assert "Hello" not in (await victim.open(stolen)).text
    assert (await example.log_in(victim)).address.startswith(f"{example.whole.base_url}/oauth2/authorize?")
    for wrong in (
        stolen,  # while a login of the victim's own is under way
        f"{example.origin}/callback",
        f"{example.origin}/callback?code=x&state=",
        f"{example.origin}/callback?code[]=x&state[]=y",
    ):
        assert "Hello" not in (await victim.open(wrong)).text
        assert "Hello" not in (await victim.open(example.home)).text


async def test_another_state(example):
    visitor = Visitor(example.whole)
    brought = await example.brought_back(visitor)
    changed = re.sub(r"(?<=[?&]state=)[^&]+", "another", brought)
    assert changed != brought
    visitor.stops_at = example.whole.base_url
    assert "Hello" not in (await visitor.open(changed)).text
    assert "Hello" not in (await visitor.open(example.home)).text
