"""`python -m emulator`."""

import asyncio
import re
import secrets
import subprocess
import sys

import pytest

from tests.emulator.server import APPID, KEY, SECRET, TOKEN, fetch

ARGUMENTS = [
    "--callback-url",
    "http://127.0.0.1:9/",
    "--port",
    "0",
    "--appid",
    APPID,
    "--secret",
    SECRET,
    "--token",
    TOKEN,
]


async def test_it_prints_its_address_and_serves() -> None:
    app = ["--app-server", "http://saoma.test/", "--app-issuer", "x", "--app-key", secrets.token_hex(32)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "emulator", *ARGUMENTS, "--encoding-aes-key", KEY, *app),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address is not None
        assert (await fetch(address[0] + "/")).code == 200
        for_app = await fetch(address[0] + "/?code=http://saoma.test/s/abc")
        assert b"own app" in for_app.body
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("key", [[], ["--encoding-aes-key", "short"]])
def test_a_missing_or_wrong_key_is_named(key: list[str]) -> None:
    command = [sys.executable, "-m", "emulator", *ARGUMENTS, *key]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert run.returncode == 2
    assert "--encoding-aes-key" in run.stderr


def test_half_an_app_is_refused() -> None:
    command = [sys.executable, "-m", "emulator", *ARGUMENTS, "--encoding-aes-key", KEY, "--app-issuer", "x"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert run.returncode == 2
    assert "--app-key" in run.stderr
