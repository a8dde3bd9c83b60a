"""What the platform answers, as we read it."""

from __future__ import annotations

import secrets

from emulator import Emulator
from tests.clock import START, Clock
from tests.wechat.client.calling import Make


async def test_a_follower_as_the_platform_tells(emulator: Emulator, make: Make):
    wechat = make()
    stranger, blank, full, *_ = emulator.platform.people.values()
    assert not (await wechat.follower(stranger.openid)).following
    told = await wechat.follower(blank.openid)
    assert (told.following, told.nickname, told.unionid) == (True, "", "o6_bmasdasdsad6_2sgVt7hMZOPfL")
    told = await wechat.follower(full.openid)
    assert (told.nickname, told.city) == ("陈默", "深圳")
    assert told.picture == emulator.platform.picture_url(full)


async def test_a_code_has_the_life_and_the_scene_that_were_asked_for(
    emulator: Emulator, make: Make, clock: Clock
):
    scene = secrets.token_urlsafe(18)
    code = await make().create_code(scene, 300.9)
    known = emulator.platform.codes[code.ticket]
    assert (known.scene, known.url, known.expires_at) == (scene, code.url, START + 300)
