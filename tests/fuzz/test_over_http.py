"""A server as a process of its own, and a flood of deliveries that are not WeChat's.

SAOMA_HTTP_CASES says how many for each mode; `make fuzz` sends many.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from emulator import Emulator, Push
from emulator.phone import scan_fields
from tests.handlers.attacks import in_chunks
from tests.harness import CALLBACK, Answer, Browser, Child, Wire, new_account, write_settings
from tests.ports import free_port
from tests.wechat import platform
from wechat.callback import Gate, Mode, Refused
from wechat.crypto import MessageCrypto

CASES = int(os.environ.get("SAOMA_HTTP_CASES", "500"))
VARYING = {"date", "x-request-id"}
WINDOW = 300.0
JUNK = (
    b"\0",
    b"\xff\xfe",
    b"<a>",
    b"</xml>",
    b"]]>",
    b"<!DOCTYPE x []>",
    b"&a;",
    b"%00",
    "签".encode(),
    b" " * 70_000,
)
HEADERS = (
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=",
    "Content-Type: \x80;;=",
    "Content-Encoding: gzip",
    "Authorization: Bearer " + "x" * 500,
    "Cookie: saoma-session=" + "y" * 300 + "; ;=;",
    "Accept-Language: " + "q=,;" * 200,
    "X-Forwarded-For: 1.2.3.4, \xff",
    "X-HTTP-Method-Override: GET",
    "Origin: null",
    "If-None-Match: *",
    "Range: bytes=0-0",
    "Expect: nothing",
)
METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO", "post")
BROKEN = (  # no HTTP at all: whatever is said of it, the server goes on
    b"\r\n\r\n\r\n",
    b"POST /wechat/callback HTTP/9.9\r\n\r\n",
    b"POST /wechat/callback HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /wechat/callback HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST /wechat/callback HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nz",
    b"POST /wechat/callback HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /wechat/callback HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"POST /wechat/callback?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /wechat/callback\r\n\r\n",
)


class Mutator:
    """Deliveries made of an honest one; `gate` says which of them have become honest again."""

    def __init__(self, push: Callable[[], Push], emulator: Emulator, host: str, seed: int) -> None:
        account = emulator.platform.account
        self._push, self._emulator, self._host = push, emulator, host
        self._chance = random.Random(seed)
        cryptos = (
            (MessageCrypto(account.encoding_aes_key, account.appid),) if account.encoding_aes_key else ()
        )
        self._gate = Gate(account.mode, (account.token,), cryptos, WINDOW)

    def refused(self, count: int) -> Iterator[bytes]:
        """Whole requests, so many, each of which has to be refused."""
        made = 0
        while made < count:
            query, body = self._delivery()
            try:
                self._gate.open(query, body, time.time())
            except Refused:
                made += 1
                yield self.request(query, body)

    def request(self, query: str, body: bytes) -> bytes:
        chance = self._chance
        lines = [f"POST {CALLBACK}?{query} HTTP/1.1", f"Host: {self._host}"]
        lines += chance.sample(HEADERS, chance.randrange(3))
        if chance.random() < 0.3:
            head = "\r\n".join([*lines, "Transfer-Encoding: chunked"]).encode("latin-1")
            return head + b"\r\n\r\n" + in_chunks(body, chance.choice((1000, 7, 60_000)) if body else 1)
        lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def _delivery(self) -> tuple[str, bytes]:
        push = self._push()
        query, body, clear = urlsplit(push.url).query, push.body, push.clear_xml.encode()
        match self._chance.randrange(6):
            case 0:
                return self._changed_query(query), body
            case 1:
                return query, self._changed(body)
            case 2:
                return self._changed_query(query), self._changed(body)
            case 3:
                return self._sealed(self._changed(clear), 0)
            case 4:
                return self._sealed(clear, self._chance.choice((-301, 400, -(10**9), 10**11)))
            case _:
                return self._of_another_mode(clear)

    def _changed_query(self, query: str) -> str:
        chance, pairs = self._chance, parse_qsl(query)
        place = chance.randrange(len(pairs))
        name, value = pairs[place]
        match chance.randrange(7):
            case 0:
                del pairs[place]
            case 1:
                pairs.append((name, value))
            case 2:
                pairs[place] = (name.upper(), value)
            case 3:
                pairs[place] = (name, value[:-1] + chance.choice("0123456789abcdefx"))
            case 4:
                pairs[place] = (name, "")
            case 5:
                pairs += [(f"x{number}", "1") for number in range(chance.choice((5, 20)))]
            case _:
                return urlencode(pairs) + "&" + quote(chance.choice(JUNK[:9]), safe="%&")
        return urlencode(pairs)

    def _changed(self, body: bytes) -> bytes:
        chance = self._chance
        place = chance.randrange(len(body))
        match chance.randrange(6):
            case 0:
                return body[:place]
            case 1:
                return body[:place] + bytes([body[place] ^ (1 << chance.randrange(8))]) + body[place + 1 :]
            case 2:
                return body[:place] + chance.choice(JUNK) + body[place:]
            case 3:
                return body[:place] + body[chance.randrange(len(body)) :]
            case 4:
                depth = chance.choice((20, 9000))
                return b"<xml>" + b"<a>" * depth + body
            case _:
                return chance.randbytes(chance.choice((0, 1, 50, 3000)))

    def _sealed(self, clear: bytes, seconds: int) -> tuple[str, bytes]:
        """Rightly signed, for a time that many seconds from now; something is wrong inside."""
        account, stamp = self._emulator.platform.account, str(int(time.time()) + seconds)
        if account.mode is Mode.PLAIN:
            return platform.query(account.token, stamp), clear
        appid = account.appid if seconds or self._chance.random() < 0.7 else "wx0"
        encrypted = platform.encrypt(platform.padded(platform.frame(clear, appid)), account.encoding_aes_key)
        if self._chance.random() < 0.2:
            encrypted = encrypted[: -self._chance.randrange(1, 40)]
        body = platform.compatible_envelope(encrypted, clear) if account.mode is Mode.COMPATIBLE else None
        pushed = platform.encrypted_push(encrypted, body, token=account.token, timestamp=stamp)
        return pushed.query, pushed.body

    def _of_another_mode(self, clear: bytes) -> tuple[str, bytes]:
        """As another mode would send it, with a signature that holds for that mode."""
        account, stamp = self._emulator.platform.account, str(int(time.time()))
        if account.mode is not Mode.PLAIN:
            more = {"encrypt_type": self._chance.choice(("raw", "aes", ""))}
            return platform.query(account.token, stamp, **more), clear
        encrypted = platform.encrypt(platform.padded(platform.frame(clear, account.appid)))
        return platform.encrypted_push(encrypted, token=account.token, timestamp=stamp)


def shown(answer: Answer) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    headers = sorted(pair for pair in answer.headers.get_all() if pair[0].lower() not in VARYING)
    return answer.status, answer.body, tuple(headers)


def resident(process_id: int) -> float:
    """Megabytes that the process has in memory."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


