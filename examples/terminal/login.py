"""Logs somebody in to a program that has no browser: draws saoma's QR code in the terminal and waits.

Copy it: it needs pyqrcode and the standard library, nothing of saoma's. Where to log in and as which program
comes from LOGIN_SERVER, LOGIN_ID and LOGIN_SECRET: everybody on a machine can read a command's arguments.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import pyqrcode

VARIABLES = ("LOGIN_SERVER", "LOGIN_ID", "LOGIN_SECRET")
HELD_SECONDS = 20  # that the server may hold a question until there is something new
PATIENCE_SECONDS = 30.0  # for any answer
GRACE_SECONDS = 5  # past the code's end, in which the server says so itself
EXCHANGE_TRIES = 5  # an answer may get lost; the server repeats it for a minute

QUIET_ZONE = 4  # light modules around the code, without which cameras do not find it
COLOURS, PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"  # black on white, whatever the terminal's own are
HALF_BLOCKS = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}  # two modules a character

ENDINGS = {
    "CANCELLED": "已在手机上取消。 Cancelled on the phone.",
    "INVALID": "二维码已过期，请重新运行。 The code has expired: start again.",
}
SILENCE = "服务器没有回应。 The server does not answer."


def drawn(text: str) -> str:
    """The QR code of `text` in half blocks."""
    modules = pyqrcode.create(text, error="L", encoding="utf-8").code
    edge = [0] * QUIET_ZONE
    blank = [[0] * (len(modules) + 2 * QUIET_ZONE)]
    rows = blank * QUIET_ZONE + [edge + row + edge for row in modules] + blank * (QUIET_ZONE + 1)
    pairs = zip(rows[::2], rows[1::2], strict=False)  # the odd last row is blank
    lines = ("".join(HALF_BLOCKS[pair] for pair in zip(*two, strict=True)) for two in pairs)
    return "\n".join(f"{COLOURS}{line}{PLAIN}" for line in lines)


def call(server: str, method: str, path: str, authorization: str, body: Any = None) -> dict[str, Any]:
    """The JSON of the answer, problems included; {} where none came."""
    address = urlsplit(server)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.netloc, timeout=PATIENCE_SECONDS)
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


def log_in(server: str, program: str, secret: str, method: str) -> int:
    """Shows a code, tells what comes of it. The exit code."""
    basic = "Basic " + base64.b64encode(f"{program}:{secret}".encode()).decode("ascii")
    made = call(server, "POST", "/api/v1/tickets", basic, {"client": "api", "method": method})
    if "secret" not in made:
        return failed(made.get("detail", SILENCE))
    print(drawn(made["qr"]))
    print(f"请用手机扫码登录。 Scan to log in: {made['qr']}", flush=True)

    state = wait_for_phone(server, made)
    if state != "CONFIRMED":
        return failed(ENDINGS.get(state, SILENCE))
    collected = collect(server, made)
    if "token" not in collected:
        return failed(collected.get("detail", SILENCE))
    # From here on the program has a session: whatever it asks of saoma goes with this token.
    me = call(server, "GET", "/api/v1/me", f"Bearer {collected['token']}")
    if "identities" not in me:
        return failed(me.get("detail", SILENCE))
    print(f"已登录 Logged in: {printable(me['name'])}")
    for identity in me["identities"]:
        print(printable(f"  {identity['provider']}: {identity['subject']}"))
    return 0


def wait_for_phone(server: str, made: dict[str, Any]) -> str:
    """The state that the phone led to; the last one known where the server stays away."""
    state, deadline = "WAITING", time.monotonic() + made["expires_in"]
    while state in ("WAITING", "SCANNED") and time.monotonic() < deadline:
        question = f"/api/v1/tickets/{made['id']}?wait={HELD_SECONDS}&state={state}"
        seen = call(server, "GET", question, f"Ticket {made['secret']}")
        if "state" not in seen:  # the server is away or busy; the code may well outlive that
            time.sleep(made["interval"])
            continue
        if seen["state"] == "SCANNED" != state:
            name = (seen["user"] or {}).get("name", "")
            print(f"{printable(name)} 已扫码，请在手机上确认。 Scanned: confirm on the phone.", flush=True)
            if "number" in seen:
                print(f"请在手机上输入数字 Enter this number on the phone: {seen['number']}", flush=True)
        state, deadline = seen["state"], time.monotonic() + seen.get("expires_in", 0) + GRACE_SECONDS
    return state


def collect(server: str, made: dict[str, Any]) -> dict[str, Any]:
    """The login, or the server's refusal. Only who has the secret gets it; the code is for all to see."""
    collected: dict[str, Any] = {}
    for _ in range(EXCHANGE_TRIES):
        collected = call(
            server, "POST", f"/api/v1/tickets/{made['id']}/exchange", f"Ticket {made['secret']}", {}
        )
        if "token" in collected or 400 <= collected.get("status", 0) < 500:
            break
        time.sleep(made["interval"])
    return collected


def failed(why: str) -> int:
    print(printable(why), file=sys.stderr)
    return 1


def printable(text: str) -> str:
    """Names are written by strangers: no control character of theirs reaches the terminal."""
    return "".join(character for character in text if character.isprintable())


def main() -> int:
    parser = argparse.ArgumentParser(description="Logs in with a QR code. Needs " + ", ".join(VARIABLES))
    parser.add_argument("--method", choices=["app", "wechat"], default="app", help="default: %(default)s")
    method = parser.parse_args().method
    server, program, secret = (os.environ.get(name, "") for name in VARIABLES)
    if not (urlsplit(server).scheme in ("http", "https") and urlsplit(server).netloc and program and secret):
        parser.error("set " + ", ".join(VARIABLES) + " in the environment")
    return log_in(server, program, secret, method)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("")
