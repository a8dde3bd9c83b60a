"""The search for what must never be told finds it, wherever it is told."""

from __future__ import annotations

import logging

import pytest

from tests.canaries import CANARIES
from tests.handlers.test_app import APP, bearer
from tests.harness import running

log = logging.getLogger("saoma.test")


async def test_what_a_client_was_given_is_found_in_a_log(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        browser, person = whole.browser(), whole.person()
        await whole.log_in(browser, person)
        token = bearer("somebody")["Authorization"].split()[1]
        await whole.browser().post("/api/v1/tickets/unknown/scan", Authorization=f"Bearer {token}")
        account = whole.emulator.platform.account
        told = {
            "openid": person,
            "cookie": browser.cookies["saoma-session"],
            "an app's token": token,
            "a secret of the settings": account.encoding_aes_key,
        }
        for kind, value in told.items():
            log.info("somebody did something with x=%s.", value)
            assert any(found.startswith(f"{kind} in the log") for found in CANARIES.found()), kind
        log.info("somebody did something with x=%s.", whole.server.context.pseudonym(person))
        assert CANARIES.found() == []


@pytest.mark.parametrize("place", ["output", "traceback"])
def test_it_is_found_in_what_a_process_says_and_in_a_traceback(place):
    CANARIES.plant("abcdefghijklmnop", "token")
    said = "all is well\n"
    CANARIES.listen(lambda: said)
    assert CANARIES.found() == []
    if place == "output":
        said += "with abcdefghijklmnop\n"
    else:
        try:
            raise ValueError("abcdefghijklmnop")
        except ValueError:
            log.info("went wrong", exc_info=True)
    assert len(CANARIES.found()) == 1
    assert CANARIES.found() == [], "each is told once"
