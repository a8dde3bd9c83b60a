"""docs/integrate.md and its Chinese twin: whatever can be run in them is right, in both the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import standardwebhooks
import yaml

from config import load
from tests.clients.programs import APACHE_MODULES, ROOT, find_apache
from tests.clients.sites import SECRET
from tests.harness import Browser, Child, running
from tests.missing import NotHere, find, skip
from webhooks import signed_headers

GUIDES = [ROOT / "docs" / "integrate.md", ROOT / "docs" / "integrate.zh-CN.md"]
READMES = sorted((ROOT / "examples").glob("*/README.md"))
WEBHOOK_SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PLACE = "https://login.example.com"


def blocks(guide: Path, language: str) -> list[str]:
    """The code blocks of a language ("": of none); those inside a list are moved to the left."""
    every = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", guide.read_text(), re.DOTALL | re.MULTILINE)
    return [
        re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
        for indent, kind, block in every
        if kind == language
    ]


def without_words(block: str) -> str:
    """The block without comments, and what people are shown."""
    block = re.sub(r'(?:^|(?<=\s))(?:#|//) .*$|""".*?"""', "", block, flags=re.MULTILINE)
    return re.sub(r"name: \S+|[ \t]+$", "", block, flags=re.MULTILINE)


@pytest.fixture(params=GUIDES, ids=lambda guide: guide.name)
def guide(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize("language", ["yaml", "sh", "apache", "html", "python", ""])
def test_both_languages_have_the_same_code(language):
    english, chinese = ([without_words(block) for block in blocks(guide, language)] for guide in GUIDES)
    assert english
    assert english == chinese


def test_settings_load(guide, tmp_path):
    for number, block in enumerate(blocks(guide, "yaml")):
        file = tmp_path / f"{number}.yaml"
        filled = block.replace("webhook_secret: …", f"webhook_secret: {WEBHOOK_SECRET}")
        file.write_text(filled.replace(" …", f" {'s' * 32}"))
        assert load(file, {}).model_fields_set - {"folder"} == set(yaml.safe_load(block))


def test_commands_are_commands(guide):
    for block in blocks(guide, "sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for path in re.findall(r"(?:cd |-S \S+ )(\S+)", block):
            assert list(ROOT.glob(f"examples/**/{path.removeprefix('examples/')}")), path


def test_what_the_demo_prints(guide):
    (printed,) = blocks(guide, "")
    labels = re.findall(r'print\(f"([^{]+)', (ROOT / "demo.py").read_text())
    assert [line[: len(label)] for line, label in zip(printed.splitlines(), labels, strict=True)] == labels


async def test_the_demo_takes_a_site_along(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(blocks(GUIDES[0], "yaml")[0].replace(" …", f" {SECRET!r}"))
    asked = {
        "client_id": "shop",
        "redirect_uri": "https://shop.example.com/callback",
        "response_type": "code",
        "state": "x",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
    }
    async with Child("demo", "--port", "0", "--settings", str(file)) as demo:
        site = re.search(r"http://[^\s/]+", await demo.says("Ctrl+C"))[0]
        answer = await Browser(site, {}).get(f"/oauth2/authorize?{urlencode(asked)}")
        assert answer.headers["Location"].startswith("/login?next=")
        assert await demo.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("page", [*GUIDES, *READMES], ids=lambda page: f"{page.parent.name}-{page.name}")
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_apache_takes_the_lines(guide, tmp_path):
    try:
        apache = find_apache()
    except NotHere as missing:
        skip(missing)
    (block,) = blocks(guide, "apache")
    names = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc")
    modules = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in names)
    file = tmp_path / "apache.conf"
    file.write_text(f"ServerName x\nServerRoot {tmp_path}\nErrorLog /dev/stderr\n{modules}\n{block}")
    checked = subprocess.run([apache, "-t", "-f", file], capture_output=True, text=True, check=False)
    assert "Syntax OK" in checked.stderr, checked.stderr


def test_the_widgets_options(guide):
    (block,) = blocks(guide, "html")
    script = (ROOT / "static" / "saoma.js").read_text()
    for option in re.findall(r"^    (\w+):", block, re.MULTILINE):
        assert re.search(rf'"{option}"', script), option


def test_a_webhook_is_verified(guide, monkeypatch):
    monkeypatch.setenv("WEBHOOK_SECRET", WEBHOOK_SECRET)
    (block,) = blocks(guide, "python")
    given: dict[str, Callable[[Mapping[str, str], bytes], Any]] = {}
    exec(block, given)
    body = json.dumps({"type": "user.followed", "data": {"name": "小王"}}).encode()
    headers = signed_headers("msg_1", int(time.time()), body, [WEBHOOK_SECRET])
    assert given["event_of"](headers, body)["type"] == "user.followed"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        given["event_of"](headers, body.replace(b"followed", b"created"))


async def test_the_calls_of_the_api(guide, tmp_path):
    sites = [
        {"id": "deploy-tool", "name": "Tool", "secret": "t" * 32},
        {"id": "shop", "name": "Shop", "secret": SECRET, "wechat_access_token": True},
    ]
    try:
        find("curl", "curl")
    except NotHere as missing:
        skip(missing)
    api, account = (block for block in blocks(guide, "sh") if "curl" in block)
    setting, *calls = [line for line in api.splitlines() if line and not line.startswith("#")]
    async with running(tmp_path, sites=sites) as whole:

        async def told(call: str, **variables: str) -> dict[str, Any]:
            """What curl is answered."""
            script = f"{setting}\n{call}".replace("the-secret-of-the-site", "t" * 32)
            script = script.replace(PLACE, whole.base_url).replace("curl", "curl -sSf")
            return await run(script, **variables)

        ticket = await told(calls[0])
        known = {"ID": ticket["id"], "SECRET": ticket["secret"]}
        waiting = asyncio.create_task(told(calls[1], **known))
        while not whole.server.broker.waiting:
            await asyncio.sleep(0.01)
        assert (await whole.emulator.phone.scan(whole.person(), ticket["qr"])).accepted
        assert (await waiting)["state"] == "CONFIRMED"
        collected = await told(calls[2], **known)
        assert collected["token"]
        assert collected["user"]["identities"][0]["subject"] == whole.person()

        lent = account.replace("the-secret-of-the-site", f"'{SECRET}'").replace(PLACE, whole.base_url)
        assert (await run(lent.replace("curl", "curl -sSf")))["access_token"]


async def run(script: str, **variables: str) -> dict[str, Any]:
    """What the shell prints, which is JSON."""
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euc", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **variables},
    )
    output, complaint = await asyncio.wait_for(shell.communicate(), 30)
    assert shell.returncode == 0, (script, output, complaint)
    return json.loads(output)
