"""Sessions: who a token stands for, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from errors import BadRequest
from flows import sessions
from flows.sessions import TOUCH_SHARE, choose_name, current
from tests.clock import START
from tests.flows.world import Delegating, World, made

DAY = 86_400.0


async def test_a_token_stands_for_its_person(world: World):
    collected = await world.logged_in()
    known = await current(world.context, collected.token)
    assert known is not None
    assert known.user.id == collected.user.id


@pytest.mark.parametrize("token", ["", "unknown", "\ud800", "x" * 10_000])
async def test_another_token_stands_for_nobody(world: World, token: str):
    await world.logged_in()
    assert await current(world.context, token) is None


async def test_the_hash_is_no_token(world: World):
    await world.logged_in()
    (session,) = await world.live_sessions()
    for token in (session.token_hash.hex(), session.id, session.ticket_id):
        assert await current(world.context, token) is None


@pytest.mark.parametrize(("seconds", "alive"), [(7 * DAY - 1, True), (7 * DAY, False)])
async def test_it_ends_when_it_is_not_used(world: World, seconds: float, alive: bool):
    collected = await world.logged_in()
    world.clock.pass_(seconds)
    assert (await current(world.context, collected.token) is not None) is alive


async def test_it_ends_in_any_case(world: World):
    collected = await world.logged_in()
    for _ in range(5):
        world.clock.pass_(5 * DAY)
        assert await current(world.context, collected.token) is not None
    world.clock.pass_(5 * DAY)
    assert await current(world.context, collected.token) is None


async def test_use_keeps_it_from_idling(world: World):
    collected = await world.logged_in()
    for _ in range(4):
        world.clock.pass_(6 * DAY)
        assert await current(world.context, collected.token) is not None
    (session,) = await world.live_sessions()
    assert session.last_used_at == START + 24 * DAY


async def test_not_every_request_writes(world: World):
    collected = await world.logged_in()
    written: list[float] = []

    class Noting(Delegating):
        async def transact(self, work):
            async def noted(transaction):
                touch = type(transaction.sessions).touch

                class Sessions:
                    def __getattr__(self, name):
                        return getattr(transaction.sessions, name)

                    async def touch(self, session_id, *, now):
                        written.append(now)
                        await touch(transaction.sessions, session_id, now=now)

                class Transaction:
                    sessions = Sessions()
                    users = transaction.users

                return await work(Transaction())

            return await self.inner.transact(noted)

    context = replace(world.context, storage=Noting(world.context.storage))
    step = 7 * DAY * TOUCH_SHARE / 10
    for _ in range(100):
        world.clock.pass_(step)
        assert await current(context, collected.token) is not None
    assert 9 <= len(written) <= 10


async def test_settings_say_how_long(tmp_path):
    async with made(tmp_path, session={"lifetime": 100, "idle": 60}) as world:
        collected = await world.logged_in()
        world.clock.pass_(59)
        assert await current(world.context, collected.token)
        world.clock.pass_(40)
        assert await current(world.context, collected.token)
        world.clock.pass_(1)
        assert await current(world.context, collected.token) is None


async def test_an_ended_session_is_over(world: World):
    collected, other = await world.logged_in(), await world.logged_in()
    known = await current(world.context, collected.token)
    assert known is not None
    await sessions.end(world.context, known.session)
    await sessions.end(world.context, known.session)
    assert await current(world.context, collected.token) is None
    assert await current(world.context, other.token) is not None


@pytest.mark.parametrize("case", ["blocked", "forgotten"])
async def test_a_person_who_is_blocked_or_gone_has_no_session(world: World, case: str):
    collected = await world.logged_in()
    user = collected.user

    async def change(transaction):
        if case == "blocked":
            await transaction.users.set_blocked(user.id, True)
        else:
            await transaction.users.forget(user.id)

    await world.do(change)
    assert await current(world.context, collected.token) is None


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("林小满", "林小满"),
        ("  two \t words\n", "two words"),
        ("", ""),
        ("   ", ""),
        ("<script>", "<script>"),  # text: whoever shows it escapes it
        ("x" * 64, "x" * 64),
        ("阿海🏄\u200d♂️🌊", "阿海🏄\u200d♂️🌊"),  # a surfer is made with a joiner
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("O’Brien-Müller", "O’Brien-Müller"),
    ],
)
async def test_people_name_themselves(world: World, name: str, kept: str):
    user = (await world.logged_in()).user
    await choose_name(world.context, user, name)
    assert (await world.user()).chosen_name == kept


@pytest.mark.parametrize(
    "name",
    [
        "x" * 65,
        "a\x00b",
        "a\x1bb",
        "a\x7fb",
        "\u202eturned",
        "a\u2066b",
        "a\u200fb",
        "\ud800",
        "\u200d",
        "\ufeffa",
    ],
    ids=ascii,
)
async def test_what_is_no_name(world: World, name: str):
    user = (await world.logged_in()).user
    await choose_name(world.context, user, "before")
    with pytest.raises(BadRequest):
        await choose_name(world.context, user, name)
    assert (await world.user()).name == "before"


async def test_a_name_of_ones_own_goes_before_the_platforms(world: World):
    from storage.records import Profile

    user = (await world.logged_in()).user
    profile = Profile("from WeChat")
    await world.do(
        lambda transaction: transaction.users.update_profile(
            "wechat", world.person(), profile, unionid="", now=START
        )
    )
    assert (await world.user()).name == "from WeChat"
    await choose_name(world.context, user, "mine")
    assert (await world.user()).name == "mine"
    await choose_name(world.context, user, "")
    assert (await world.user()).name == "from WeChat"
