"""What looks like another request to us than to a proxy: one request or none, and never the hidden one."""

from __future__ import annotations

import asyncio
import re

from tests.harness import Whole, running

QUICK = {"limits": {"header_seconds": 1, "body_seconds": 1}, "wechat": {"pool_size": 0}}
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: %(host)s\r\nConnection: close\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: %(host)s\r\n"
POST = b"POST /api/v1/me HTTP/1.1\r\nHost: %(host)s\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

LENGTHS = [
    *(b"0, 5", b"+0", b"0x0", b"-0", b"", b"0 0", b"0;", b"\xef\xbc\x90", b"1e0", b"0\x0b", b"9" * 400),
    b"0\r\nContent-Length: 5",
    b"5\r\nTransfer-Encoding: chunked",
]
ENCODINGS = [
    *(b"chunked, identity", b"identity", b"xchunked", b"chunked\x0b", b"chunked\x00", b'"chunked"', b""),
    *(b",chunked", b"chunked, chunked", b"chunked;q=1", b"\r\n chunked"),
    b"chunked\r\nTransfer-Encoding: identity",
    b"chunked\r\nContent-Length: 5",
]
CHUNKS = [
    *(b"5;a=b\r\nhello\r\n", b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n"),
    *(b"5\nhello\r\n", b"5\r\nhelloXX", b"-5\r\nhello\r\n", b"0_5\r\nhello\r\n", b"f" * 16 + b"\r\nhello"),
    b"5\r\nhello\r\n0\r\nTrailer: a\r\n\r\n",
]
HEADERS = [
    b"Transfer-Encoding : chunked",
    b"X: a\r\n Transfer-Encoding: chunked",
    b"X: a\rTransfer-Encoding: chunked",
    *(b"X\0Y: y", b"XY", b": y", b"X(Y): y", b" X: y", b"X: \0", b"Host: evil.example"),
]
LINES = [
    *(b"GET /healthz HTTP/1.1 HTTP/1.1", b"GET  /healthz HTTP/1.1", b"GET\t/healthz\tHTTP/1.1"),
    *(b"GET /healthz HTTP/2.0", b"GET /healthz HTTP/0.9", b"GET /healthz http/1.1", b"GET /healthz"),
    *(b"/healthz HTTP/1.1", b"G\0T /healthz HTTP/1.1", b"GET /healthz\x00 HTTP/1.1"),
]
REFUSED = {
    **{b"length " + value: POST + b"Content-Length: " + value + b"\r\n\r\n" for value in LENGTHS},
    **{
        b"encoding " + value: POST + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n"
        for value in ENCODINGS
    },
    **{b"chunk " + value: CHUNKED + value + b"0\r\n\r\n" for value in CHUNKS},
    **{b"header " + value: GET + value + b"\r\n\r\n" for value in HEADERS},
    **{b"line " + line: line + b"\r\nHost: %(host)s\r\n\r\n" for line in LINES},
}
# Two requests by the letter of RFC 9112, to every proxy too.
PIPELINED = {
    b"plain": (GET + b"\r\n", 200),
    b"the same length twice": (POST + b"Content-Length: 0, 0\r\n\r\n", 405),
    b"zeros before a length": (POST + b"Content-Length: 00\r\n\r\n", 405),
    b"CHUNKED": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 405),
    b"line feeds alone": (GET.replace(b"\r", b"") + b"\n", 200),
}
ENDS = re.compile(rb"HTTP/1\.1 (\d+) ")


