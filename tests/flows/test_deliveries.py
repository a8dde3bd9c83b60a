"""What WeChat delivers is done once, and answered with what WeChat takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest

from errors import StoreUnavailable
from flows.deliveries import Posted
from storage.base import Storage
from tests.clock import START
from tests.flows.world import Delegating, World, made
from tickets import State
from wechat.callback import Mode, Refused

EVERY_MODE = pytest.mark.parametrize("mode", list(Mode))
PUSH_TIME = int(START)


def counting(world: World) -> list[int]:
    """Counts the transactions from now on."""
    count = [0]

    class Counting(Delegating):
        async def transact(self, work):
            count[0] += 1
            return await self.inner.transact(work)

    through(world, Counting(world.context.storage))
    return count


def through(world: World, storage: Storage) -> None:
    """From now on deliveries see this store."""
    world.deliveries._context = replace(world.context, storage=storage)


@EVERY_MODE
@pytest.mark.parametrize("known", [True, False], ids=["a follower", "a newcomer"])
async def test_a_scan_logs_in_and_tells_the_person(tmp_path, mode: Mode, known: bool):
    async with made(tmp_path, mode=mode, site={"name": "Shop"}) as world:
        held, person = await world.ticket(), world.person()
        told = await (world.scan(held, person) if known else world.follow(person, held))
        for part in ("Shop", "Chrome", "Windows", "203.0.113.5", "https://login.example.com/not-me/"):
            assert part in told
        ticket = await world.stored(held)
        assert ticket is not None
        assert ticket.state is State.CONFIRMED
        assert ticket.scanner is not None
        assert ticket.scanner.subject == person
        assert world.wanted.openids == [person]
        assert await world.logins() == [], "a line comes when the login is collected"


async def test_nothing_of_a_stranger_gets_into_the_reply(tmp_path):
    name = "A<b>]]>\u202e\u2066 x"
    async with made(tmp_path, site={"name": name}) as world:
        told = await world.scan(await world.ticket(), world.person())
        assert "Ab]] x" in told
        assert not set("<>\u202e\u2066") & set(told)


@EVERY_MODE
async def test_a_redelivery_changes_nothing_and_gets_the_same_answer(tmp_path, mode: Mode):
    async with made(tmp_path, mode=mode) as world:
        held = await world.ticket()
        push = world.push(world.person(), world.scan_event(held))
        first = await world.deliveries.accept(push)
        ticket = await world.stored(held)
        world.clock.pass_(7)
        assert await world.deliveries.accept(push) == first
        assert await world.stored(held) == ticket
        assert world.wanted.openids == [world.person()], "nor is anybody asked for twice"


async def test_a_redelivery_with_a_signature_of_its_own_is_the_same(world: World):
    held, person = await world.ticket(), world.person()
    fields = world.scan_event(held)
    first = await world.deliveries.accept(world.push(person, fields, START))
    world.clock.pass_(5)
    again = world.push(person, fields, START)
    assert again.query != world.push(person, fields, START).query
    assert await world.deliveries.accept(again) == first


async def test_a_redelivery_while_the_first_is_handled_waits_for_its_answer(world: World):
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Delegating):
        async def transact(self, work):
            begun.set()
            await go_on.wait()
            return await self.inner.transact(work)

    held = await world.ticket()
    store = Slow(world.context.storage)
    through(world, store)
    push = world.push(world.person(), world.scan_event(held))
    first = asyncio.create_task(world.deliveries.accept(push))
    await begun.wait()
    again = [asyncio.create_task(world.deliveries.accept(push)) for _ in range(2)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in (first, *again))
    first.cancel()  # WeChat hung up on it
    go_on.set()
    answers = await asyncio.gather(*again)
    assert answers[0] == answers[1]
    assert "logged in" in world.words(answers[0])
    assert world.wanted.openids == [world.person()]
    assert world.deliveries._running == {}


async def test_a_store_that_is_away_does_nothing_and_the_redelivery_does_it(world: World):
    class Away(Delegating):
        away = True

        async def transact(self, work):
            if self.away:
                raise StoreUnavailable
            return await self.inner.transact(work)

    held = await world.ticket()
    store = Away(world.context.storage)
    through(world, store)
    push = world.push(world.person(), world.scan_event(held))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await world.deliveries.accept(push)
    assert world.wanted.openids == []
    store.away = False
    assert "logged in" in world.words(await world.deliveries.accept(push))
    assert (await world.stored(held)).state is State.CONFIRMED


async def test_a_second_real_scan_is_told_again_and_changes_nothing(world: World):
    held, person = await world.ticket(), world.person()
    await world.scan(held, person)
    ticket = await world.stored(held)
    world.clock.pass_(20)
    assert "logged in" in await world.scan(held, person)
    assert await world.stored(held) == ticket


async def test_the_second_person_is_refused(world: World):
    held = await world.ticket()
    await world.scan(held, world.person(1))
    told = await world.scan(held, world.person(2))
    assert "has been used" in told
    assert "203.0.113.5" not in told
    assert "not-me" not in told
    ticket = await world.stored(held)
    assert ticket.scanner.subject == world.person(1)
    assert (await world.collect(held)).user.id == (await world.user(world.person(1))).id


@pytest.mark.parametrize("number", range(8))
async def test_of_many_who_scan_at_once_one_wins(world: World, number: int):
    held = await world.ticket()
    for openid in ("o1", "o2", "o3"):
        world.platform.add_person(openid, openid=openid, following=True)
    told = await asyncio.gather(*(world.scan(held, openid) for openid in ("o1", "o2", "o3")))
    assert sum("logged in" in words for words in told) == 1
    assert sum("has been used" in words for words in told) == 2


@pytest.mark.parametrize("after", [0, 5])
async def test_a_blocked_person_is_refused_and_it_is_noted(world: World, after: int):
    await world.follow(world.person())
    user = await world.user()
    await world.do(lambda transaction: transaction.users.set_blocked(user.id, True))
    held = await world.ticket()
    world.clock.pass_(after)
    told = await world.scan(held, world.person())
    assert "cannot log in here" in told
    assert "not-me" not in told
    assert (await world.stored(held)).state is State.WAITING, "somebody else may scan it"
    (line,) = await world.logins()
    assert (line.result, line.user_id) == ("blocked", user.id)


@pytest.mark.parametrize("case", ["unknown", "expired", "given up"])
async def test_a_code_of_ours_that_is_no_longer_good(world: World, case: str):
    held = await world.ticket()
    fields = world.scan_event(held)
    match case:
        case "unknown":
            fields = {**fields, "EventKey": "A" * 24}
        case "expired":
            world.clock.pass_(300)
        case _:
            from flows.tickets import abandon

            await abandon(world.context, held.ticket.id, held.secret)
    told = await world.deliver(world.person(), fields)
    assert "Refresh" in told or "刷新" in told
    assert await world.logins() == []
    assert (await world.stored(held)).state is not State.CONFIRMED


@pytest.mark.parametrize(
    "scene",
    ["", "0", "123", "shop-42", "A" * 23, "A" * 25, "A" * 23 + "+", "A" * 23 + "é", "qrscene_" + "A" * 24],
)
@pytest.mark.parametrize("event", ["SCAN", "subscribe"])
async def test_a_scene_of_another_shape_is_not_ours(world: World, scene: str, event: str):
    key = scene if event == "SCAN" else f"qrscene_{scene}"
    fields = {"MsgType": "event", "Event": event, "EventKey": key, "Ticket": "gQ"}
    assert await world.deliver(world.person(), fields) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"MsgType": "text", "Content": "{scene}", "MsgId": 24_000_000_000_000_001},
        {"MsgType": "text", "Content": "qrscene_{scene}", "MsgId": 1, "Event": "SCAN", "EventKey": "{scene}"},
        {"MsgType": "event", "Event": "CLICK", "EventKey": "{scene}"},
        {"MsgType": "event", "Event": "VIEW", "EventKey": "{scene}"},
        {"MsgType": "event", "Event": "scancode_push", "EventKey": "{scene}"},
        {"MsgType": "event", "Event": "subscribe", "EventKey": "last_trade_no_{scene}"},
        {"MsgType": "event", "Event": "subscribe", "EventKey": "{scene}"},
        {"MsgType": "event", "Event": "unsubscribe", "EventKey": "qrscene_{scene}"},
        {"MsgType": "event", "Event": "", "EventKey": "{scene}"},
        {"MsgType": "image", "PicUrl": "{scene}", "MsgId": 2},
    ],
    ids=str,
)
async def test_what_is_no_scan_logs_nobody_in(world: World, fields: dict):
    held = await world.ticket()
    meant = {
        name: value.format(scene=held.ticket.id) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    await world.deliver(world.person(), meant)
    assert await world.stored(held) == held.ticket


async def test_messages_cost_the_store_nothing(world: World):
    count = counting(world)
    assert await world.deliver(world.person(), {"MsgType": "text", "Content": "hi", "MsgId": 7}) == ""
    assert await world.deliver(world.person(), {"MsgType": "event", "Event": "CLICK", "EventKey": "a"}) == ""
    assert count == [0]


@EVERY_MODE
async def test_what_is_refused_does_nothing(tmp_path, mode: Mode):
    async with made(tmp_path, mode=mode) as world:
        held = await world.ticket()
        push = world.push(world.person(), world.scan_event(held))
        count = counting(world)
        parameters = dict(parse_qsl(push.query))

        def signed(**changes: str) -> Posted:
            return replace(push, query=urlencode({**parameters, **changes}))

        forged = [
            replace(push, query=""),
            signed(signature="0" * 40),
            signed(nonce="1"),
            signed(timestamp=str(PUSH_TIME + 1)),
            replace(push, query=f"{push.query}&nonce=1"),
            replace(push, body=b""),
            replace(push, body=b"<xml>"),
        ]
        if mode is not Mode.PLAIN:
            forged += [
                signed(msg_signature="0" * 40),
                replace(push, body=push.body.replace(b"Encrypt", b"Encrypx")),
            ]
        for posted in forged:
            with pytest.raises(Refused):
                await world.deliveries.accept(posted)
        world.clock.pass_(301)
        with pytest.raises(Refused):
            await world.deliveries.accept(push)
        assert count == [0]
        assert await world.stored(held) == held.ticket


async def test_in_plain_mode_one_signature_brings_one_body(tmp_path):
    """Security rule 6: whoever has seen one address could post any body with it."""
    async with made(tmp_path, mode=Mode.PLAIN) as world:
        mine, theirs = await world.ticket(), await world.ticket()
        seen = world.push(world.person(1), world.scan_event(theirs))
        await world.deliveries.accept(seen)
        forged = world.push(world.person(2), world.scan_event(mine))
        for posted in (
            replace(seen, body=forged.body),
            replace(seen, body=seen.body + b" "),
            replace(seen, body=seen.body.replace(world.person(1).encode(), world.person(2).encode())),
        ):
            with pytest.raises(Refused):
                await world.deliveries.accept(posted)
        assert await world.stored(mine) == mine.ticket
        assert world.words(await world.deliveries.accept(seen)), "the same body again is a redelivery"


async def test_in_plain_mode_a_signature_is_held_for_as_long_as_it_is_fresh(tmp_path):
    async with made(tmp_path, mode=Mode.PLAIN, wechat={"timestamp_window": 3000}) as world:
        seen = world.push(world.person(1), {"MsgType": "text", "Content": "hi", "MsgId": 1})
        await world.deliveries.accept(seen)
        world.clock.pass_(2990)
        await world.context.storage.sweep(now=world.clock())
        with pytest.raises(Refused):
            await world.deliveries.accept(replace(seen, body=seen.body + b" "))


@pytest.mark.parametrize("ticket", ["", "gQ" + "a" * 92, "another's"])
async def test_in_plain_mode_the_codes_ticket_is_compared(tmp_path, ticket: str):
    async with made(tmp_path, mode=Mode.PLAIN) as world:
        held, other = await world.ticket(), await world.ticket()
        value = other.ticket.code_ticket if ticket == "another's" else ticket
        for fields in (
            {**world.scan_event(held), "Ticket": value},
            {
                "MsgType": "event",
                "Event": "subscribe",
                "EventKey": f"qrscene_{held.ticket.id}",
                "Ticket": value,
            },
            {"MsgType": "event", "Event": "SCAN", "EventKey": held.ticket.id},
        ):
            told = await world.deliver(world.person(), fields)
            assert "logged in" not in told
            assert "not-me" not in told
        assert await world.stored(held) == held.ticket


@pytest.mark.parametrize("mode", [Mode.SAFE, Mode.COMPATIBLE])
async def test_in_the_other_modes_the_signature_covers_the_body(tmp_path, mode: Mode):
    async with made(tmp_path, mode=mode) as world:
        held, other = await world.ticket(), await world.ticket()
        one = world.push(world.person(1), world.scan_event(held))
        two = world.push(world.person(2), world.scan_event(other))
        with pytest.raises(Refused):
            await world.deliveries.accept(replace(one, body=two.body))
        assert await world.stored(other) == other.ticket


async def test_an_older_scan_than_an_unfollow_changes_nothing(world: World):
    held, person = await world.ticket(), world.person()
    await world.follow(person, created_at=START - 100)
    await world.unfollow(person, created_at=START)
    assert await world.scan(held, person, created_at=START - 50) == ""
    assert await world.stored(held) == held.ticket
    assert not (await world.user()).identities[0].following


async def test_the_marks_outlive_wechats_redeliveries_and_no_more(world: World):
    held = await world.ticket()
    push = world.push(world.person(), world.scan_event(held))
    first = await world.deliveries.accept(push)
    world.clock.pass_(290)
    await world.context.storage.sweep(now=world.clock())
    assert await world.deliveries.accept(push) == first
    world.clock.pass_(600)

    async def marks(transaction):
        return await transaction.deliveries.reply_to(
            world.gate.open(push.query, push.body, START).message.delivery_key, now=world.clock()
        )

    assert await world.do(marks) is None


async def test_an_operator_can_read_that_a_clock_is_wrong(world: World, caplog):
    caplog.set_level("INFO")
    seen = world.push(world.person(1), {"MsgType": "text", "Content": "hi", "MsgId": 1})
    world.clock.pass_(-3600)
    for _ in range(3):
        with pytest.raises(Refused):
            await world.deliveries.accept(seen)
    assert caplog.text.count("whose time is +3600 seconds from ours") == 1
    world.clock.pass_(3600)
    with pytest.raises(Refused):  # for another reason
        await world.deliveries.accept(replace(seen, body=b""))
    assert caplog.text.count("seconds from ours") == 1
    assert await world.deliveries.accept(seen)
