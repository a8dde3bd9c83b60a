"""What is remembered of sessions is never older than the last change that was acknowledged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flows import not_me, sessions
from flows.exchange import Collected
from storage.records import Profile, User
from tests.flows.session_memory.remembering import Remembering, block
from tickets import hash_secret


async def test_the_database_is_asked_once(here: Remembering):
    collected = await here.remembered()
    before = here.store.asked
    for _ in range(50):
        assert await here.current(collected) is not None
    assert here.store.asked == before


async def test_it_says_what_the_database_says(here: Remembering):
    collected = await here.remembered()
    assert await here.current(collected) == await sessions.current(here.context, collected.token)


# Each way in which a session ends.


async def _sign_out(here: Remembering, collected: Collected) -> None:
    current = await here.current(collected)
    assert current is not None
    await sessions.end(here.context, current.session)


async def _not_me(here: Remembering, collected: Collected) -> None:
    link = await here.do(lambda t: not_me.new_link(t, here.context, collected.ticket))
    assert await not_me.end_login(here.context, link.rpartition("/")[2])


async def _unfollow(here: Remembering, collected: Collected) -> None:
    here.world.clock.pass_(1)
    await here.world.unfollow(here.world.person())


async def _forget(here: Remembering, collected: Collected) -> None:
    await here.do(lambda t: t.users.forget(collected.user.id))


async def _revoke_all(here: Remembering, collected: Collected) -> None:
    await here.do(lambda t: t.sessions.revoke_of_user(collected.user.id))


async def _revoke_by_ticket(here: Remembering, collected: Collected) -> None:
    await here.do(lambda t: t.sessions.revoke_of_ticket(collected.ticket.id))


async def _log_in_again(here: Remembering, collected: Collected) -> None:
    held = await here.world.confirmed()
    await here.world.collect(held, former_tokens=[collected.token])


async def _repeat_the_exchange(here: Remembering, collected: Collected) -> None:
    session = await here.do(lambda t: t.sessions.by_ticket(collected.ticket.id))
    other = replace(session, id="other", token_hash=hash_secret("other"))
    assert await here.do(lambda t: t.sessions.replace(session, other))


async def _merge_with_somebody_blocked(here: Remembering, collected: Collected) -> None:
    """A unionid tells that two people are one, and one of them is blocked."""
    other = await here.remembered(1)
    await here.do(lambda t: t.users.set_blocked(other.user.id, True))
    for number in (1, 0):
        await _profile(here, here.world.person(number), unionid="union")


async def _merge_from_the_other_side(here: Remembering, collected: Collected) -> None:
    other = await here.remembered(1)
    await here.do(lambda t: t.users.set_blocked(other.user.id, True))
    await _profile(here, here.world.person(0), unionid="union")
    assert await here.asks(collected) > 0
    assert await here.asks(collected) in (0, 2)
    assert await here.asks(collected) == 0, "it is remembered, with the unionid"
    await _profile(here, here.world.person(1), unionid="union")


async def _block_by_a_former_id(here: Remembering, collected: Collected) -> None:
    here.world.clock.pass_(1)
    younger = await here.remembered(1)
    for number in (0, 1):
        await _profile(here, here.world.person(number), unionid="union")
    current = await here.current(collected)
    assert current is not None
    assert current.user.previous_ids == (younger.user.id,)
    assert await here.asks(collected) <= 2
    assert await here.asks(collected) == 0
    await here.do(lambda t: t.users.set_blocked(younger.user.id, True))


async def _profile(here: Remembering, openid: str, *, nickname: str = "", unionid: str = "") -> None:
    now = here.world.clock()
    profile = Profile(nickname=nickname)
    await here.do(lambda t: t.users.update_profile("wechat", openid, profile, unionid=unionid, now=now))


ENDINGS = [
    _sign_out,
    _not_me,
    _unfollow,
    block,
    _forget,
    _revoke_all,
    _revoke_by_ticket,
    _log_in_again,
    _repeat_the_exchange,
    _merge_with_somebody_blocked,
    _merge_from_the_other_side,
    _block_by_a_former_id,
]


@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__.strip("_"))
async def test_what_has_ended_is_refused_at_once(here: Remembering, end: Any):
    collected = await here.remembered()
    await end(here, collected)
    assert await here.current(collected) is None


@pytest.mark.parametrize("end", [_sign_out, _unfollow], ids=lambda end: end.__name__.strip("_"))
async def test_somebody_else_stays_remembered(here: Remembering, end: Any):
    collected, other = await here.remembered(), await here.remembered(1)
    await end(here, collected)
    await here.memory.current(["somebody else's"])  # the store is there
    assert await here.asks(other) == 0


# Each change of what is told of a person.


async def _set_name(here: Remembering, user: User) -> None:
    await sessions.choose_name(here.context, user, "Mei")


async def _set_nickname(here: Remembering, user: User) -> None:
    await _profile(here, here.world.person(), nickname="Mei")


async def _set_remark(here: Remembering, user: User) -> None:
    await here.do(lambda t: t.users.set_remark(user.id, "a remark"))


async def _set_admin(here: Remembering, user: User) -> None:
    await here.do(lambda t: t.users.set_admin(user.id, True))


async def _count_login(here: Remembering, user: User) -> None:
    await here.do(lambda t: t.users.count_login(user.id, "another", now=here.world.clock()))


async def _stop_following(here: Remembering, user: User) -> None:
    """While their sessions are kept."""
    at = here.world.clock() + 1
    await here.do(lambda t: t.users.set_unfollowed("wechat", here.world.person(), event_at=at))


async def _follow(here: Remembering, user: User) -> None:
    identity, at = user.identities[0], here.world.clock() + 1
    await here.do(
        lambda t: t.users.upsert_identity(
            "wechat", identity.subject, following=True, event_at=at, new_id="x", now=at
        )
    )


CHANGES = [_set_name, _set_nickname, _set_remark, _set_admin, _count_login, _stop_following, _follow]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
async def test_what_changes_of_a_person_is_told_at_once(here: Remembering, change: Any):
    collected = await here.remembered()
    before = await here.current(collected)
    await change(here, collected.user)
    after = await here.current(collected)
    assert after == await sessions.current(here.context, collected.token)
    assert after != before


async def test_logins_are_counted_at_once(here: Remembering):
    collected = await here.remembered()
    await here.world.logged_in()
    current = await here.current(collected)
    assert current is not None
    assert current.user.login_count == 2
