"""A Redis that hangs under a cluster's node: its tickets can be neither read nor changed, sessions can."""

from __future__ import annotations

import json
import time

from tests.faults.asking import SECONDS, Asking, made, on_redis


async def test_a_redis_that_hangs(tmp_path, emulator, own_redis):
    site = await made(tmp_path, emulator, **on_redis(own_redis.url))
    async with site.child() as child:
        await child.says("serving")
        asking, confirmed = await Asking.begin(site), site.browser()
        ticket_id = await confirmed.open_login("/login?next=/confirmed")
        assert (await site.scan(ticket_id, 1)).accepted
        async with asking.waiting.socket(asking.ticket_id) as socket:
            assert json.loads(await socket.read_message())["state"] == "WAITING"
            own_redis.hang()
            try:
                await asking.all_are_refused()
                since = time.monotonic()
                assert (await confirmed.exchange(ticket_id)).code == 503
                assert time.monotonic() - since < SECONDS + 1
                assert (await asking.member.get("/api/v1/me")).code == 200, "sessions are the database's"
            finally:
                own_redis.resume()
            await asking.well_again()
            told = [json.loads(await socket.read_message())["state"]]
            while told[-1] != "CONSUMED":
                told.append(json.loads(await socket.read_message())["state"])
            assert told in (["CONFIRMED", "CONSUMED"], ["CONSUMED"])
        assert (await confirmed.exchange(ticket_id)).code == 200, "what was acknowledged before is kept"
        assert "Traceback" not in child.output
