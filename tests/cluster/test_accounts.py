"""What nodes share belongs to one account of WeChat's."""

from __future__ import annotations

import time
from typing import cast

from composition import back
from storage.base import Storage
from tests.harness import new_account, settings_for


async def test_another_account_finds_neither_token_nor_codes_of_the_first(tmp_path, redis_url):
    """As when a team goes from the test account to its real one: the Redis stays."""
    document = {"redis": {"url": redis_url}}
    settings = [settings_for(new_account(), "http://127.0.0.1:1", tmp_path, document) for _ in range(2)]
    no_database = cast(Storage, None)
    test, real, same = (back(chosen, no_database, time.time) for chosen in (*settings, settings[0]))
    await test.shared.push("wechat-codes", "a code")
    await test.shared.put("wechat-token", "a token", seconds=60)
    assert await test.shared.lease("wechat-codes", seconds=60)
    assert await real.shared.length("wechat-codes") == 0
    assert await real.shared.get("wechat-token") is None
    assert await real.shared.lease("wechat-codes", seconds=60)
    assert await same.shared.get("wechat-token") == "a token"
    assert await same.shared.pop("wechat-codes") == "a code"
    for backing in (test, real, same):
        await backing.redis.aclose()