async def statuses(whole: Whole, data: bytes) -> list[int]:
    """Of all answers until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", whole.server.port)
    try:
        writer.write(data % {b"host": b"127.0.0.1:%d" % whole.server.port})
        return [int(status) for status in ENDS.findall(await asyncio.wait_for(reader.read(), 60))]
    finally:
        writer.close()


async def all_statuses(whole: Whole, shapes: dict[bytes, bytes]) -> dict[bytes, list[int]]:
    answers = await asyncio.gather(*(statuses(whole, data) for data in shapes.values()))
    return dict(zip(shapes, answers, strict=True))


async def test_what_may_be_read_in_two_ways_is_refused(tmp_path):
    async with running(tmp_path, **QUICK) as whole:
        answers = await all_statuses(whole, {name: data + HIDDEN for name, data in REFUSED.items()})
        assert {name: found for name, found in answers.items() if found != [400]} == {}


async def test_pipelined_requests_are_answered_in_their_order(tmp_path):
    async with running(tmp_path, **QUICK) as whole:
        answers = await all_statuses(whole, {name: data + HIDDEN for name, (data, _) in PIPELINED.items()})
        assert answers == {name: [status, 404] for name, (_, status) in PIPELINED.items()}


async def test_a_body_is_no_request(tmp_path):
    """That of a GET neither; and the rest of one that was refused early is not looked at."""
    async with running(tmp_path, **QUICK) as whole:
        hidden = HIDDEN % {b"host": b"127.0.0.1:%d" % whole.server.port}
        size = b"Content-Length: %d\r\n\r\n" % len(hidden)
        chunk = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
        answers = await all_statuses(
            whole,
            {
                b"GET": GET + size + hidden,
                b"POST": POST + size + hidden,
                b"chunked": POST + chunk,
                b"too long": POST + b"Content-Length: 70000\r\n\r\n" + hidden * 10,
                b"elsewhere": POST.replace(b"%(host)s", b"evil.example") + size + hidden,
            },
        )
        assert answers == {
            b"GET": [200],
            b"POST": [405],
            b"chunked": [405],
            b"too long": [400],
            b"elsewhere": [405],
        }


PATHS = [
    *("//admin", "//evil.example/", "///", "/./admin", "/x/../admin", "/x/%2e%2e/admin"),
    *("/%2e%2e/%2e%2e/etc/passwd", "/..;/admin", "/admin%2f", "/admin%00", "/admin;x=y", "/admin/..%2f"),
    *("\\admin", "/\\admin", "/%5cadmin", "/ADMIN", "/%61dmin%20", "/admin.", "admin", "*"),
    *("http://evil.example/admin", "http://%(host)s/admin", "/static/../server.py"),
    *("/static/%2e%2e/settings.yaml", "/static/..%2f..%2fetc/passwd", "/static/..%5c..%5csettings.yaml"),
    *("/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/saoma.css%00.js", "/static/."),
    *("/static/%ff", "/static", "/static/", "/static/a/../../composition.py", "/api/v1/..%2f..%2fadmin"),
    *("/api/v1/tickets/%2e%2e/me", "/api/v1/tickets//me", "/api//v1/me", "/api/v1/me%0d%0aX:%20y"),
    *("/websocket/../admin", "/not-me/%2e%2e", "/s/../admin", "/pictures/../../server.py"),
    *("/healthz%0d%0aSet-Cookie:%20a=b", "/login%0d%0aLocation:%20//evil.example", "/%0d%0aX:%20y"),
    *("/%E0%80%AF", "/%c0%ae%c0%ae/", "/%uff0e%uff0e/", "/.git/config", "/.well-known/../admin"),
    *("/wechat/callback/../../admin", "/oauth2/..%2fadmin", "/api/authz/auth-request/..", "/.env"),
]


async def test_a_disguised_path_leads_nowhere(tmp_path):
    """404 for the most, and a refusal for the rest: no page, no file, no redirect, no fault of ours."""
    async with running(tmp_path, **QUICK) as whole:
        host = f"127.0.0.1:{whole.server.port}"
        for path in (path.replace("%(host)s", host) for path in PATHS):
            async with whole.wire() as wire:
                await wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answer = await wire.answer()
            assert answer.status in (400, 403, 404), (path, answer.status)
            assert {"Location", "Set-Cookie", "X"} & set(answer.headers) <= {"Set-Cookie"}, path
            assert all("a=b" not in cookie for cookie in answer.headers.get_list("Set-Cookie")), path
            assert b"root:" not in answer.body, path
            assert b"import" not in answer.body, path
