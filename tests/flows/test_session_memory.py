"""What is remembered of sessions is never older than the last change that was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from errors import StoreUnavailable
from flows import not_me, session_memory, sessions
from flows.deliveries import Deliveries
from flows.exchange import Collected
from flows.session_memory import HEARD_SECONDS, KEPT_SECONDS, LIFE_SECONDS, SessionMemory
from storage.base import Storage, Transaction
from storage.records import Profile, Session, User
from storage.shared import LocalShared
from storage.watched import WatchedStorage
from tests.flows.world import Delegating, World
from tickets import hash_secret

DAY = 86_400.0


class Counting(Delegating):
    """A store that counts, and fails in each of the ways that the contract allows."""

    asked = 0
    away = False
    breaks_off = False  # does the work, and says that it failed

    async def transact(self, work):
        self.asked += 1
        if self.away:
            raise StoreUnavailable
        result = await super().transact(work)
        if self.breaks_off:
            raise StoreUnavailable
        return result


class Marks(LocalShared):
    away = False

    async def marks(self, names: Sequence[str]) -> list[str]:
        if self.away:
            raise StoreUnavailable
        return await super().marks(names)

    async def renew(self, names: Iterable[str]) -> None:
        if self.away:
            raise StoreUnavailable
        await super().renew(names)

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        return False  # as where it is far away


class Remembering:
    """A world in whose store every change renews its marks, and a memory over it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Counting(world.context.storage)
        self.shared = Marks(world.clock)
        self.context = replace(world.context, storage=WatchedStorage(self.store, self.shared))
        world.context = self.context
        world.deliveries = Deliveries(self.context, world.gate, world.wanted, world.sent, None)
        self.memory = SessionMemory(self.context, self.shared)

    async def remembered(self, number: int = 0) -> Collected:
        """A login that the memory knows."""
        collected = await self.world.logged_in(self.world.person(number))
        assert await self.current(collected) is not None
        assert await self.asks(collected) == 0
        return collected

    async def current(self, collected: Collected) -> sessions.Current | None:
        return await self.memory.current([collected.token])

    async def asks(self, collected: Collected) -> int:
        """How often the database is asked when the memory is."""
        before = self.store.asked
        await self.current(collected)
        return self.store.asked - before

    async def do(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        return await self.world.do(work)


@pytest.fixture
def here(world: World) -> Remembering:
    return Remembering(world)


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


async def _block(here: Remembering, collected: Collected) -> None:
    await here.do(lambda t: t.users.set_blocked(collected.user.id, True))


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
    _block,
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


# How long it holds.


async def test_it_does_not_outlive_the_session(here: Remembering):
    limits = here.context.settings.session
    collected = await here.remembered()
    for _ in range(10):
        here.world.clock.pass_(limits.lifetime / 10 - 1)
        assert await here.current(collected) is not None
    here.world.clock.pass_(9)
    assert await here.current(collected) is not None
    here.world.clock.pass_(1)
    assert await here.current(collected) is None


async def test_use_is_noted_when_it_is_due(here: Remembering):
    collected = await here.remembered()
    for _ in range(9):
        here.world.clock.pass_(6 * DAY / 2)
        assert await here.current(collected) is not None, "7 days without use would have ended it"
        assert await here.asks(collected) == 0


async def test_the_database_is_asked_again_after_a_while(here: Remembering):
    collected = await here.remembered()
    here.world.clock.pass_(LIFE_SECONDS - 1)
    await here.memory.current(["somebody else's"])  # the store is there
    assert await here.asks(collected) == 0
    here.world.clock.pass_(1)
    await here.memory.current(["somebody else's"])
    assert await here.asks(collected) == 1
    assert await here.asks(collected) == 0


async def test_a_store_that_has_not_been_heard_of_is_asked(here: Remembering):
    collected, other = await here.remembered(), await here.remembered(1)
    here.world.clock.pass_(HEARD_SECONDS)
    assert await here.asks(collected) == 1
    assert await here.asks(other) == 0  # one question for all


async def test_nobody_passes_once_the_store_is_known_to_be_away(here: Remembering, monkeypatch):
    collected = await here.remembered()

    async def away(work):
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(here.store, "transact", away)
        here.world.clock.pass_(HEARD_SECONDS)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await here.current(collected)
    assert await here.current(collected) is not None


async def test_a_clock_that_is_set_back_lengthens_nothing(here: Remembering):
    collected = await here.remembered()
    here.world.clock.pass_(-3600)
    assert await here.asks(collected) == 1


async def test_the_longest_unused_is_forgotten(here: Remembering, monkeypatch):
    monkeypatch.setattr(session_memory, "MAX_REMEMBERED", 2)
    first, second = await here.remembered(), await here.remembered(1)
    await here.current(first)
    third = await here.world.logged_in(here.world.person(2))
    await here.current(third)
    assert [await here.asks(one) for one in (first, third)] == [0, 0]
    assert await here.asks(second) > 0


async def test_who_is_not_seen_for_a_while_is_forgotten(here: Remembering):
    for number in range(3):
        await here.remembered(number)
    here.world.clock.pass_(KEPT_SECONDS + 1)
    await here.remembered(3)
    assert len(here.memory._known) == 1


async def test_nothing_negative_is_remembered(here: Remembering):
    collected = await here.remembered()
    await _block(here, collected)
    assert await here.current(collected) is None
    await here.do(lambda t: t.users.set_blocked(collected.user.id, False))
    assert await here.current(collected) is not None


# A store that does not answer.


async def test_while_the_store_is_known_to_be_away_nothing_is_told_from_memory(here: Remembering):
    collected = await here.remembered()
    here.store.away = True
    with pytest.raises(StoreUnavailable):
        await here.memory.current(["somebody else's"])
    with pytest.raises(StoreUnavailable):
        await here.current(collected)
    here.store.away = False
    assert await here.current(collected) is not None
    assert await here.asks(collected) == 0


async def test_a_change_that_failed_may_have_happened(here: Remembering):
    collected = await here.remembered()
    here.store.breaks_off = True
    with pytest.raises(StoreUnavailable):
        await _block(here, collected)
    here.store.breaks_off = False
    assert await here.current(collected) is None


# Several tokens at once.


async def test_of_several_the_one_that_is_alive_counts(here: Remembering):
    collected = await here.remembered()
    current = await here.memory.current(["unknown", collected.token, ""])
    assert current is not None
    assert current.user.id == collected.user.id


async def test_of_two_that_are_alive_none_counts(here: Remembering):
    mine, planted = await here.remembered(), await here.remembered(1)
    assert await here.memory.current([mine.token, planted.token]) is None
    assert await here.memory.current([]) is None
    await _block(here, planted)
    assert await here.memory.current([mine.token, planted.token]) is not None


# Marks that cannot be had.


async def test_without_marks_the_database_is_asked(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    for _ in range(3):
        assert await here.asks(collected) == 1
    await here.store.transact(lambda t: t.users.set_blocked(collected.user.id, True))
    assert await here.current(collected) is None


async def test_what_was_remembered_before_the_marks_went_away_is_not_believed_after(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    assert await here.current(collected) is not None
    await here.store.transact(lambda t: t.users.set_blocked(collected.user.id, True))  # no mark is renewed
    here.shared.away = False
    here.world.clock.pass_(1.1)
    assert await here.current(collected) is None


async def test_it_is_remembered_again_when_they_are_back(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    await here.current(collected)
    here.shared.away = False
    here.world.clock.pass_(1.1)
    assert await here.asks(collected) > 0
    assert await here.asks(collected) == 0


async def test_a_change_whose_marks_could_not_be_renewed_is_made_up_for(here: Remembering, monkeypatch):
    monkeypatch.setattr("storage.watched.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("storage.watched.PATIENCE_SECONDS", 0.05)
    collected = await here.remembered()
    here.shared.away = True
    await _block(here, collected)  # is acknowledged
    here.shared.away = False
    async with asyncio.timeout(5):
        while await here.current(collected) is not None:
            await asyncio.sleep(0.005)


# Every order in which a reader and a change can meet.


class Steps:
    """Holds everybody at each step until a schedule lets one of them go on."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def step(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        future = asyncio.get_running_loop().create_future()
        number = int(task.get_name().rpartition("-")[2])  # in the order that they were made
        self.waiting.append((number, future))
        await future


class Database(Storage):
    """One session of one person in memory. A call takes a step before its effect and one after it."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.session = Session(
            "session", hash_secret("token"), "ticket", "user", "wechat", "browser", "", 0.0, 0.0, 1e9
        )
        self.user = User("user", 0.0, ())

    async def transact(self, work):
        await self.steps.step()
        result = await work(SimpleNamespace(sessions=self, users=SimpleNamespace(get=self.get_user)))
        await self.steps.step()
        return result

    async def get(self, token_hash: bytes) -> Session:
        return self.session

    async def get_user(self, user_id: str) -> User:
        return self.user

    async def revoke(self, session_id: str) -> Session:
        self.session = replace(self.session, revoked=True)
        return self.session

    async def sweep(self, *, now: float) -> None: ...
    async def ping(self) -> None: ...
    async def close(self) -> None: ...


class SteppedMarks(LocalShared):
    def __init__(self, steps: Steps) -> None:
        super().__init__(lambda: 0.0)
        self.steps = steps

    async def marks(self, names: Sequence[str]) -> list[str]:
        await self.steps.step()
        found = await super().marks(names)
        await self.steps.step()
        return found

    async def renew(self, names: Iterable[str]) -> None:
        await self.steps.step()
        await super().renew(names)
        await self.steps.step()

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        return False  # as where it is far away


async def _meet(choices: Iterator[int], *, warm: bool) -> list[int]:
    """One run: who goes on at each step is chosen; returns among how many each time."""
    steps = Steps()
    shared, revoked = SteppedMarks(steps), False
    limits = SimpleNamespace(session=SimpleNamespace(idle=1e9))
    context: Any = SimpleNamespace(
        storage=WatchedStorage(Database(steps), shared), settings=limits, now=lambda: 1.0
    )
    memory = SessionMemory(context, shared)

    async def check() -> None:
        over = revoked
        found = await memory.current(["token"])
        assert found is None or not over, "it was revoked before the check began"

    async def read() -> None:
        for _ in range(2):
            await check()

    async def revoke() -> None:
        nonlocal revoked
        await context.storage.transact(lambda t: t.sessions.revoke("session"))
        revoked = True

    async def run(*actors: Awaitable[None]) -> list[int]:
        tasks = [asyncio.ensure_future(actor) for actor in actors]
        options = []
        while not all(task.done() for task in tasks):
            if not steps.waiting:
                await asyncio.sleep(0)
                continue
            for _ in range(6):  # until everybody who can has come to a step
                await asyncio.sleep(0)
            steps.waiting.sort(key=lambda entry: entry[0])
            options.append(len(steps.waiting))
            steps.waiting.pop(next(choices, 0) if len(actors) > 1 else 0)[1].set_result(None)
        for task in tasks:
            task.result()
        return options

    if warm:
        await run(check())
    options = await run(read(), revoke())
    await run(check())
    return options


@pytest.mark.parametrize("warm", [False, True])
async def test_any_order_of_steps(warm: bool):
    pending: list[list[int]] = [[]]
    runs = 0
    while pending:
        chosen = pending.pop()
        options = await _meet(iter(chosen), warm=warm)
        runs += 1
        for place in range(len(chosen), len(options)):
            taken = chosen + [0] * (place - len(chosen))
            pending += [[*taken, other] for other in range(1, options[place])]
    assert runs > 50
