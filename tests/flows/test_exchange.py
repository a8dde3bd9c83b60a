"""A confirmed login is collected by one holder, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from errors import LoginRefused, TicketUnknown, TransitionRefused
from flows import sessions
from flows.exchange import exchange
from flows.tickets import abandon
from tests.clock import START
from tests.flows.world import World, made
from tickets import State, hash_secret


async def who(world: World, token: str):
    return await sessions.current(world.context, token)


async def test_a_login_is_collected(world: World):
    held = await world.confirmed(next="/deep?a=b")
    collected = await world.collect(held)
    assert collected.ticket.state is State.CONSUMED
    assert collected.next == "/deep?a=b"
    current = await who(world, collected.token)
    assert current is not None
    assert current.user.id == collected.user.id == (await world.user()).id
    session = current.session
    assert session.token_hash == hash_secret(collected.token)
    assert (session.ticket_id, session.provider, session.client) == (held.ticket.id, "wechat", "browser")
    assert session.expires_at == START + 2_592_000
    (line,) = await world.logins()
    assert (line.result, line.user_id, line.address) == ("success", collected.user.id, "203.0.113.5")
    user = await world.user()
    assert (user.login_count, user.last_login_at) == (1, START)


@pytest.mark.parametrize("case", ["unknown", "wrong secret", "no secret", "expired"])
async def test_only_the_holder_of_the_secret_collects(world: World, case: str):
    held = await world.confirmed()
    ticket_id, secret = held.ticket.id, held.secret
    match case:
        case "unknown":
            ticket_id = "nobody"
        case "wrong secret":
            secret = (await world.ticket()).secret
        case "no secret":
            secret = ""
        case _:
            world.clock.pass_(300)
    with pytest.raises(TicketUnknown):
        await exchange(world.context, ticket_id, secret)
    assert await world.live_sessions() == []
    assert await world.logins() == []


async def test_nothing_to_collect_yet(world: World):
    held = await world.ticket()
    with pytest.raises(TransitionRefused):
        await world.collect(held)


async def test_nothing_to_collect_any_more(world: World):
    held = await world.confirmed()
    await abandon(world.context, held.ticket.id, held.secret)
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await world.live_sessions() == []


@pytest.mark.parametrize("run", range(3))
async def test_fifty_at_once_leave_one_live_session(world: World, run: int):
    held = await world.confirmed()
    outcomes = await asyncio.gather(*(world.collect(held) for _ in range(50)), return_exceptions=True)
    tokens = [collected.token for collected in outcomes if not isinstance(collected, BaseException)]
    assert tokens
    assert all(isinstance(o, TransitionRefused) for o in outcomes if isinstance(o, BaseException))
    assert len(await world.live_sessions()) == 1
    assert sum([await who(world, token) is not None for token in tokens]) == 1
    assert len(await world.logins()) == 1
    assert (await world.user()).login_count == 1


async def test_of_holder_and_thieves_the_holder_wins(world: World):
    held = await world.confirmed()
    thieves = [exchange(world.context, held.ticket.id, f"guess-{n}") for n in range(25)]
    outcomes = await asyncio.gather(*thieves, world.collect(held), return_exceptions=True)
    assert [isinstance(outcome, TicketUnknown) for outcome in outcomes] == [True] * 25 + [False]


async def test_a_repeat_within_a_minute_replaces_the_first(world: World):
    held = await world.confirmed()
    first = await world.collect(held)
    world.clock.pass_(59.9)
    second = await world.collect(held)
    assert second.token != first.token
    assert await who(world, first.token) is None
    assert await who(world, second.token) is not None
    assert len(await world.live_sessions()) == 1
    assert (await world.user()).login_count == 1


@pytest.mark.parametrize("seconds", [60, 61, 250])
async def test_a_repeat_after_a_minute_is_refused_and_ends_nothing(world: World, seconds: float):
    held = await world.confirmed()
    first = await world.collect(held)
    world.clock.pass_(seconds)
    with pytest.raises((TransitionRefused, TicketUnknown)):
        await world.collect(held)
    assert await who(world, first.token) is not None


async def test_a_ticket_whose_collection_was_forgotten_is_not_collected_again(world: World):
    """Tickets may live in a Redis that loses its last second: the database's session is the one winner."""
    held = await world.confirmed()
    first = await world.collect(held)

    def forgotten(ticket):
        return replace(ticket, state=State.CONFIRMED, consumed_at=0.0)

    world.clock.pass_(61)
    await world.do(
        lambda transaction: transaction.tickets.update(held.ticket.id, forgotten, now=world.clock())
    )
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await who(world, first.token) is not None


