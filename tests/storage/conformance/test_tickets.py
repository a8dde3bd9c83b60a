"""Tickets: this part runs on drivers that store nothing else, too."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from errors import TicketUnknown, TransitionRefused
from storage.base import Transaction
from storage.split import SplitStorage
from tests.storage.drivers import Store
from tests.storage.samples import NOW, ticket
from tickets import Device, Event, Scanner, State, Ticket, advance, confirm_by_number

ANNA, BERT = Scanner("wechat", "openid of Anna"), Scanner("wechat", "openid of Bert")


def counted(known: Ticket) -> Ticket:
    return replace(known, consumed_at=known.consumed_at + 1)


async def test_create_and_get_every_field(ticket_store: Store) -> None:
    plain = ticket("plain")
    full = ticket(
        "full",
        client="api",
        code_ticket="gQH…",
        state=State.CONFIRMED,
        site="shop",
        next="/warenkorb?a=1&b=ü",
        language="zh-CN",
        device=Device("Edge", "Windows", "2001:db8::1"),
        scanner=ANNA,
        user_id="anna",
        number=42,
        wrong_numbers=2,
        confirmed_at=NOW + 1.25,
        consumed_at=NOW + 2.5,
    )
    for made in (plain, full):
        await ticket_store.tickets.create(made)
        assert await ticket_store.tickets.get(made.id, now=NOW) == made
    await ticket_store.reopen()  # what is remembered may not be what is stored
    for made in (plain, full):
        assert await ticket_store.tickets.get(made.id, now=NOW) == made


async def test_unknown(ticket_store: Store) -> None:
    assert await ticket_store.tickets.get("unknown", now=NOW) is None
    with pytest.raises(TicketUnknown):
        await ticket_store.tickets.update("unknown", counted, now=NOW)
    assert await ticket_store.tickets.get("unknown", now=NOW) is None


async def test_many_are_those_that_are_there(ticket_store: Store) -> None:
    assert await ticket_store.tickets.get_many([], now=NOW) == {}
    made = {name: ticket(name) for name in ("a", "b")}
    for one in made.values():
        await ticket_store.tickets.create(one)
    await ticket_store.tickets.create(ticket("expired", expires_at=NOW + 1))
    asked = ["b", "unknown", "a", "expired", "b"]
    assert await ticket_store.tickets.get_many(asked, now=NOW + 1) == made


async def test_what_one_piece_of_work_has_read_is_what_it_has_written(ticket_store: Store) -> None:
    async def work(transaction: Transaction) -> list[Ticket | None]:
        tickets, seen = transaction.tickets, []
        await tickets.create(ticket())
        for _ in range(2):
            seen.append(await tickets.get("ticket", now=NOW))
            seen.append(await tickets.update("ticket", counted, now=NOW))
        return [*seen, await tickets.get("ticket", now=NOW), await tickets.get("ticket", now=NOW + 1e9)]

    zero, one, two = ticket(), counted(ticket()), counted(counted(ticket()))
    assert await ticket_store.storage.transact(work) == [zero, one, one, two, two, None]
    assert await ticket_store.tickets.get("ticket", now=NOW) == two


async def test_what_was_read_in_work_that_failed_is_read_again(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())

    async def fail(transaction: Transaction) -> None:
        await transaction.tickets.update("ticket", counted, now=NOW)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await ticket_store.storage.transact(fail)
    seen = await ticket_store.tickets.get("ticket", now=NOW)
    assert seen in (ticket(), counted(ticket())), "all or nothing on SQLite, what was done elsewhere"
    await ticket_store.reopen()
    assert await ticket_store.tickets.get("ticket", now=NOW) == seen
    assert await ticket_store.tickets.update("ticket", counted, now=NOW) == counted(seen)


async def test_taken_id_is_refused_and_stays(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())
    with pytest.raises(ValueError):
        await ticket_store.tickets.create(ticket(code="another"))
    assert await ticket_store.tickets.get("ticket", now=NOW) == ticket()


async def test_expires_at_the_exact_second(ticket_store: Store) -> None:
    made = ticket(state=State.SCANNED, scanner=ANNA, user_id="anna")
    await ticket_store.tickets.create(made)
    just_before, end = made.expires_at - 0.001, made.expires_at
    assert await ticket_store.tickets.get("ticket", now=just_before) == made
    assert await ticket_store.tickets.pending_of_user("anna", now=just_before) == [made]
    assert await ticket_store.tickets.update("ticket", lambda known: known, now=just_before) == made
    assert await ticket_store.tickets.get("ticket", now=end) is None
    assert await ticket_store.tickets.pending_of_user("anna", now=end) == []
    with pytest.raises(TicketUnknown):
        await ticket_store.tickets.update("ticket", counted, now=end)


async def test_update_extends_the_expiry(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket(expires_at=NOW + 10))
    scanned = await ticket_store.tickets.update(
        "ticket", lambda known: advance(known, Event.SCAN, NOW + 9, scanner=ANNA, user_id="anna"), now=NOW + 9
    )
    assert scanned.expires_at == NOW + 69
    assert await ticket_store.tickets.get("ticket", now=NOW + 68) == scanned
    assert await ticket_store.tickets.get("ticket", now=NOW + 69) is None


async def test_update_returns_and_stores_the_outcome(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())
    changed = await ticket_store.tickets.update("ticket", counted, now=NOW)
    assert changed == ticket(consumed_at=1)
    assert await ticket_store.tickets.get("ticket", now=NOW) == changed


async def test_every_field_can_change_and_none_must(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())
    other = ticket(
        secret_hash=b"another" * 4,
        client="api",
        code="another code",
        code_ticket="another ticket",
        state=State.CONFIRMED,
        site="shop",
        next="/elsewhere",
        language="en",
        device=Device("Edge", "Windows", "2001:db8::1"),
        scanner=ANNA,
        user_id="anna",
        browser_hash=b"known" * 6,
        agreed=True,
        number=42,
        wrong_numbers=1,
        scanned_at=NOW + 1,
        confirmed_at=NOW + 2,
        consumed_at=NOW + 3,
    )
    assert await ticket_store.tickets.update("ticket", lambda known: replace(known), now=NOW) == ticket()
    assert await ticket_store.tickets.update("ticket", lambda _: other, now=NOW) == other
    assert await ticket_store.tickets.get("ticket", now=NOW) == other
    await ticket_store.reopen()
    assert await ticket_store.tickets.get("ticket", now=NOW) == other


async def test_what_change_raises_comes_out_and_changes_nothing(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket(state=State.CONSUMED, scanner=ANNA))

    def refused(known: Ticket) -> Ticket:
        return advance(known, Event.SCAN, NOW, scanner=BERT, user_id="bert")

    with pytest.raises(TransitionRefused):
        await ticket_store.tickets.update("ticket", refused, now=NOW)
    assert await ticket_store.tickets.get("ticket", now=NOW) == ticket(state=State.CONSUMED, scanner=ANNA)


async def test_concurrent_updates_each_apply_once(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())
    outcomes = await asyncio.gather(
        *(ticket_store.tickets.update("ticket", counted, now=NOW) for _ in range(50))
    )
    assert sorted(outcome.consumed_at for outcome in outcomes) == list(range(1, 51))
    assert (await ticket_store.tickets.get("ticket", now=NOW)).consumed_at == 50


async def test_first_scan_wins(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())

    async def scan(n: int) -> object:
        scanner = Scanner("wechat", f"openid {n}")
        return await ticket_store.tickets.update(
            "ticket",
            lambda known: advance(known, Event.SCAN, NOW, scanner=scanner, user_id=f"user {n}"),
            now=NOW,
        )

    outcomes = await asyncio.gather(*(scan(n) for n in range(30)), return_exceptions=True)
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Ticket)]
    assert all(isinstance(outcome, Ticket | TransitionRefused) for outcome in outcomes)
    assert await ticket_store.tickets.get("ticket", now=NOW) == winner


async def test_wrong_numbers_at_once_are_three_at_most(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket(state=State.SCANNED, scanner=ANNA, user_id="anna", number=42))

    async def guess(number: int) -> object:
        return await ticket_store.tickets.update(
            "ticket", lambda known: confirm_by_number(known, number, NOW, scanner=ANNA), now=NOW
        )

    outcomes = await asyncio.gather(*(guess(number) for number in range(43, 83)), return_exceptions=True)
    heard = [outcome for outcome in outcomes if isinstance(outcome, Ticket)]
    assert sorted(outcome.tries_left for outcome in heard) == [0, 1, 2]
    assert sum(isinstance(outcome, TransitionRefused) for outcome in outcomes) == 37
    stored = await ticket_store.tickets.get("ticket", now=NOW)
    assert (stored.state, stored.wrong_numbers) == (State.CANCELLED, 3)
    with pytest.raises(TransitionRefused):
        await guess(42)


async def test_taken_id_among_many_at_once(ticket_store: Store) -> None:
    outcomes = await asyncio.gather(
        *(ticket_store.tickets.create(ticket(code=f"{n}")) for n in range(20)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(ValueError) == 19
    assert (await ticket_store.tickets.get("ticket", now=NOW)).code == f"{outcomes.index(None)}"


async def test_pending_of_user_is_scanned_and_confirmed(ticket_store: Store) -> None:
    for state in State:
        if state is not State.INVALID:
            await ticket_store.tickets.create(ticket(state.value, state=state, scanner=ANNA, user_id="anna"))
    await ticket_store.tickets.create(ticket("other", state=State.SCANNED, scanner=BERT, user_id="bert"))
    await ticket_store.tickets.create(ticket("nobody's", state=State.SCANNED))
    pending = await ticket_store.tickets.pending_of_user("anna", now=NOW)
    assert {known.state for known in pending} == {State.SCANNED, State.CONFIRMED}
    assert len(pending) == 2
    assert await ticket_store.tickets.pending_of_user("", now=NOW) == []


async def test_sweep_takes_the_expired_alone(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket("over", expires_at=NOW))
    await ticket_store.tickets.create(ticket("alive", expires_at=NOW + 0.001))
    await ticket_store.storage.sweep(now=NOW)
    if not isinstance(ticket_store.storage, SplitStorage):  # Redis deletes by itself, a while later
        assert await ticket_store.tickets.get("over", now=NOW - 1) is None
    assert await ticket_store.tickets.get("over", now=NOW) is None
    assert await ticket_store.tickets.get("alive", now=NOW) is not None


async def test_restart(ticket_store: Store) -> None:
    await ticket_store.tickets.create(ticket())
    await ticket_store.reopen()
    assert await ticket_store.tickets.get("ticket", now=NOW) == ticket()
