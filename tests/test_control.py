"""The socket by which commands ask the server that runs, and `server.py webhooks`, which asks."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

import control
from composition import opened
from control import CannotAsk, ask, socket_path
from flows.announce import announce
from notices import webhooks
from tests.harness import new_account, running, settings_for
from tests.receiver import LOOPBACK, SECRET, Receiver, receiving

QUIET = {"id": "quiet", "name": "Quiet", "secret": "q" * 32}


def shop(url: str, **more: Any) -> dict[str, Any]:
    own = {"id": "shop", "name": "Shop", "secret": "s" * 32, "webhook_url": url, "webhook_secret": SECRET}
    return {**own, **more}


def serving(folder: Path, receiver: Receiver, **more: Any):
    return running(folder, sites=[shop(receiver.url), QUIET], server=LOOPBACK, **more)


def settings_of(folder: Path, url: str = "https://shop.example.com/hook", **more: Any):
    """Of a server that does not run."""
    document = {"sites": [shop(url), QUIET], "server": LOOPBACK, **more}
    return settings_for(new_account(), "http://127.0.0.1:9", folder, document)


# --- The socket.


async def test_it_is_the_owners_alone_and_goes_with_the_server(tmp_path):
    async with receiving() as receiver, serving(tmp_path, receiver) as whole:
        place = socket_path(whole.server.settings)
        assert place == tmp_path / "data" / "control.sock"
        assert stat.filemode(place.stat().st_mode) == "srw-------"
        assert await ask(whole.server.settings, "GET", "/webhooks") == {"notices": []}
        settings = whole.server.settings
    assert not place.exists()
    assert await ask(settings, "GET", "/webhooks") is None


async def test_one_that_a_killed_server_left_is_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "data" / "control.sock"))
        left.listen()
    async with receiving() as receiver, serving(tmp_path, receiver) as whole:
        assert await ask(whole.server.settings, "GET", "/webhooks") == {"notices": []}


async def test_a_server_with_another_database_in_the_same_folder_keeps_its_own(tmp_path, expect_log):
    expect_log("no command can ask this server: .*a server with another database in the same folder has it")
    async with receiving() as receiver, serving(tmp_path, receiver) as first:
        async with serving(tmp_path, receiver, storage={"url": "sqlite:data/other.db"}) as second:
            with pytest.raises(CannotAsk, match=r"has another database, .*saoma\.db"):
                await ask(second.server.settings, "GET", "/webhooks")
        assert await ask(first.server.settings, "GET", "/webhooks") == {"notices": []}


async def test_however_deep_its_folder_lies(tmp_path):
    folder = tmp_path / "/".join(["x" * 90] * 3)
    folder.mkdir(parents=True)
    storage = {"url": f"sqlite:{folder}/saoma.db"}
    async with receiving() as receiver, serving(tmp_path, receiver, storage=storage) as whole:
        assert await ask(whole.server.settings, "GET", "/webhooks") == {"notices": []}
        assert (folder / "control.sock").stat().st_mode & 0o777 == 0o600
    assert not (folder / "control.sock").exists()


@pytest.mark.parametrize("case", ["long", "file"])
async def test_where_it_cannot_be_made_serving_goes_on(tmp_path, expect_log, capsys, monkeypatch, case):
    monkeypatch.setattr(control, "OPEN_FILES", tmp_path / "no proc here")
    expect_log("no command can ask this server: .*(path is longer than 100 bytes|Address already in use)")
    folder = "x" * 90 if case == "long" else "data"
    (tmp_path / folder).mkdir()
    if case == "file":
        (tmp_path / folder / "control.sock").write_text("somebody's")
    storage = {"url": f"sqlite:{folder}/saoma.db"}
    async with receiving() as receiver, serving(tmp_path, receiver, storage=storage) as whole:
        assert (await whole.browser().get("/login")).code == 200
        assert not await webhooks(whole.server.settings, site_id=None, limit=20, test=None)
    assert "its log says why it has no control.sock" in capsys.readouterr().err
    if case == "file":
        assert (tmp_path / folder / "control.sock").read_text() == "somebody's"


async def test_somebody_elses(tmp_path, monkeypatch):
    async def resolve(self, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(control._ToSocket, "resolve", resolve)
    with pytest.raises(CannotAsk, match="run this command as that user"):
        await ask(settings_of(tmp_path), "GET", "/webhooks")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_none_of_it_is_on_the_web(tmp_path, method):
    async with receiving() as receiver, serving(tmp_path, receiver) as whole:
        for path in ("/webhooks", "/webhooks/test", "/control/webhooks"):
            assert (await whole.browser().request(method, path)).code in (403, 404)
        assert not receiver.received


async def test_a_store_that_many_can_open_needs_none(tmp_path):
    settings = settings_of(tmp_path, storage={"url": "mongodb://127.0.0.1:9/saoma"})
    assert socket_path(settings) is None
    assert await ask(settings, "GET", "/webhooks") is None


# --- server.py webhooks


async def listed(settings, capsys, **more: Any) -> list[list[str]]:
    assert await webhooks(settings, **{"site_id": None, "limit": 20, "test": None, **more})
    lines = capsys.readouterr().out.splitlines()
    return [re.split(r"\s{2,}", line) for line in lines]


async def happened(context, *causes: str) -> None:
    async def work(transaction):
        for cause in causes:
            await announce(transaction, context, "user.updated", {}, person=cause, cause=cause)

    await context.storage.transact(work)


async def test_the_list(tmp_path, capsys):
    answers = iter([204, 500])
    async with (
        receiving(lambda message: next(answers)) as receiver,
        serving(tmp_path, receiver, site={"timezone": "Asia/Tokyo"}) as whole,
    ):
        settings, context = whole.server.settings, whole.server.context
        assert await listed(settings, capsys) == [["nothing was announced to any site in the last days"]]
        await happened(context, "one")
        await receiver.has(1)
        await happened(context, "two")
        await receiver.has(2)
        while "500" not in (rows := await listed(settings, capsys))[1]:
            pass
        assert rows[0] == ["TIME", "EVENT", "SITE", "STATE", "ATTEMPTS", "LAST RESULT"]
        newer, older = rows[1:]
        assert older[1:] == ["user.updated", "shop", "delivered", "1", "204"]
        assert newer[1:3] + newer[4:] == ["user.updated", "shop", "1", "500"]
        assert re.fullmatch(r"again at \d\d:\d\d:\d\d", newer[3])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", newer[0])
        assert (await listed(settings, capsys, limit=1))[1:] == [newer]
        assert len(await listed(settings, capsys, site_id="shop")) == 3
        assert len(await listed(settings, capsys, site_id="quiet")) == 1


async def test_the_list_shows_nothing_of_people(tmp_path, capsys):
    async with receiving() as receiver, serving(tmp_path, receiver) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        await receiver.has(1)
        user = await whole.user(whole.person())
        assert await webhooks(whole.server.settings, site_id=None, limit=20, test=None)
        out = capsys.readouterr().out
        assert "user.created" in out
        for secret in (whole.person(), user.id, user.name or "-no name-"):
            assert secret not in out


async def test_the_list_where_no_server_runs(tmp_path, capsys):
    settings = settings_of(tmp_path)
    async with opened(settings) as context:
        await happened(context, "one")
    ((_, *row),) = (await listed(settings, capsys))[1:]
    assert row == ["user.updated", "shop", "pending", "0"]


async def faulty(settings, capsys, **more: Any) -> str:
    assert not await webhooks(settings, **{"site_id": None, "limit": 20, "test": None, **more})
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("FAULT  ")
    return said.err


async def test_what_there_is_not(tmp_path, capsys):
    settings = settings_of(tmp_path)
    assert "start the server first" in await faulty(settings, capsys)
    assert not (tmp_path / "data").exists(), "nothing is made by looking"
    assert "no site nobody" in await faulty(settings, capsys, site_id="nobody")
    async with receiving() as receiver, serving(tmp_path, receiver) as whole:
        settings = whole.server.settings
        assert "no site nobody" in await faulty(settings, capsys, test="nobody")
        assert "the site quiet has no webhook_url" in await faulty(settings, capsys, test="quiet")


@pytest.mark.parametrize("runs", [True, False])
async def test_a_test(tmp_path, capsys, runs):
    async with receiving() as receiver:
        async with serving(tmp_path, receiver) as whole:
            settings = whole.server.settings
            if runs:
                assert await webhooks(settings, site_id=None, limit=20, test="shop")
        if not runs:
            assert await webhooks(settings, site_id=None, limit=20, test="shop")
        (message,) = receiver.received
        assert message.verified() == message.document
        assert message.event == "test"
        assert capsys.readouterr().out == f"delivered: 204 ({message.id})\n"


@pytest.mark.parametrize("runs", [True, False])
async def test_a_test_that_fails(tmp_path, capsys, runs):
    async with receiving(lambda message: 404) as receiver:
        async with serving(tmp_path, receiver) as whole:
            settings = whole.server.settings
            if runs:
                assert not await webhooks(settings, site_id=None, limit=20, test="shop")
        if not runs:
            assert not await webhooks(settings, site_id=None, limit=20, test="shop")
    assert capsys.readouterr().out.startswith("not delivered: 404 (msg_")


async def test_a_test_to_a_private_address_says_which_setting_is_meant(tmp_path, capsys):
    async with receiving() as receiver, running(tmp_path, sites=[shop(receiver.url)]) as whole:
        assert not await webhooks(whole.server.settings, site_id=None, limit=20, test="shop")
        assert not receiver.received
    assert "refused: private address; see server.allowed_networks" in capsys.readouterr().out
