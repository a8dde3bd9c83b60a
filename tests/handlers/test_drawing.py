"""The codes that the server expects are prepared at its start."""

from __future__ import annotations

import codes
from tests.harness import document, running

APP = {"issuer": "https://app.example.com", "key": "a secret that the app's backend shares with us"}


async def test_no_request_waits_for_the_drawing(tmp_path):
    async with running(tmp_path, app=APP, wechat={"pool_size": 1}) as whole:
        drawing = whole.server._drawing
        assert drawing._preparing is not None
        await drawing._preparing
        for method in ("wechat", "app"):
            answer = await whole.browser().post("/api/v1/tickets", {"method": method})
            version = codes.version_of(document(answer)["qr"])
            assert version is not None
            assert version in drawing._prepared