@pytest.mark.parametrize("mode", Mode)
async def test_a_flood_of_forgeries(tmp_path, mode):
    emulator = Emulator.start(new_account(mode), timeout=10.0)
    port = free_port()
    settings = write_settings(
        tmp_path,
        emulator.platform.account,
        emulator.base_url,
        server={"port": port},
        limits={"enabled": False},
    )
    emulator.deliver_to(f"http://127.0.0.1:{port}{CALLBACK}")
    try:
        async with Child.serving(settings) as child:
            await child.says("serving", 60)
            assert child.process is not None
            browser = Browser(f"http://127.0.0.1:{port}", {})
            ticket_id = await browser.open_login()
            code = next(one for one in emulator.platform.codes.values() if one.scene == ticket_id)
            person = next(iter(emulator.platform.people))

            def push() -> Push:
                return emulator.courier.build(person, scan_fields(code))

            mutator = Mutator(push, emulator, f"127.0.0.1:{port}", CASES)
            await flood(port, child.process.pid, mutator)
            await not_even_http(port)
            assert await browser.state(ticket_id) == "WAITING"
            await replays(emulator, push())
            assert (await browser.exchange(ticket_id)).code == 200
            assert "Traceback" not in child.output
            assert " failed (request" not in child.output
    finally:
        await emulator.stop()


async def flood(port: int, process_id: int, mutator: Mutator) -> None:
    seconds, answers = [], set()
    warm, grown = CASES // 5, 0.0
    async with Wire(port) as wire:
        for number, request in enumerate(mutator.refused(CASES)):
            if number == warm:
                grown = -resident(process_id)
            started = time.perf_counter()
            await wire.send(request)
            answers.add(shown(await wire.answer()))
            seconds.append(time.perf_counter() - started)
            assert len(answers) == 1, (request[:2000], answers)
    size = resident(process_id)
    grown += size
    ((status, body, headers),) = answers
    assert (status, body) == (403, b"")
    assert "content-type" not in {name.lower() for name, _ in headers}
    middle, *_, last = (1000 * cut for cut in statistics.quantiles(seconds, n=100)[49::49])
    print(f"{CASES} refused, median {middle:.1f} ms, p99 {last:.1f} ms, memory {size:.1f} MB ({grown:+.1f})")
    assert middle < 100
    assert grown < 20


async def not_even_http(port: int) -> None:
    """No 500 from anything, and whoever comes next is served."""
    others = set()
    for method in METHODS:
        async with Wire(port) as wire:
            await wire.send(f"{method} {CALLBACK} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            others.add(shown(await wire.answer())[:2])
    assert others == {(405, b"")}
    for broken in BROKEN:
        async with Wire(port) as wire:
            await wire.send(broken)
            assert wire._reader is not None
            assert wire._writer is not None
            wire._writer.write_eof()
            told = await wire._reader.read(4096)
            assert told == b"" or re.match(rb"HTTP/1\.1 4\d\d ", told), (broken[:100], told)


async def replays(emulator: Emulator, push: Push) -> None:
    """The honest one at last, many times: one answer and one login."""
    answers = {
        (attempt.status, attempt.clear_answer)
        for attempt in [await emulator.courier.post(push) for _ in range(20)]
    }
    assert len(answers) == 1
    ((status, told),) = answers
    assert status == 200
    assert "/not-me/" in told, "the person was told, with one and the same link each time"
