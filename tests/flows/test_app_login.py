"""The team's own app: who may scan, confirm and cancel, and what they are shown."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.token import Claims, Policy, algorithms_of, import_key
from errors import LoginRefused, TicketUnknown, TooManyRequests, TransitionRefused, Unauthenticated
from flows.app_login import AppLogin, HandleWrong, NumberWrong, Scanned
from flows.tickets import Held, abandon, revoke_pending
from flows.watch import INVALID, view
from storage.records import Profile, User
from tests.app.keys import AUDIENCE, BACKENDS, ISSUER, SECRET, claims_now
from tests.flows.world import World, made
from tickets import Device, State, Ticket
from tickets.ticket import EXTENSION_SECONDS

SITES = [{"id": "shop", "name": "The Shop", "secret": "x" * 40}]
DEVICE = Device("Firefox", "Linux", "2001:db8::7")


@dataclass
class Phone:
    """A person's app: makes itself tokens and calls us."""

    desk: Desk
    subject: str

    async def claims(self, **claims: Any) -> Claims:
        now = claims_now(self.desk.world.clock())
        token = BACKENDS["HS256"].token(**{**now, "sub": self.subject, "jti": self.desk.jti(), **claims})
        return await self.desk.login.person(token)

    async def scan(self, held: Held, **claims: Any) -> Scanned:
        return await self.desk.login.scan(held.ticket.id, await self.claims(**claims))

    async def confirm(self, held: Held, handle: str, number: int | None = None, **claims: Any) -> Ticket:
        return await self.desk.login.confirm(held.ticket.id, await self.claims(**claims), handle, number)

    async def cancel(self, held: Held, handle: str, **claims: Any) -> Ticket:
        return await self.desk.login.cancel(held.ticket.id, await self.claims(**claims), handle)


@dataclass
class Desk:
    world: World
    login: AppLogin
    tokens: int = 0

    def jti(self) -> str:
        self.tokens += 1
        return f"{self.tokens}"

    def phone(self, subject: str = "u1") -> Phone:
        return Phone(self, subject)

    async def ticket(self, **changes: Any) -> Held:
        return await self.world.ticket(**{"method": "app", "device": DEVICE, **changes})

    async def user(self, subject: str = "u1") -> User | None:
        return await self.world.do(lambda transaction: transaction.users.by_identity("app", subject))

    async def block(self, subject: str = "u1") -> None:
        user = await self.user(subject)
        await self.world.do(lambda transaction: transaction.users.set_blocked(user.id, True))


@asynccontextmanager
async def opened(folder: Path, **document: Any) -> AsyncIterator[Desk]:
    app = {"issuer": ISSUER, "key": SECRET, **document.pop("app", {})}
    async with made(folder, app=app, sites=SITES, **document) as world:
        key = import_key(SECRET)
        yield Desk(world, AppLogin(world.context, [(Policy(ISSUER, AUDIENCE, algorithms_of(key)), key)]))


@pytest.fixture
async def desk(tmp_path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as desk:
        yield desk


@pytest.fixture
async def matching(tmp_path) -> AsyncIterator[Desk]:
    """With `app.number_match`."""
    async with opened(tmp_path, app={"number_match": True}) as desk:
        yield desk


# What the person sees.


async def test_scan_shows_what_is_about_to_be_logged_in(desk):
    held = await desk.ticket()
    seen = await desk.phone().scan(held)
    assert (seen.ticket.state, seen.site, seen.ticket.device) == (State.SCANNED, "saoma", DEVICE)
    assert seen.ticket.created_at == held.ticket.created_at
    assert len(seen.handle) >= 32
    assert (await desk.phone().scan(await desk.ticket(site="shop", client="api"))).site == "The Shop"


async def test_the_handle_belongs_to_ticket_and_person(desk):
    one, two = await desk.ticket(), await desk.ticket()
    handle = (await desk.phone().scan(one)).handle
    assert {(await desk.phone().scan(one)).handle for _ in range(3)} == {handle}
    other = (await desk.phone().scan(two)).handle
    three = await desk.ticket()
    foreign = (await desk.phone("u2").scan(three)).handle
    assert len({handle, other, foreign}) == 3
    assert "u1" not in handle
    assert one.ticket.id not in handle


# Scanning.


async def test_the_first_who_scans_is_the_only_one_heard(desk):
    held = await desk.ticket()
    outcomes = await asyncio.gather(
        *(desk.phone(f"u{number}").scan(held) for number in range(20)), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Scanned)]
    assert sum(isinstance(outcome, TransitionRefused) for outcome in outcomes) == 19
    assert (await desk.world.stored(held)).scanner == winner.ticket.scanner