async def test_repeats_do_not_move_their_own_end(world: World):
    held = await world.confirmed()
    await world.collect(held)
    for _ in range(3):
        world.clock.pass_(15)
        last = await world.collect(held)
    world.clock.pass_(15)
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await who(world, last.token) is not None


async def test_a_login_confirmed_at_the_last_moment_has_its_minute(world: World):
    held = await world.ticket()
    world.clock.pass_(299)
    await world.scan(held, world.person())
    world.clock.pass_(59)
    first = await world.collect(held)
    world.clock.pass_(59)
    assert (await world.collect(held)).token != first.token


# --- who may not ------------------------------------------------------------------------------------------


async def test_blocked_between_confirm_and_exchange(world: World):
    held = await world.confirmed()
    user = await world.user()
    await world.do(lambda transaction: transaction.users.set_blocked(user.id, True))
    for _ in range(2):
        with pytest.raises(LoginRefused):
            await world.collect(held)
    assert await world.live_sessions() == []
    (line,) = await world.logins()
    assert (line.result, line.user_id) == ("login_refused", user.id)
    assert (await world.stored(held)).state is State.CONFIRMED


async def test_no_longer_following_between_confirm_and_exchange(world: World):
    held = await world.confirmed()

    # As in a race: the mark is there, the tickets are not taken back yet.
    async def leave(transaction):
        await transaction.users.set_unfollowed("wechat", world.person(), event_at=START + 1)

    await world.do(leave)
    with pytest.raises(LoginRefused):
        await world.collect(held)
    assert await world.live_sessions() == []
    assert [line.result for line in await world.logins()] == ["login_refused"]


async def test_unfollowed_between_confirm_and_exchange(world: World):
    held = await world.confirmed()
    await world.unfollow(world.person())
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await world.live_sessions() == []


async def test_forgotten_between_confirm_and_exchange(world: World):
    held = await world.confirmed()
    user = await world.user()
    await world.do(lambda transaction: transaction.users.forget(user.id))
    with pytest.raises(LoginRefused):
        await world.collect(held)


class InBetween:
    """A transaction in whose midst somebody else does something, as MongoDB allows."""

    def __init__(self, transaction, method: str, meanwhile) -> None:
        self._transaction = transaction
        self._method = method
        self._meanwhile = meanwhile

    def __getattr__(self, name: str):
        known = getattr(self._transaction, name)
        if name != "sessions":
            return known
        outer = self

        class Sessions:
            def __getattr__(self, name: str):
                method = getattr(known, name)
                if name != outer._method:
                    return method

                async def then(*arguments, **more):
                    result = await method(*arguments, **more)
                    await outer._meanwhile(outer._transaction)
                    return result

                return then

        return Sessions()


@pytest.mark.parametrize("case", ["block", "unfollow"])
async def test_a_block_or_unfollow_that_races_with_the_exchange_wins(world: World, case: str, monkeypatch):
    held = await world.confirmed()
    user = await world.user()

    async def meanwhile(transaction) -> None:
        if case == "block":
            await transaction.users.set_blocked(user.id, True)
        else:
            await transaction.users.set_unfollowed("wechat", world.person(), event_at=START + 1)

    class Racing:
        def __init__(self, inner) -> None:
            self.inner = inner
            self.revoked: list[str] = []

        async def transact(self, work):
            return await self.inner.transact(lambda t: work(InBetween(t, "create", meanwhile)))

    racing = Racing(world.context.storage)
    with pytest.raises(LoginRefused):
        await exchange(replace(world.context, storage=racing), held.ticket.id, held.secret)  # type: ignore[arg-type]
    assert await world.live_sessions() == []


