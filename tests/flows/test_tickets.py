"""Tickets are issued, shown again to their browser, and given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from errors import BadRequest, MethodUnavailable, TicketUnknown, TooManyRequests, TransitionRefused
from flows.code_pool import NoCodeReady, PooledCode
from flows.tickets import TicketDesk, Wish, abandon, look
from tests.clock import START
from tests.flows.world import World, made
from tickets import Device, State, hash_secret

WISH = Wish("wechat", "browser", "", "en", Device("Chrome", "Windows", "203.0.113.5"))


class Codes:
    """In the place of the pool."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self, *, patient: bool = True) -> PooledCode:
        if not patient:
            raise NoCodeReady
        self.taken += 1
        return PooledCode(f"ticket-{self.taken}", "http://weixin.qq.com/q/1", "gQ", START)


def desk(world: World) -> tuple[TicketDesk, Codes]:
    codes = Codes()
    return TicketDesk(world.context, codes), codes  # type: ignore[arg-type]


async def test_a_fresh_ticket(world: World):
    held = await desk(world)[0].issue(replace(WISH, next="/a", language="zh-CN"))
    ticket = await look(world.context, held.ticket.id, held.secret)
    assert ticket == held.ticket
    assert (ticket.state, ticket.next, ticket.language) == (State.WAITING, "/a", "zh-CN")
    assert (ticket.created_at, ticket.expires_at) == (START, START + 300)
    assert ticket.secret_hash == hash_secret(held.secret)
    assert len(held.secret) * 6 >= 128
    assert held.secret not in repr(ticket)


async def test_secrets_are_fresh_for_each(world: World):
    issue = desk(world)[0].issue
    assert len({(await issue(WISH)).secret for _ in range(5)}) == 5


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\ud800"])
async def test_a_wrong_next_costs_no_code(world: World, target: str):
    tickets, codes = desk(world)
    with pytest.raises(BadRequest):
        await tickets.issue(replace(WISH, next=target))
    assert codes.taken == 0


@pytest.mark.parametrize("method", ["", "app", "sms", "WECHAT"])
async def test_a_method_that_is_not_set_up(world: World, method: str):
    tickets, codes = desk(world)
    with pytest.raises(MethodUnavailable):
        await tickets.issue(replace(WISH, method=method))
    assert codes.taken == 0


async def test_without_an_account_there_is_no_wechat(world: World):
    tickets = TicketDesk(world.context, None)
    assert tickets.methods == ()
    with pytest.raises(MethodUnavailable):
        await tickets.issue(WISH)


async def test_rates_by_address_and_node(tmp_path):
    limits = {"tickets_per_address": 3, "tickets_per_node": 5}
    async with made(tmp_path, limits=limits) as world:
        tickets, codes = desk(world)

        def at(address: str) -> Wish:
            return replace(WISH, device=Device("", "", address))

        for _ in range(3):
            await tickets.issue(at("203.0.113.5"))
        with pytest.raises(TooManyRequests) as error:
            await tickets.issue(at("203.0.113.5"))
        assert error.value.retry_after == 20
        for address in ("2001:db8::1", "2001:db8::2"):
            await tickets.issue(at(address))
        with pytest.raises(TooManyRequests) as error:
            await tickets.issue(at("203.0.113.6"))
        assert error.value.retry_after == 1
        assert codes.taken == 5
        world.clock.pass_(20)
        await tickets.issue(at("203.0.113.5"))


async def test_limits_may_be_lifted(tmp_path):
    limits = {"enabled": False, "tickets_per_address": 1, "tickets_per_node": 1}
    async with made(tmp_path, limits=limits) as world:
        tickets, codes = desk(world)
        for _ in range(5):
            await tickets.issue(WISH)
        assert codes.taken == 5


# --- the same browser again -------------------------------------------------------------------------------


async def test_a_reload_shows_the_same_ticket(world: World):
    tickets, codes = desk(world)
    held = await tickets.issue(WISH)
    pairs = [("unknown", "x"), (held.ticket.id, held.secret)]
    assert await tickets.reusable(pairs, WISH) == held
    assert codes.taken == 1


@pytest.mark.parametrize(
    "case",
    ["nothing held", "wrong secret", "another's secret", "scanned", "given up", "nearly over", "other wish"],
)
async def test_what_is_not_shown_again(world: World, case: str):
    tickets, _ = desk(world)
    held, wish = await world.ticket(), WISH
    pairs = [(held.ticket.id, held.secret)]
    assert await tickets.reusable(pairs, wish)
    match case:
        case "nothing held":
            pairs = []
        case "wrong secret":
            pairs = [(held.ticket.id, "guess")]
        case "another's secret":
            pairs = [(held.ticket.id, (await world.ticket()).secret)]
        case "scanned":
            await world.scan(held, world.person())
        case "given up":
            await abandon(world.context, held.ticket.id, held.secret)
        case "nearly over":
            world.clock.pass_(271)
        case _:
            wish = replace(WISH, next="/elsewhere")
    assert await tickets.reusable(pairs, wish) is None


# --- giving up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scanned", [False, True])
async def test_a_browser_gives_its_ticket_up(world: World, scanned: bool):
    held, woken = await world.ticket(), []
    if scanned:
        await world.scan(held, world.person())
    world.broker.subscribe(held.ticket.id, lambda: woken.append(1))
    assert (await abandon(world.context, held.ticket.id, held.secret)).state is State.CANCELLED
    assert (await abandon(world.context, held.ticket.id, held.secret)).state is State.CANCELLED
    assert woken
    assert "has been used" in await world.scan(held, world.person(1))
    with pytest.raises(TransitionRefused):
        await world.collect(held)


async def test_nobody_else_gives_it_up(world: World):
    held = await world.ticket()
    for ticket_id, secret in ((held.ticket.id, "guess"), (held.ticket.id, ""), ("unknown", held.secret)):
        with pytest.raises(TicketUnknown):
            await abandon(world.context, ticket_id, secret)
        with pytest.raises(TicketUnknown):
            await look(world.context, ticket_id, secret)
    assert await world.stored(held) == held.ticket


async def test_a_collected_login_is_not_given_up(world: World):
    held = await world.confirmed()
    await world.collect(held)
    with pytest.raises(TransitionRefused):
        await abandon(world.context, held.ticket.id, held.secret)
    assert len(await world.live_sessions()) == 1


@pytest.mark.parametrize("name", ["a.cn", f"{'login.' * 9}example.com"])
async def test_likely_codes_are_as_long_as_those_that_come(tmp_path, name: str):
    async with made(tmp_path, app={"issuer": "https://app.example", "key": "x" * 32}) as world:
        context = replace(world.context, base_url=f"https://{name}")
        tickets = TicketDesk(context, Codes())  # type: ignore[arg-type]
        likely = dict(zip(tickets.methods, tickets.likely_codes, strict=True))
        issued = (await tickets.issue(replace(WISH, method="app"))).ticket.code
        assert len(likely["app"]) == len(issued)
        assert len(likely["wechat"]) == len("http://weixin.qq.com/q/02NsyBkR3kcrF10000g07d")


async def test_who_does_not_wait_for_a_code_leaves_no_ticket(world: World):
    tickets, codes = desk(world)
    with pytest.raises(NoCodeReady):
        await tickets.issue(WISH, patient=False)
    assert codes.taken == 0