async def test_who_scanned_too_late_is_no_person_of_ours(desk):
    """The whole scan is one transaction here: nobody is stored for nothing."""
    held = await desk.ticket()
    await desk.phone().scan(held)
    with pytest.raises(TransitionRefused):
        await desk.phone("u2").scan(held)
    assert await desk.user("u2") is None


@pytest.mark.parametrize("call", ["scan", "confirm", "cancel"])
async def test_tickets_that_are_none_of_the_apps_business(desk, call):
    phone = desk.phone()
    wechat = await desk.world.ticket()
    expired = await desk.ticket()
    desk.world.clock.pass_(301)
    fresh = await desk.ticket()
    unknown = Held(replace(fresh.ticket, id="never-issued"), fresh.secret)
    for held in (wechat, expired, unknown):
        with pytest.raises(TicketUnknown):
            await getattr(phone, call)(held, *([] if call == "scan" else ["x" * 64]))
    assert await desk.user() is None


async def test_a_scan_leaves_time_to_confirm_and_to_collect(desk):
    held = await desk.ticket()
    desk.world.clock.pass_(299)
    handle = (await desk.phone().scan(held)).handle
    desk.world.clock.pass_(EXTENSION_SECONDS - 1)
    await desk.phone().confirm(held, handle)
    desk.world.clock.pass_(EXTENSION_SECONDS - 1)
    collected = await desk.world.collect(held)
    assert collected.user.identities[0].subject == "u1"


# Confirming and cancelling.


async def test_confirm_and_its_repeats(desk):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    for _ in range(3):
        assert (await desk.phone().confirm(held, handle)).state is State.CONFIRMED
    collected = await desk.world.collect(held)
    assert (collected.user.identities[0].provider, collected.user.identities[0].subject) == ("app", "u1")
    for _ in range(2):
        assert (await desk.phone().confirm(held, handle)).state is State.CONSUMED
        assert (await desk.phone().scan(held)).ticket.state is State.CONSUMED
    with pytest.raises(TransitionRefused):
        await desk.phone().cancel(held, handle)


async def test_cancel_and_its_repeats(desk):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    for _ in range(3):
        assert (await desk.phone().cancel(held, handle)).state is State.CANCELLED
    for refused in (desk.phone().confirm(held, handle), desk.phone().scan(held), desk.world.collect(held)):
        with pytest.raises(TransitionRefused):
            await refused


async def test_only_who_scanned_decides(desk):
    held = await desk.ticket()
    for act in (desk.phone().confirm, desk.phone().cancel):
        with pytest.raises(TransitionRefused):
            await act(held, "x" * 64)  # nobody has scanned
    handle = (await desk.phone().scan(held)).handle
    other = desk.phone("u2")
    for act in (other.confirm, other.cancel):
        with pytest.raises(TransitionRefused):
            await act(held, handle)
    assert (await desk.world.stored(held)).state is State.SCANNED


@pytest.mark.parametrize("wrong", ["", "x", "0" * 64, "é" * 64, "\ud800", "\x00"])
async def test_wrong_handles(desk, wrong):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    for given in (wrong, handle.upper(), handle[:-1], handle + "0"):
        for act in (desk.phone().confirm, desk.phone().cancel):
            with pytest.raises(HandleWrong):
                await act(held, given)
    assert (await desk.world.stored(held)).state is State.SCANNED


