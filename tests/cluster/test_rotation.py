"""`server.secret_key` and `app.key` change on three nodes, one node after the other, in three rounds."""

from __future__ import annotations

import os
import secrets
from typing import Any

import pytest
import yaml

from tests.cluster.test_chaos import Driver
from tests.handlers import test_app
from tests.handlers.test_app import APP

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif("SAOMA_TEST_ROTATION" not in os.environ, reason="takes a minute and a half"),
]


async def test_three_nodes_change_their_keys_under_load(own_cluster, monkeypatch):
    site, driver = own_cluster, Driver(own_cluster)
    former = yaml.safe_load(site.nodes[0].settings.read_text())["server"]["secret_key"]
    fresh, fresh_app = secrets.token_hex(32), secrets.token_hex(32)
    both = {**APP, "key": fresh_app, "previous_key": APP["key"]}
    rounds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("known", {"secret_key": former, "previous_secret_key": fresh}, both),
        ("used", {"secret_key": fresh, "previous_secret_key": former}, both),
        ("alone", {"secret_key": fresh, "previous_secret_key": ""}, {**APP, "key": fresh_app}),
    ]
    async with driver.busy():
        for name, server, app in rounds:
            async with driver.fault(f"the new keys are {name}", 8.0):
                for node in site.nodes:
                    document = yaml.safe_load(node.settings.read_text())
                    document["server"] |= server
                    node.settings.write_text(yaml.safe_dump({**document, "app": app}))
                    await node.end()
                    await node.start()
            if name == "known":
                monkeypatch.setattr(test_app, "SECRET", fresh_app)  # the app's backend signs with it
    print()
    for phase in driver.phases:
        print(phase)
    assert not [refusal for phase in driver.phases for refusal in phase.refused]
    for login in driver.logins:
        assert (await login.browser.get("/api/v1/me")).code == 200
