"""What the sites are told of logins, and of sessions that end."""

from __future__ import annotations

import json

import pytest

from errors import LoginRefused
from flows import not_me, people, sessions
from storage.records import Session
from tests.flows.announcements.told import so_far, told
from tests.flows.world import World
from tests.storage.samples import grant

# --- Logins.


async def test_a_login(world):
    held = await world.confirmed()
    collected = await world.collect(held)
    (session,) = await world.live_sessions()
    event, data = (await told(world))[-1]
    assert event == "login.succeeded"
    assert data.pop("user")["id"] == collected.user.id
    assert data == {
        "ticket_id": held.ticket.id,
        "session_id": session.id,
        "method": "wechat",
        "site": "",
        "address": "203.0.113.5",
        "browser": "Chrome",
        "system": "Windows",
    }


async def test_a_repeated_exchange_ends_one_session_and_tells_of_another(world):
    held = await world.confirmed()
    await world.collect(held)
    (first,) = await world.live_sessions()
    before = await so_far(world)
    await world.collect(held)
    (second,) = await world.live_sessions()
    ended, succeeded = (await told(world))[before:]
    assert ended[0] == "session.ended"
    assert (ended[1]["session_id"], ended[1]["reason"]) == (first.id, "replaced")
    assert (succeeded[0], succeeded[1]["session_id"]) == ("login.succeeded", second.id)


async def test_a_new_login_ends_the_browsers_former_one(world):
    former = await world.logged_in()
    held = await world.confirmed()
    before = await so_far(world)
    await world.collect(held, former_tokens=[former.token])
    assert [(event, data.get("reason")) for event, data in (await told(world))[before:]] == [
        ("login.succeeded", None),
        ("session.ended", "replaced"),
    ]


async def test_a_scan_of_somebody_blocked_is_refused_and_told_once(world):
    await world.follow(world.person())
    await people.set_blocked(world.context, (await world.user()).id, True)
    before = await so_far(world)
    held = await world.ticket()
    for _ in range(2):
        world.clock.pass_(1)
        await world.scan(held, world.person())
    ((event, data),) = (await told(world))[before:]
    assert (event, data["reason"], data["ticket_id"]) == ("login.refused", "blocked", held.ticket.id)
    assert data["user"]["blocked"] is True


@pytest.mark.parametrize(("case", "reason"), [("block", "blocked"), ("unfollow", "not_following")])
async def test_an_exchange_that_is_refused_is_told_once(world, case, reason):
    held = await world.confirmed()
    user = await world.user()

    async def race(transaction) -> None:  # the marks are there, the ticket is not taken back yet
        if case == "block":
            await transaction.users.set_blocked(user.id, True)
        else:
            await transaction.users.set_unfollowed("wechat", world.person(), event_at=world.clock() + 1)

    await world.do(race)
    before = await so_far(world)
    for _ in range(2):
        with pytest.raises(LoginRefused):
            await world.collect(held)
    ((event, data),) = (await told(world))[before:]
    assert (event, data["reason"], data["user"]["id"]) == ("login.refused", reason, user.id)


async def test_somebody_forgotten_in_between_is_nobody_to_tell_of(world):
    held = await world.confirmed()
    user = await world.user()
    await world.do(lambda transaction: transaction.users.forget(user.id))
    before = await so_far(world)
    with pytest.raises(LoginRefused):
        await world.collect(held)
    assert await so_far(world) == before


# --- Sessions.


@pytest.mark.parametrize("how", ["logout", "not_me"])
async def test_a_session_that_ends(world, how):
    held = await world.ticket()
    words = await world.scan(held, world.person())
    collected = await world.collect(held)
    (session,) = await world.live_sessions()
    before = await so_far(world)
    for _ in range(2):
        if how == "logout":
            await sessions.end(world.context, session)
        else:
            await not_me.end_login(world.context, words.rpartition("/")[2])
    ((event, data),) = (await told(world))[before:]
    assert event == "session.ended"
    assert data == {"session_id": session.id, "user_id": collected.user.id, "reason": how}


async def test_a_site_that_got_a_login_from_it_hears_of_it_by_its_own_way(world):
    collected = await world.logged_in()
    (session,) = await world.live_sessions()
    await granted(world, session, "forum", "shop")
    await sessions.end(world.context, session)
    (notice,) = await world.do(lambda transaction: transaction.outbox.newest(endpoint="logout:forum"))
    assert json.loads(notice.payload) == {"sub": collected.user.id, "sid": session.id}


async def granted(world: World, session: Session, *sites: str) -> None:
    async def work(transaction) -> None:
        for given in grants:
            await transaction.grants.create(given)

    grants = [
        grant(
            id=f"grant-{site}",
            site=site,
            user_id=session.user_id,
            session_id=session.id,
            created_at=world.clock(),
            expires_at=world.clock() + 1000,
        )
        for site in sites
    ]
    await world.do(work)
