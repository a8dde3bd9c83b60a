"""Rule 17: pictures come by the server, from listed hosts, no redirects, 1 MiB, JPEG or PNG by content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from flows.pictures import MAX_BYTES
from storage.records import Profile
from tests.harness import Whole, document, running

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
JPEG = b"\xff\xd8\xff" + b"pixels"


class Host(RequestHandler):
    """Answers by the last part of the path."""

    asked: list[str]
    answers = {  # noqa: RUF012  # of a test
        "png": ("image/png", PNG),
        "jpeg": ("text/html", JPEG),  # what it says of itself counts for nothing
        "svg": ("image/png", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        "html": ("image/jpeg", b"<script>alert(1)</script>"),
        "empty": ("image/png", b""),
        "largest": ("image/png", PNG.ljust(MAX_BYTES, b"x")),
        "larger": ("image/png", PNG.ljust(MAX_BYTES + 1, b"x")),
    }

    def initialize(self, asked: list[str]) -> None:
        self.asked = asked

    def get(self, name: str) -> None:
        self.asked.append(name)
        if name == "elsewhere":
            self.redirect("/png")
        elif name == "gone":
            self.set_status(404)
        else:
            kind, content = self.answers[name]
            self.set_header("Content-Type", kind)
            self.finish(content)


@asynccontextmanager
async def a_host() -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(r"/(.*)", Host, {"asked": asked})], log_function=lambda _: None))
    server.add_sockets(sockets)
    yield f"127.0.0.1:{sockets[0].getsockname()[1]}", asked
    server.stop()
    await server.close_all_connections()


async def address_of(whole: Whole, picture: str) -> str:
    """Where the person's picture is served, once the platform has told of it."""
    browser, person = whole.browser(), whole.person()
    await whole.log_in(browser, person)
    assert whole.server.profiles is not None
    await whole.server.profiles.idle()

    async def work(transaction):
        profile = Profile(nickname="x", picture=picture)
        await transaction.users.update_profile("wechat", person, profile, unionid="", now=whole.clock())

    await whole.storage.transact(work)
    address = document(await browser.get("/api/v1/me"))["picture"]
    assert address.startswith(f"{whole.base_url}/pictures/")  # never the platform's own
    return address


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("png", 200, "image/png"),
        ("jpeg", 200, "image/jpeg"),
        ("largest", 200, "image/png"),
        ("larger", 404, ""),
        ("svg", 404, ""),
        ("html", 404, ""),
        ("empty", 404, ""),
        ("elsewhere", 404, ""),
        ("gone", 404, ""),
    ],
)
async def test_rule_17_what_is_served(tmp_path, name, status, kind):
    async with a_host() as (host, asked), running(tmp_path, wechat={"picture_hosts": [host]}) as whole:
        address = await address_of(whole, f"http://{host}/{name}")
        for _ in range(2):
            answer = await whole.browser().get(address)
            assert answer.code == status
        if status == 200:
            assert answer.headers["Content-Type"] == kind
            assert answer.body == Host.answers[name][1]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert asked == [name]  # once
        assert "png" not in asked or name == "png"  # no redirect was followed


@pytest.mark.parametrize(
    "picture",
    [
        "http://{other}/png",
        "http://{host}@{other}/png",
        "http://{host}.evil.example/png",
        "ftp://{host}/png",
        "file:///etc/passwd",
        "//{host}/png",
    ],
)
async def test_rule_17_only_listed_hosts_are_asked(tmp_path, picture):
    async with (
        a_host() as (host, _),
        a_host() as (other, asked),
        running(tmp_path, wechat={"picture_hosts": [host]}) as whole,
    ):
        address = await address_of(whole, picture.format(host=host, other=other))
        assert (await whole.browser().get(address)).code == 404
        assert asked == []


async def test_rule_17_who_was_not_told_the_address_sees_nothing(tmp_path):
    async with a_host() as (host, asked), running(tmp_path, wechat={"picture_hosts": [host]}) as whole:
        address = await address_of(whole, f"http://{host}/png")
        path, _, key = address.rpartition("/")
        for wrong in (f"{path}/{key[:-1]}{'0' if key[-1] != '0' else '1'}", f"{path}/x"):
            assert (await whole.browser().get(wrong)).code == 404
        assert asked == []