async def test_the_handle_of_another_ticket(desk):
    one, two = await desk.ticket(), await desk.ticket()
    handles = [(await desk.phone().scan(held)).handle for held in (one, two)]
    with pytest.raises(HandleWrong):
        await desk.phone().confirm(one, handles[1])
    with pytest.raises(HandleWrong):
        await desk.phone().cancel(two, handles[0])


async def test_what_the_browser_gave_up_is_not_confirmed(desk):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    await abandon(desk.world.context, held.ticket.id, held.secret)
    with pytest.raises(TransitionRefused):
        await desk.phone().confirm(held, handle)


async def test_what_was_taken_back_is_not_confirmed(desk):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    user = await desk.user()
    await desk.world.do(lambda transaction: revoke_pending(transaction, desk.world.context, user.id, "app"))
    with pytest.raises(TransitionRefused):
        await desk.phone().confirm(held, handle)


# One token confirms once.


@pytest.mark.parametrize("jti", ["the same", None, ""])
async def test_one_token_confirms_one_ticket(desk, jti):
    one, two = await desk.ticket(), await desk.ticket()
    phone = desk.phone()
    handles = [(await phone.scan(held)).handle for held in (one, two)]
    for _ in range(2):
        assert (await phone.confirm(one, handles[0], jti=jti)).state is State.CONFIRMED
    with pytest.raises(Unauthenticated):
        await phone.confirm(two, handles[1], jti=jti)
    assert (await desk.world.stored(two)).state is State.SCANNED
    await desk.world.collect(one)
    await desk.world.context.storage.sweep(now=desk.world.clock())
    with pytest.raises(Unauthenticated):
        await phone.confirm(two, handles[1], jti=jti)
    assert (await phone.confirm(two, handles[1])).state is State.CONFIRMED  # with a fresh one


async def test_a_token_is_remembered_for_as_long_as_it_lives(desk):
    one, two = await desk.ticket(), await desk.ticket(expires_at=desk.world.clock() + 3000)
    phone, end = desk.phone(), int(desk.world.clock()) + 600
    handles = [(await phone.scan(held)).handle for held in (one, two)]
    long = {"jti": "long", "exp": end, "iat": int(desk.world.clock())}
    await phone.confirm(one, handles[0], **long)
    desk.world.clock.pass_(end + 29 - desk.world.clock())
    await desk.world.context.storage.sweep(now=desk.world.clock())
    with pytest.raises(Unauthenticated, match="another login"):
        await phone.confirm(two, handles[1], **long)
    desk.world.clock.pass_(2)
    with pytest.raises(Unauthenticated, match="not valid"):
        await phone.confirm(two, handles[1], **long)


