"""What the sites are told of people: who comes and goes, is somebody else, blocked, forgotten."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.token import Policy, algorithms_of, import_key
from errors import LoginRefused, NotFound
from flows import people, sessions
from flows.app_login import AppLogin
from flows.profiles import ProfileFetcher
from tests.app.keys import AUDIENCE, BACKENDS, ISSUER, SECRET, claims_now
from tests.clock import START
from tests.flows.announcements.told import events, last, so_far, told
from tests.flows.world import ROOT, World
from wechat.api import Follower

FOLLOWER = 1
GUIDE = ROOT / "docs" / "webhooks.md"


def members(value: Any) -> Any:
    """The names in a document and in those within it."""
    return {name: members(inner) for name, inner in value.items()} if isinstance(value, dict) else None


async def test_the_guide_shows_what_is_told(world):
    await world.follow(world.person())
    await world.logged_in()
    notices = await world.do(lambda transaction: transaction.outbox.newest())
    told = {notice.event: members(json.loads(notice.payload)) for notice in notices}
    shown = map(json.loads, re.findall(r"```json\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL))
    by_type = {document["type"]: members(document) for document in shown}
    assert set(by_type) == {"user.followed", "login.succeeded"}
    assert by_type == {event: told[event] for event in by_type}


# --- People come and go.


async def test_who_follows_is_new_and_follows(world):
    await world.follow(world.person())
    user = await world.user()
    assert await events(world) == ["user.created", "user.followed"]
    assert (await last(world))["user"] == {
        "id": user.id,
        "previous_ids": [],
        "name": "",
        "picture": "",
        "blocked": False,
        "identities": [{"provider": "wechat", "subject": world.person(), "following": True}],
        "unionid": "",
    }


async def test_who_scans_and_follows_already_is_new_alone(world):
    await world.confirmed()
    assert await events(world) == ["user.created"]


async def test_who_follows_by_our_code_is_new_and_follows(world):
    await world.follow(world.person(), await world.ticket())
    assert await events(world) == ["user.created", "user.followed"]


async def test_who_is_known_and_comes_again_is_no_news(world):
    await world.confirmed()
    world.clock.pass_(700)
    before = await so_far(world)
    await world.confirmed()
    assert await so_far(world) == before


async def test_a_redelivered_event_is_told_once(world):
    pushed = world.push(world.person(), {"MsgType": "event", "Event": "subscribe", "EventKey": ""})
    for _ in range(3):
        await world.deliveries.accept(pushed)
    assert await events(world) == ["user.created", "user.followed"]


async def test_who_leaves(world):
    collected = await world.logged_in()
    before = await so_far(world)
    world.clock.pass_(1)
    await world.unfollow(world.person())
    left, ended = (await told(world))[before:]
    assert (left[0], left[1]["user"]["identities"][0]["following"]) == ("user.unfollowed", False)
    assert ended[0] == "session.ended"
    assert ended[1]["reason"] == "unfollowed"
    assert (left[1]["user"]["id"], ended[1]["user_id"]) == (collected.user.id, collected.user.id)


async def test_an_old_unfollow_is_no_news(world):
    await world.follow(world.person())
    await world.unfollow(world.person(), created_at=START - 50)
    assert "user.unfollowed" not in await events(world)


async def test_an_older_unfollow_after_a_newer_one_is_no_news(world):
    await world.confirmed()
    world.clock.pass_(9)
    await world.unfollow(world.person())
    await world.unfollow(world.person(), created_at=START + 5)
    assert await events(world) == ["user.created", "user.unfollowed"]


async def test_an_old_follow_is_no_news(world):
    await world.confirmed()
    world.clock.pass_(2)
    await world.unfollow(world.person())
    await world.follow(world.person(), created_at=START + 1)
    assert await events(world) == ["user.created", "user.unfollowed"]


async def test_an_unfollow_of_nobody_known_is_no_news(world):
    await world.unfollow(world.person())
    assert await events(world) == []


@pytest.mark.parametrize("how", ["follow", "scan"])
async def test_who_comes_back_follows_again(world, how):
    await world.follow(world.person())
    world.clock.pass_(2)
    await world.unfollow(world.person())
    world.clock.pass_(2)
    if how == "follow":
        await world.follow(world.person())
    else:  # the follow itself was lost
        await world.scan(await world.ticket(), world.person())
    assert await events(world) == ["user.created", "user.followed", "user.unfollowed", "user.followed"]
    assert (await last(world))["user"]["identities"][0]["following"] is True


# --- The team's own app.


class Phone:
    def __init__(self, world: World) -> None:
        self.world, self.tokens, key = world, 0, import_key(SECRET)
        self.login = AppLogin(world.context, [(Policy(ISSUER, AUDIENCE, algorithms_of(key)), key)])

    async def person(self, **claims: Any):
        self.tokens += 1
        own = {"sub": "u1", "jti": f"{self.tokens}", **claims}
        return await self.login.person(BACKENDS["HS256"].token(**{**claims_now(self.world.clock()), **own}))

    async def scan(self, **claims: Any):
        held = await self.world.ticket(method="app")
        return held, await self.login.scan(held.ticket.id, await self.person(**claims))


async def test_the_apps_people_are_new_with_their_names(world):
    await Phone(world).scan(name="Chen", picture="https://app.example.com/chen.png")
    ((event, data),) = await told(world)
    assert (event, data["user"]["name"]) == ("user.created", "Chen")
    assert data["user"]["picture"].startswith("https://login.example.com/pictures/")
    assert data["user"]["identities"] == [{"provider": "app", "subject": "u1", "following": True}]


async def test_the_app_tells_another_name(world):
    phone = Phone(world)
    await phone.scan(name="Chen")
    await phone.scan(name="Chen")
    await phone.scan(name="Chen Wei")
    assert await events(world) == ["user.created", "user.updated"]
    data = await last(world)
    assert (data["changed"], data["user"]["name"]) == (["name"], "Chen Wei")


@pytest.mark.parametrize("when", ["scan", "confirm"])
async def test_the_app_of_somebody_blocked(world, when):
    phone = Phone(world)
    held, scanned = await phone.scan()
    user = await world.do(lambda transaction: transaction.users.by_identity("app", "u1"))
    await world.do(lambda transaction: transaction.users.set_blocked(user.id, True))
    before = await so_far(world)
    for _ in range(2):
        person = await phone.person(name="Other")
        more = (scanned.handle,) if when == "confirm" else ()
        with pytest.raises(LoginRefused):
            await getattr(phone.login, when)(held.ticket.id, person, *more)
    ((event, data),) = (await told(world))[before:]
    assert (event, data["reason"], data["method"]) == ("login.refused", "blocked", "app")
    assert [(line.result, line.user_id) for line in await world.logins()] == [("blocked", user.id)]


# --- Profiles.


class Tells:
    """A client whose platform tells this of everybody."""

    def __init__(self, **profile: str) -> None:
        self.profile = profile

    async def follower(self, openid: str) -> Follower:
        return Follower(openid=openid, following=True, **self.profile)


async def profiled(world: World, openid: str, client: Tells) -> None:
    fetcher = ProfileFetcher(world.context, client)  # type: ignore[arg-type]
    fetcher.start()
    fetcher.want(await world.user(openid), openid)
    await fetcher.idle()
    await fetcher.stop()


async def test_what_the_platform_tells_of_a_person(world):
    await world.follow(world.person())
    before = await so_far(world)
    for _ in range(2):
        await profiled(world, world.person(), Tells(nickname="Chen", picture="https://wx.qlogo.cn/1"))
        world.clock.pass_(100_000)
    ((event, data),) = (await told(world))[before:]
    assert (event, data["changed"], data["user"]["name"]) == ("user.updated", ["name", "picture"], "Chen")
    assert "qlogo" not in json.dumps(data), "a browser would call a third party"


async def test_a_profile_that_shows_nothing_new_is_no_news(world):
    await world.follow(world.person())
    await sessions.choose_name(world.context, await world.user(), "Chosen")
    before = await so_far(world)
    await profiled(world, world.person(), Tells(nickname="Chen", city="Beijing"))
    assert await so_far(world) == before, "the chosen name is shown, as before"


async def test_two_that_turn_out_to_be_one(world):
    older, younger = world.person(0), world.person(FOLLOWER)
    for person in (older, younger):
        await world.follow(person)
        world.clock.pass_(1)
    ids = [(await world.user(person)).id for person in (older, younger)]
    before = await so_far(world)
    for person in (older, younger):
        await profiled(world, person, Tells(unionid="one"))
    learned, (event, data) = (await told(world))[before:]
    assert learned[1]["changed"] == ["unionid"]
    assert (event, data["changed"]) == ("user.updated", ["unionid", "previous_ids"])
    assert (data["user"]["id"], data["user"]["previous_ids"]) == (ids[0], [ids[1]])
    assert {known["subject"] for known in data["user"]["identities"]} == {older, younger}


async def test_who_is_one_with_somebody_blocked_is_signed_out(world):
    blocked, welcome = world.person(0), world.person(FOLLOWER)
    await world.follow(blocked)
    world.clock.pass_(1)
    await people.set_blocked(world.context, (await world.user(blocked)).id, True)
    collected = await world.logged_in(welcome)
    await profiled(world, blocked, Tells(unionid="one"))
    before = await so_far(world)
    await profiled(world, welcome, Tells(unionid="one"))
    updated, ended = (await told(world))[before:]
    assert (updated[0], updated[1]["user"]["blocked"]) == ("user.updated", True)
    assert updated[1]["changed"] == ["blocked", "unionid", "previous_ids"]
    assert (ended[0], ended[1]["reason"]) == ("session.ended", "blocked")
    assert await sessions.current(world.context, collected.token) is None


async def test_a_name_of_ones_own(world):
    collected = await world.logged_in()
    before = await so_far(world)
    for name in ("Chen", "Chen", "", "Chen"):
        await sessions.choose_name(world.context, collected.user, name)
    assert [data["user"]["name"] for _, data in (await told(world))[before:]] == ["Chen", "", "Chen"]


# --- Blocked and forgotten.


async def test_who_is_blocked_is_out_at_once(world):
    collected, waiting = await world.logged_in(), await world.confirmed()
    before = await so_far(world)
    for _ in range(2):
        await people.set_blocked(world.context, collected.user.id, True)
    updated, ended = (await told(world))[before:]
    assert (updated[0], updated[1]["changed"]) == ("user.updated", ["blocked"])
    assert updated[1]["user"]["blocked"] is True
    assert (ended[0], ended[1]["reason"]) == ("session.ended", "blocked")
    assert await sessions.current(world.context, collected.token) is None
    assert (await world.stored(waiting)).state == "CANCELLED"


async def test_who_is_welcome_again(world):
    collected = await world.logged_in()
    await people.set_blocked(world.context, collected.user.id, True)
    before = await so_far(world)
    await people.set_blocked(world.context, collected.user.id, False)
    ((event, data),) = (await told(world))[before:]
    assert (event, data["user"]["blocked"]) == ("user.updated", False)
    assert (await world.logged_in()).user.id == collected.user.id


async def test_who_is_forgotten(world):
    collected, waiting = await world.logged_in(), await world.confirmed()
    before = await so_far(world)
    for _ in range(2):
        await people.forget(world.context, collected.user.id)
    ended, deleted = (await told(world))[before:]
    assert (ended[0], ended[1]["reason"]) == ("session.ended", "deleted")
    assert deleted == (
        "user.deleted",
        {
            "user": {
                "id": collected.user.id,
                "previous_ids": [],
                "identities": [{"provider": "wechat", "subject": world.person(), "following": True}],
            }
        },
    )
    assert await world.user() is None
    assert await sessions.current(world.context, collected.token) is None
    assert (await world.stored(waiting)).state == "CANCELLED"
    assert (await world.logged_in()).user.id != collected.user.id, "whoever comes again is somebody new"


async def test_nobody_who_is_unknown_is_blocked(world):
    with pytest.raises(NotFound):
        await people.set_blocked(world.context, "nobody", True)
    await people.forget(world.context, "nobody")
    assert await events(world) == []
