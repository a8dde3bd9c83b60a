"""What Prometheus is told of one login, and what it must never be told."""

from __future__ import annotations

from tornado.httpclient import AsyncHTTPClient
from tornado.netutil import bind_sockets

from composition import Server, open_storage
from metrics import Metrics
from tests.harness import Child, new_account, running, settings_for, write_settings
from tests.ports import free_port


async def test_one_login(tmp_path):
    async with running(tmp_path) as whole:
        browser = whole.browser()
        collected = await whole.log_in(browser, whole.person())
        ticket_id = await browser.open_login()
        assert await browser.state(ticket_id) == "WAITING"
        text = whole.server.context.metrics.text().decode()
        for line in (
            'saoma_logins_total{method="wechat",result="success"} 1.0',
            'saoma_tickets_total{method="wechat",state="WAITING"} 2.0',
            'saoma_tickets_total{method="wechat",state="CONFIRMED"} 1.0',
            'saoma_tickets_total{method="wechat",state="CONSUMED"} 1.0',
            'saoma_request_duration_seconds_count{handler="Exchange",method="POST",status="200"} 1.0',
            "saoma_waiting 0.0",
        ):
            assert line in text, line
        assert 'saoma_platform_calls_total{endpoint="/cgi-bin/qrcode/create",error="0"}' in text
        for secret in (collected["user"]["id"], whole.person(), ticket_id, browser.cookies["saoma-session"]):
            assert secret not in text


async def test_an_exchange_that_is_repeated_is_one_login(tmp_path):
    async with running(tmp_path) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login()
        await whole.scan(ticket_id, whole.person())
        for _ in range(3):
            assert (await browser.exchange(ticket_id)).code == 200
        assert 'result="success"} 1.0' in whole.server.context.metrics.text().decode()


async def test_how_long_people_take_to_confirm(tmp_path):
    metrics = Metrics()
    metrics.confirmed_after("app", 4.0)
    assert 'saoma_scan_to_confirm_seconds_bucket{le="5.0",method="app"} 1.0' in metrics.text().decode()


async def test_a_port_of_its_own(tmp_path):
    settings = settings_for(new_account(), "http://127.0.0.1:9", tmp_path, {"wechat": {"pool_size": 0}})
    sockets = bind_sockets(0, "127.0.0.1")
    server = Server(
        settings,
        sockets=bind_sockets(0, "127.0.0.1"),
        storage=await open_storage(settings),
        metrics_sockets=sockets,
    )
    server.start()
    client, port = AsyncHTTPClient(), sockets[0].getsockname()[1]
    answer = await client.fetch(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert b"saoma_waiting 0.0" in answer.body
    public = await client.fetch(f"http://127.0.0.1:{server.port}/metrics", raise_error=False)
    assert public.code == 404
    await server.stop()


async def test_a_port_that_is_taken_stops_no_login(tmp_path):
    taken = bind_sockets(0, "127.0.0.1")
    port = taken[0].getsockname()[1]
    path = write_settings(
        tmp_path,
        new_account(),
        "http://127.0.0.1:9",
        server={"port": free_port()},
        metrics={"port": port},
        logs={"format": "json"},
        wechat={"pool_size": 0},
    )
    async with Child.serving(path) as child:
        said = await child.says("serving")
        assert '"level": "WARNING"' in said
        assert f"no /metrics: cannot listen on 127.0.0.1:{port}" in said
    taken[0].close()