async def test_one_token_for_two_tickets_at_once(desk):
    held = [await desk.ticket() for _ in range(10)]
    phone = desk.phone()
    handles = [(await phone.scan(one)).handle for one in held]
    outcomes = await asyncio.gather(
        *(phone.confirm(one, handle, jti="one") for one, handle in zip(held, handles, strict=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Ticket) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == 9


async def test_a_refused_confirm_does_not_use_the_token_up(desk):
    held = await desk.ticket()
    phone = desk.phone()
    handle = (await phone.scan(held, jti="one")).handle
    with pytest.raises(HandleWrong):
        await phone.confirm(held, "x" * 64, jti="one")
    assert (await phone.confirm(held, handle, jti="one")).state is State.CONFIRMED


# Who may not.


async def test_a_blocked_person(desk):
    known = await desk.ticket()
    handle = (await desk.phone().scan(known)).handle
    confirmed = await desk.ticket()
    await desk.phone().confirm(confirmed, (await desk.phone().scan(confirmed)).handle)
    await desk.block()
    for refused in (
        desk.phone().scan(known),
        desk.phone().scan(await desk.ticket()),
        desk.phone().confirm(known, handle),
        desk.world.collect(confirmed),
    ):
        with pytest.raises(LoginRefused):
            await refused
    assert (await desk.phone().cancel(known, handle)).state is State.CANCELLED  # they may say no
    user = await desk.user()
    assert await desk.world.do(lambda transaction: transaction.sessions.of_user(user.id, now=0)) == []


async def test_a_person_who_was_forgotten_does_not_confirm(desk):
    held = await desk.ticket()
    handle = (await desk.phone().scan(held)).handle
    user = await desk.user()
    await desk.world.do(lambda transaction: transaction.users.forget(user.id))
    with pytest.raises(LoginRefused):
        await desk.phone().confirm(held, handle)


async def test_a_subject_is_not_an_openid(desk):
    """The same text from two sources is two people."""
    openid = desk.world.person()
    await desk.world.logged_in(openid)
    held = await desk.ticket()
    await desk.phone(openid).confirm(held, (await desk.phone(openid).scan(held)).handle)
    collected = await desk.world.collect(held)
    assert collected.user.id != (await desk.world.user(openid)).id
    assert [identity.provider for identity in collected.user.identities] == ["app"]


async def test_an_unfollow_leaves_the_apps_logins_alone(desk):
    openid = desk.world.person()
    await desk.world.logged_in(openid)
    held = await desk.ticket()
    await desk.phone().confirm(held, (await desk.phone().scan(held)).handle)
    await desk.world.unfollow(openid)
    assert (await desk.world.collect(held)).user.identities[0].subject == "u1"


# The number that the page shows (`app.number_match`).


async def shown_number(desk: Desk, held: Held) -> int:
    return (await view(desk.world.context, held.ticket.id, held.secret)).number


async def guesses(desk: Desk, wrong: int, subject: str = "u1") -> tuple[Held, str]:
    """A ticket that the person has scanned and sent so many wrong numbers for, and its handle."""
    held = await desk.ticket()
    handle = (await desk.phone(subject).scan(held)).handle
    for _ in range(wrong):
        with pytest.raises(NumberWrong):
            await desk.phone(subject).confirm(held, handle, 1)
    return held, handle


async def test_the_number_on_the_page_confirms_and_no_other(matching):
    held, handle = await guesses(matching, 0)
    number = await shown_number(matching, held)
    assert 10 <= number <= 99
    assert await view(matching.world.context, held.ticket.id, "") == INVALID, "nobody else is shown it"
    for given, left in ((None, 3), (number - 1, 2), (None, 2), (-number, 1)):
        with pytest.raises(NumberWrong) as caught:
            await matching.phone().confirm(held, handle, given)
        assert caught.value.more == {"tries_left": left}
        assert str(number) not in caught.value.message
    for again in (number, 1, None):
        assert (await matching.phone().confirm(held, handle, again)).state is State.CONFIRMED
    assert await shown_number(matching, held) == 0
    await matching.world.collect(held)
    assert (await matching.phone().confirm(held, handle, number)).state is State.CONSUMED


async def test_the_third_wrong_number_ends_the_login(matching):
    held, handle = await guesses(matching, 3)
    number = (await matching.world.stored(held)).number
    assert (await view(matching.world.context, held.ticket.id, held.secret)).state is State.CANCELLED
    with pytest.raises(TransitionRefused):
        await matching.phone().confirm(held, handle, number)
    with pytest.raises(TransitionRefused):
        await matching.world.collect(held)
    (line,) = await matching.world.logins()
    assert (line.result, line.user_id) == ("number_wrong", (await matching.user()).id)


async def test_five_wrong_numbers_of_a_person_are_all_for_an_hour(matching):
    await guesses(matching, 3)
    await guesses(matching, 2)
    held, handle = await guesses(matching, 0)
    number, clock = await shown_number(matching, held), matching.world.clock
    for given in (1, number):
        with pytest.raises(TooManyRequests) as caught:
            await matching.phone().confirm(held, handle, given)
        assert caught.value.retry_after == 3600
    assert (await matching.world.stored(held)).wrong_numbers == 0
    await guesses(matching, 1, "u2")  # nobody else's
    clock.pass_(3599)
    held, handle = await guesses(matching, 0)
    with pytest.raises(TooManyRequests) as caught:
        await matching.phone().confirm(held, handle, 1)
    assert caught.value.retry_after in (1, 2)
    clock.pass_(2)
    for _ in range(20):  # right ones cost nothing
        held, handle = await guesses(matching, 0)
        number = await shown_number(matching, held)
        assert (await matching.phone().confirm(held, handle, number)).state is State.CONFIRMED
    await guesses(matching, 1)
    assert (await matching.phone().confirm(held, handle, 1)).state is State.CONFIRMED, "it is a repeat"


async def test_what_is_refused_otherwise_is_no_wrong_number(matching):
    held, handle = await guesses(matching, 0)
    number = await shown_number(matching, held)
    for _ in range(20):
        for given in (number, number + 1):
            with pytest.raises(HandleWrong):
                await matching.phone().confirm(held, "x" * 64, given)
            with pytest.raises(TransitionRefused):
                await matching.phone("u2").confirm(held, handle, given)
    assert (await matching.phone().confirm(held, handle, number)).state is State.CONFIRMED


async def test_guesses_at_once_are_three_a_ticket_and_five_a_person(matching):
    outcomes: Counter[str] = Counter()
    for _ in range(3):
        held, handle = await guesses(matching, 0)
        answers = await asyncio.gather(
            *(matching.phone().confirm(held, handle, 1) for _ in range(20)), return_exceptions=True
        )
        outcomes.update(type(answer).__name__ for answer in answers)
    assert outcomes["NumberWrong"] == 5
    assert (
        outcomes.total()
        == outcomes["NumberWrong"] + outcomes["TransitionRefused"] + outcomes["TooManyRequests"]
    )


@pytest.mark.parametrize(("drawn", "number"), [(0, 10), (89, 99), (90, 10), (2**64 - 1, 25)])
async def test_the_number_is_drawn_from_the_systems_randomness(matching, drawn, number):
    """Eight bytes of it, so that each of the ninety is as likely as another; and from nothing else."""

    def random(size: int) -> bytes:
        assert size == 8
        return drawn.to_bytes(8)

    matching.login._context = replace(matching.world.context, random=random)
    for subject in ("u1", "u2"):
        held = await matching.ticket()
        await matching.phone(subject).scan(held)
        assert await shown_number(matching, held) == number


async def test_no_number_where_the_setting_is_off(desk):
    held, handle = await guesses(desk, 0)
    assert await shown_number(desk, held) == 0
    assert (await desk.phone().confirm(held, handle, 1)).state is State.CONFIRMED


async def test_without_limits_a_ticket_still_ends_at_three(tmp_path):
    async with opened(tmp_path, app={"number_match": True}, limits={"enabled": False}) as desk:
        for _ in range(4):
            held, _ = await guesses(desk, 3)
            assert (await desk.world.stored(held)).state is State.CANCELLED


# What the token tells of the person.


async def test_name_and_picture_come_from_the_token(desk):
    held = await desk.ticket()
    await desk.phone().scan(held, name="小\u202e王\n", picture="https://p.example.com/1.png")
    user = await desk.user()
    assert (user.name, user.picture) == ("小王", "https://p.example.com/1.png")
    await desk.phone().scan(await desk.ticket())  # blank fields erase nothing
    assert (await desk.user()).name == "小王"
    await desk.phone().scan(await desk.ticket(), name="老王")
    assert (await desk.user()).identities[0].profile == Profile("老王", "https://p.example.com/1.png")


async def test_a_unionid_in_a_token_is_not_believed(desk):
    openid = desk.world.person()
    await desk.world.logged_in(openid)
    await desk.world.do(
        lambda t: t.users.update_profile("wechat", openid, Profile("Anna"), unionid="union", now=1)
    )
    await desk.phone().scan(await desk.ticket(), name="Eve", unionid="union", union_id="union", admin=True)
    user = await desk.user()
    assert (user.unionid, user.name) == ("", "Eve")
    assert user.id != (await desk.world.user(openid)).id


async def test_changes_wake_who_waits(desk):
    held = await desk.ticket()
    woken: list[int] = []
    desk.world.broker.subscribe(held.ticket.id, lambda: woken.append(1))
    handle = (await desk.phone().scan(held)).handle
    await desk.phone().confirm(held, handle)
    assert len(woken) == 2
    with pytest.raises(TransitionRefused):
        await desk.phone().cancel(held, handle)
    assert len(woken) == 2
