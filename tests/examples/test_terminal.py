"""The terminal program as a real child process: its printed code is read back, its exit code counts."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import png
import pytest

from tests.handlers.test_app import APP, bearer
from tests.harness import Whole, document, running

PROGRAM = Path(__file__).parents[2] / "examples" / "terminal" / "login.py"
TOOL = {"id": "deploy-tool", "name": "部署工具", "secret": "a secret of the deploy tool, long enough"}
HALVES = {" ": (255, 255), "▀": (0, 255), "▄": (255, 0), "█": (0, 0)}
SCALE = 6  # pixels a module


def environment(address: str, secret: str = TOOL["secret"]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONIOENCODING": "utf-8",
        "LOGIN_SERVER": address,
        "LOGIN_ID": TOOL["id"],
        "LOGIN_SECRET": secret,
    }


@dataclass
class Terminal:
    """The running program and what it has printed so far."""

    process: asyncio.subprocess.Process
    screen: str = ""

    async def shows(self, pattern: str) -> re.Match[str]:
        """Waits until the screen has it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            while not (found := re.search(pattern, self.screen)):
                line = await self.process.stdout.readline()
                assert line, f"it has ended: {self.screen}"
                self.screen += line.decode()
        return found

    async def ends(self) -> tuple[int, str, str]:
        """Exit code, the rest of what it printed, its complaint."""
        async with asyncio.timeout(10):
            rest, complaint = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, rest.decode(), complaint.decode()


@asynccontextmanager
async def started(*arguments: str, environment: dict[str, str]):
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        yield Terminal(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def code_on(screen: str) -> str:
    """What a camera in front of the terminal reads."""
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("needs zbarimg (Debian's zbar-tools)")
    lines = re.findall("\x1b\\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\\[0m", screen)
    rows = [[HALVES[one][half] for one in line for _ in range(SCALE)] for line in lines for half in (0, 1)]
    # Around it a dark terminal: the quiet zone is the program's own business.
    edge, picture = [0] * SCALE * 6, io.BytesIO()
    band = [[0] * (len(rows[0]) + 2 * len(edge))] * len(edge)
    pixels = band + [edge + row + edge for row in rows for _ in range(SCALE)] + band
    png.Writer(len(pixels[0]), len(pixels), greyscale=True).write(picture, pixels)
    reader = await asyncio.create_subprocess_exec(
        zbarimg, "--quiet", "--raw", "-",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    text, _ = await reader.communicate(picture.getvalue())
    return text.decode().strip()


async def scanned(terminal: Terminal, whole: Whole) -> tuple[str, dict[str, str]]:
    """The phone scans what the terminal shows: the ticket's path and the handle."""
    told = await terminal.shows(r"Scan to log in: (\S+)")
    assert await code_on(terminal.screen) == told[1]
    assert told[1].startswith(f"{whole.base_url}/s/")
    path = f"/api/v1/tickets/{told[1].rpartition('/')[2]}"
    answer = await whole.browser().post(f"{path}/scan", **bearer("u1", name="小王\u202e\x1b[31m"))
    assert answer.code == 200, answer.body
    assert document(answer)["site"] == TOOL["name"]
    return path, {"handle": document(answer)["handle"]}


async def test_a_login_with_the_app(tmp_path):
    async with (
        running(tmp_path, app=APP, sites=[TOOL]) as whole,
        started(environment=environment(whole.base_url)) as terminal,
    ):
        path, handle = await scanned(terminal, whole)
        await terminal.shows(r"小\*\*.* Scanned: confirm on the phone")
        assert (await whole.browser().post(f"{path}/confirm", handle, **bearer("u1"))).code == 200
        code, rest, complaint = await terminal.ends()
        assert (code, complaint) == (0, "")
        assert "Logged in: 小王" in rest
        assert "app: u1" in rest
        assert "\x1b[31m" not in terminal.screen + rest
        assert "\u202e" not in terminal.screen + rest


async def test_the_number_for_the_phone(tmp_path):
    async with (
        running(tmp_path, app={**APP, "number_match": True}, sites=[TOOL]) as whole,
        started(environment=environment(whole.base_url)) as terminal,
    ):
        path, handle = await scanned(terminal, whole)
        told = await terminal.shows(r"Enter this number on the phone: (\d\d)")
        sure = {**handle, "number": int(told[1])}
        assert (await whole.browser().post(f"{path}/confirm", sure, **bearer("u1"))).code == 200
        assert (await terminal.ends())[0] == 0


async def test_a_login_with_wechat(tmp_path):
    async with (
        running(tmp_path, sites=[TOOL]) as whole,
        started("--method", "wechat", environment=environment(whole.base_url)) as terminal,
    ):
        told = await terminal.shows(r"Scan to log in: (\S+)")
        assert await code_on(terminal.screen) == told[1]
        outcome = await whole.emulator.phone.scan(whole.person(), told[1])
        assert outcome is not None
        assert TOOL["name"] in outcome.reply_text
        code, rest, _ = await terminal.ends()
        assert code == 0
        assert f"wechat: {whole.person()}" in rest


async def test_cancelled_on_the_phone(tmp_path):
    async with (
        running(tmp_path, app=APP, sites=[TOOL]) as whole,
        started(environment=environment(whole.base_url)) as terminal,
    ):
        path, handle = await scanned(terminal, whole)
        assert (await whole.browser().post(f"{path}/cancel", handle, **bearer("u1"))).code == 200
        code, _, complaint = await terminal.ends()
        assert code == 1
        assert "Cancelled on the phone" in complaint


async def test_a_code_that_expires(tmp_path):
    async with running(tmp_path, app=APP, sites=[TOOL]) as whole:
        async with started(environment=environment(whole.base_url)) as terminal:
            told = await terminal.shows(r"Scan to log in: (\S+)")
            ticket_id = told[1].rpartition("/")[2]
            async with asyncio.timeout(10):
                while not whole.server.broker.waiting:
                    await asyncio.sleep(0.01)
            whole.clock.pass_(10_000)
            await whole.server.broker.publish(ticket_id)  # it looks again now, not in five minutes
            code, _, complaint = await terminal.ends()
        assert code == 1
        assert "expired" in complaint


async def test_a_server_that_refuses_or_is_away(tmp_path):
    async with running(tmp_path, app=APP, sites=[TOOL]) as whole:
        address = whole.base_url
        async with started(environment=environment(address, secret="x" * 40)) as terminal:
            code, _, complaint = await terminal.ends()
            assert code == 1
            assert "must be a registered site" in complaint
    async with started(environment=environment(address)) as terminal:
        code, _, complaint = await terminal.ends()
        assert code == 1
        assert "does not answer" in complaint


@pytest.mark.parametrize("missing", ["LOGIN_SERVER", "LOGIN_ID", "LOGIN_SECRET"])
async def test_a_variable_that_is_missing(missing):
    given = environment("http://127.0.0.1:9")
    del given[missing]
    async with started(environment=given) as terminal:
        code, _, complaint = await terminal.ends()
    assert code == 2
    assert missing in complaint