@pytest.mark.parametrize(("late", "collected"), [(1, True), (2, True), (100, False)])
async def test_a_repeat_beside_an_earlier_one_that_the_database_is_late_with(
    world: World, late: int, collected: bool
):
    """The holder was answered 503, asks again, and what they asked for first is done only now."""
    held = await world.confirmed()
    await world.collect(held)
    left = late

    async def meanwhile(transaction) -> None:
        nonlocal left
        if left:
            left -= 1
            stored = await transaction.sessions.by_ticket(held.ticket.id)
            fresh = replace(stored, id=f"late {left}", token_hash=hash_secret(f"late {left}"))
            assert await transaction.sessions.replace(stored, fresh)

    class Late:
        async def transact(self, work):
            return await world.context.storage.transact(lambda t: work(InBetween(t, "create", meanwhile)))

    repeat = exchange(replace(world.context, storage=Late()), held.ticket.id, held.secret)  # type: ignore[arg-type]
    if collected:
        assert await who(world, (await repeat).token) is not None
    else:
        with pytest.raises(TransitionRefused):
            await repeat
    assert len(await world.live_sessions()) == 1


async def test_a_repeat_that_begins_within_its_minute_ends_well(world: World):
    held = await world.confirmed()
    await world.collect(held)
    world.clock.pass_(59)

    async def meanwhile(transaction) -> None:
        world.clock.pass_(2)

    class Slow:
        async def transact(self, work):
            return await world.context.storage.transact(lambda t: work(InBetween(t, "create", meanwhile)))

    context = replace(world.context, storage=Slow())  # type: ignore[arg-type]
    repeated = await exchange(context, held.ticket.id, held.secret)
    assert await who(world, repeated.token) is not None


async def test_a_revoked_session_cannot_be_collected_again(world: World):
    held = await world.confirmed()
    first = await world.collect(held)
    current = await who(world, first.token)
    assert current is not None
    await sessions.end(world.context, current.session)
    world.clock.pass_(5)
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await world.live_sessions() == []


# --- the browser's former session -------------------------------------------------------------------------


async def test_the_browsers_former_session_ends(world: World):
    first = await world.logged_in()
    other = await world.logged_in()
    second = await world.collect(await world.confirmed(), former_tokens=[first.token])
    assert await who(world, first.token) is None
    assert await who(world, second.token) is not None
    assert await who(world, other.token) is not None, "another browser's stays"


async def test_the_former_session_of_another_person_ends_too(world: World):
    first = await world.logged_in(world.person(1))
    second = await world.collect(await world.confirmed(world.person(2)), former_tokens=[first.token])
    assert await who(world, first.token) is None
    assert (await who(world, second.token)).user.id == (await world.user(world.person(2))).id


@pytest.mark.parametrize("token", ["unknown", "", "\ud800", "x" * 10_000])
async def test_a_former_token_that_means_nothing(world: World, token: str):
    assert await world.collect(await world.confirmed(), former_tokens=[token])


async def test_a_repeat_with_the_first_answers_cookie(world: World):
    held = await world.confirmed()
    first = await world.collect(held)
    second = await world.collect(held, former_tokens=[first.token])
    assert await who(world, first.token) is None
    assert await who(world, second.token) is not None


async def test_a_refused_exchange_ends_no_former_session(world: World):
    first = await world.logged_in()
    held = await world.ticket()
    with pytest.raises(TransitionRefused):
        await world.collect(held, former_tokens=[first.token])
    assert await who(world, first.token) is not None


# --- where to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "led_to"),
    [
        ("https://www.example.com/a", "https://www.example.com/a"),
        ("https://former.example.com/a", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
    ],
)
async def test_next_is_checked_when_it_is_used(tmp_path, target: str, led_to: str):
    async with made(tmp_path, server={"allowed_redirects": ["https://www.example.com"]}) as world:
        assert (await world.logged_in(next=target)).next == led_to


async def test_the_page_is_told(world: World):
    held, woken = await world.confirmed(), []
    world.broker.subscribe(held.ticket.id, lambda: woken.append(1))
    await world.collect(held)
    assert woken == [1]


async def test_an_api_clients_session_says_so(world: World):
    collected = await world.logged_in(client="api", site="shop")
    current = await who(world, collected.token)
    assert current is not None
    assert (current.session.client, current.session.site) == ("api", "shop")


@pytest.mark.parametrize("client", ["api", "widget"])
async def test_what_is_no_browsers_is_unknown_to_who_answers_browsers(world, client):
    held = await world.confirmed(client=client)
    with pytest.raises(TicketUnknown):
        await world.collect(held)
    assert (await world.stored(held)).state is State.CONFIRMED
    assert await world.live_sessions() == []
    assert await world.collect(held, clients=(client,))


async def test_a_clock_that_is_set_back_gives_nobody_another_minute(world: World):
    held = await world.confirmed()
    first = await world.collect(held)
    world.clock.pass_(-3600)
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await who(world, first.token) is not None
