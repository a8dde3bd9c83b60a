"""What is kept for the sites: grants, notices, signing keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from oidc import Grant, GrantRefused
from oidc.grant import Pair, redeem
from storage.base import MAX_PAGE
from storage.records import Notice
from tests.storage.drivers import Store
from tests.storage.samples import NOW, VERIFIER, grant, notice, sha256, signing_key

SHOP = "webhook:shop"


def redeeming(n: int) -> Callable[[Grant], Grant]:
    """What the n-th caller with the code does to the grant."""
    pair = Pair(f"access {n}", f"family {n}", f"refresh {n}", NOW + 300)
    return lambda known: redeem(
        known,
        secret="code of grant",
        site="shop",
        redirect_uri="https://shop.example/back",
        verifier=VERIFIER,
        pair=pair,
        now=NOW,
    )


async def test_grant_is_there_until_the_exact_second(store: Store) -> None:
    await store.grants.create(grant(expires_at=NOW + 60))
    for now, there in ((NOW, True), (NOW + 59.999, True), (NOW + 60, False)):
        expected = grant(expires_at=NOW + 60) if there else None
        assert await store.grants.get("grant", now=now) == expected
        assert await store.grants.update("grant", lambda known: known, now=now) == expected
        assert await store.grants.of_session("session", now=now) == ([expected] if there else [])
    assert await store.grants.get("another", now=NOW) is None
    assert await store.grants.update("another", lambda known: known, now=NOW) is None


async def test_taken_id_of_a_grant_among_many_at_once(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.grants.create(grant(nonce=f"{n}")) for n in range(20)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(ValueError) == 19
    assert (await store.grants.get("grant", now=NOW)).nonce == f"{outcomes.index(None)}"


async def test_of_fifty_with_one_code_one_wins_and_what_it_got_is_ended(store: Store) -> None:
    await store.grants.create(grant())
    outcomes = await asyncio.gather(
        *(store.grants.update("grant", redeeming(n), now=NOW) for n in range(50)), return_exceptions=True
    )
    granted = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
    (winner,) = [outcome for outcome in granted if not outcome.revoked]
    (second,) = [outcome for outcome in granted if outcome.revoked]
    assert [type(outcome) for outcome in outcomes].count(GrantRefused) == 48
    assert winner.access_hash == sha256(f"access {outcomes.index(winner)}")
    assert second == replace(winner, revoked=True)
    assert await store.grants.get("grant", now=NOW) == second


async def test_changes_of_a_grant_at_once_each_apply_once(store: Store) -> None:
    await store.grants.create(grant(nonce=""))

    def longer(known: Grant) -> Grant:
        return replace(known, nonce=known.nonce + "x")

    outcomes = await asyncio.gather(*(store.grants.update("grant", longer, now=NOW) for _ in range(30)))
    assert sorted(len(outcome.nonce) for outcome in outcomes) == list(range(1, 31))
    assert (await store.grants.get("grant", now=NOW)).nonce == "x" * 30


async def test_what_a_change_of_a_grant_raises_comes_out_and_changes_nothing(store: Store) -> None:
    await store.grants.create(grant(site="another"))
    with pytest.raises(GrantRefused):
        await store.grants.update("grant", redeeming(1), now=NOW)
    assert await store.grants.get("grant", now=NOW) == grant(site="another")


async def test_end_of_a_grant_moves_with_its_change(store: Store) -> None:
    await store.grants.create(grant(expires_at=NOW + 60))
    await store.grants.update("grant", lambda known: replace(known, expires_at=NOW + 90), now=NOW)
    await store.storage.sweep(now=NOW + 60)
    assert await store.grants.get("grant", now=NOW + 89) == grant(expires_at=NOW + 90)
    assert await store.grants.get("grant", now=NOW + 90) is None


async def test_grants_of_a_session_the_oldest_first_revoked_ones_too(store: Store) -> None:
    made = [grant(f"{n}", created_at=NOW + n, revoked=n == 2) for n in range(4)]
    for one in (made[2], made[0], made[3], made[1]):
        await store.grants.create(one)
    await store.grants.create(grant("other", session_id="other"))
    assert list(await store.grants.of_session("session", now=NOW)) == made
    assert list(await store.grants.of_session("nobody's", now=NOW)) == []


async def claim(store: Store, now: float = NOW, until: float = NOW + 30, **fields: object) -> list[Notice]:
    return list(await store.outbox.claim(**{"endpoint": SHOP, "limit": 50, **fields}, now=now, until=until))


async def ids(store: Store, now: float = NOW, **fields: object) -> list[str]:
    """Of those claimed."""
    return sorted(claimed.id for claimed in await claim(store, now=now, **fields))


async def test_notice_with_a_known_id_is_no_second_one(store: Store) -> None:
    await store.outbox.add(notice())
    await store.outbox.settle(notice(state="delivered"))
    await store.outbox.add(notice(payload="another", due_at=NOW - 1))
    await store.outbox.add(notice(endpoint="logout:shop"))
    assert await store.outbox.newest(endpoint=SHOP) == [notice(state="delivered")]
    assert len(await store.outbox.newest()) == 2
    assert await ids(store) == []
    assert await ids(store, endpoint="logout:shop") == ["notice"]


async def test_endpoint_and_id_are_kept_apart(store: Store) -> None:
    for endpoint, id in (("a", "b:c"), ("a:b", "c"), ("3:a:b", "c")):
        await store.outbox.add(notice(id, endpoint=endpoint))
    assert len(await store.outbox.newest()) == 3


async def test_notice_is_claimed_when_due_and_again_when_its_time_is_over(store: Store) -> None:
    await store.outbox.add(notice(due_at=NOW + 5))
    assert await claim(store, NOW + 4.999) == []
    assert await claim(store, NOW + 5, until=NOW + 35) == [notice(due_at=NOW + 35)]
    assert await store.outbox.newest() == [notice(due_at=NOW + 35)]
    assert await claim(store, NOW + 34.999) == []
    assert await claim(store, NOW + 35, until=NOW + 65) == [notice(due_at=NOW + 65)]


async def test_one_persons_notices_come_one_after_the_other(store: Store) -> None:
    # By time, then by id, whatever order they were added in and are due in.
    line = [("b", 0), ("a", 1), ("c", 1), ("d", 2)]
    for id, seconds in reversed(line):
        await store.outbox.add(notice(id, created_at=NOW + seconds, due_at=NOW - seconds))
    for place, (id, seconds) in enumerate(line):
        assert await ids(store) == [id]
        assert await ids(store) == []
        outcome = notice(id, created_at=NOW + seconds, state=("delivered", "failed")[place % 2])
        await store.outbox.settle(outcome)
    assert await ids(store, now=NOW + 1000) == []


async def test_who_waits_for_another_attempt_holds_up_nobody_else(store: Store) -> None:
    await store.outbox.add(notice("1", created_at=NOW, due_at=NOW + 60, attempts=3))
    await store.outbox.add(notice("2", created_at=NOW + 1))
    await store.outbox.add(notice("of bert", person="bert", created_at=NOW + 2))
    await store.outbox.add(notice("elsewhere", endpoint="logout:shop", created_at=NOW + 3))
    assert await ids(store) == ["of bert"]
    assert await ids(store, endpoint="logout:shop") == ["elsewhere"]
    assert await ids(store, endpoint="webhook:other") == []
    assert await ids(store, now=NOW + 60) == ["1", "of bert"]


async def test_no_notice_for_two_callers(store: Store) -> None:
    people = 30
    for n in range(people):
        await asyncio.gather(
            store.outbox.add(notice(f"{n} first", person=f"{n}")),
            store.outbox.add(notice(f"{n} second", person=f"{n}", created_at=NOW + 1)),
        )
    claimed = await asyncio.gather(*(claim(store, limit=10) for _ in range(8)))
    assert sorted(one.id for some in claimed for one in some) == sorted(f"{n} first" for n in range(people))
    assert max(len(some) for some in claimed) <= 10


async def test_claims_and_lists_of_notices_are_limited(store: Store) -> None:
    await asyncio.gather(*(store.outbox.add(notice(f"{n}", person=f"{n}")) for n in range(MAX_PAGE + 1)))
    for limit, length in ((-1, 1), (0, 1), (7, 7)):
        assert len(await store.outbox.newest(limit=limit)) == length
        assert len(await claim(store, limit=limit)) == length
    assert len(await store.outbox.newest(limit=10_000)) == MAX_PAGE
    assert len(await store.outbox.newest()) == 50


async def test_outcome_is_stored_and_nothing_else(store: Store) -> None:
    await store.outbox.add(notice())
    outcome = {"attempts": 2, "result": "timeout", "due_at": NOW + 90, "expires_at": NOW + 5000}
    await store.outbox.settle(
        notice(**outcome, person="other", event="other", payload="other", created_at=NOW + 7)
    )
    assert await store.outbox.newest() == [notice(**outcome)]
    delivered = notice(state="delivered", result="204", attempts=3)
    await store.outbox.settle(delivered)
    await store.outbox.settle(notice("unknown", state="delivered"))
    assert await store.outbox.newest() == [delivered]
    assert await ids(store, now=NOW + 900) == []


async def test_when_the_next_notice_is_due(store: Store) -> None:
    assert await store.outbox.next_due(SHOP) is None
    await store.outbox.add(notice("1", due_at=NOW + 60))
    await store.outbox.add(notice("2", created_at=NOW + 1, due_at=NOW + 5))  # behind the first
    assert await store.outbox.next_due(SHOP) == NOW + 60
    await store.outbox.add(notice("of bert", person="bert", created_at=NOW + 2, due_at=NOW - 7))
    assert await store.outbox.next_due(SHOP) == NOW - 7  # past
    assert await store.outbox.next_due("logout:shop") is None
    await claim(store, until=NOW + 70)
    assert await store.outbox.next_due(SHOP) == NOW + 60
    await store.outbox.settle(notice("1", state="failed"))
    assert await store.outbox.next_due(SHOP) == NOW + 5
    await store.outbox.settle(notice("2", state="delivered"))
    assert await store.outbox.next_due(SHOP) == NOW + 70  # another caller has it until then
    await store.outbox.settle(notice("of bert", state="delivered"))
    assert await store.outbox.next_due(SHOP) is None


async def test_notices_the_newest_first_in_every_state(store: Store) -> None:
    made = [
        notice("a", created_at=NOW + 3),
        notice("z", created_at=NOW + 2, state="failed", endpoint="logout:shop"),
        notice("y", created_at=NOW + 2, state="delivered"),
        notice("x", created_at=NOW + 1, due_at=NOW + 9),
    ]
    for one in (made[1], made[3], made[0], made[2]):
        await store.outbox.add(one)
    assert list(await store.outbox.newest()) == made
    assert list(await store.outbox.newest(endpoint=SHOP)) == [made[0], *made[2:]]
    assert list(await store.outbox.newest(endpoint="nobody's")) == []


async def test_first_key_in_a_slot_stays(store: Store) -> None:
    await store.signing_keys.add(signing_key())
    await store.signing_keys.add(signing_key(id="second", sealed="another"))
    assert await store.signing_keys.all(now=NOW) == [signing_key()]


async def test_of_many_keys_for_a_slot_at_once_one_stays(store: Store) -> None:
    await asyncio.gather(*(store.signing_keys.add(signing_key(id=f"{n}")) for n in range(20)))
    (kept,) = await store.signing_keys.all(now=NOW)
    assert [await store.signing_keys.all(now=NOW) for _ in range(3)] == [[kept]] * 3


async def test_a_key_is_sealed_anew_and_no_other_one(store: Store) -> None:
    await store.signing_keys.add(signing_key())
    await store.signing_keys.add(signing_key("ES256/1", algorithm="ES256"))
    await store.signing_keys.reseal(signing_key(id="swept meanwhile", sealed="another"))
    await store.signing_keys.reseal(signing_key("RS256/9", sealed="another"))
    await store.signing_keys.reseal(signing_key(sealed="anew", created_at=0.0, expires_at=0.0))
    kept = {key.slot: key for key in await store.signing_keys.all(now=NOW)}
    others = signing_key("ES256/1", algorithm="ES256")
    assert kept == {"ES256/1": others, signing_key().slot: signing_key(sealed="anew")}


async def test_keys_the_oldest_first_until_the_exact_second(store: Store) -> None:
    made = [
        signing_key("RS256/2", created_at=NOW - 1, expires_at=NOW + 20),
        signing_key("ES256/1", algorithm="ES256", expires_at=NOW + 10),
        signing_key("RS256/1", expires_at=NOW + 20),
    ]
    for one in reversed(made):
        await store.signing_keys.add(one)
    assert list(await store.signing_keys.all(now=NOW + 9.999)) == made
    assert list(await store.signing_keys.all(now=NOW + 10)) == [made[0], made[2]]
    assert list(await store.signing_keys.all(now=NOW + 20)) == []


async def test_sweep_takes_what_is_over(store: Store) -> None:
    for name, expires_at in (("over", NOW), ("alive", NOW + 0.001)):
        await store.grants.create(grant(name, expires_at=expires_at))
        await store.outbox.add(notice(name, person=name, expires_at=expires_at))
        await store.signing_keys.add(signing_key(name, expires_at=expires_at))
    await store.outbox.add(notice("kept longer"))
    await store.outbox.settle(notice("kept longer", expires_at=NOW + 1))
    await store.storage.sweep(now=NOW)
    assert await store.grants.get("over", now=NOW - 1) is None
    assert await store.grants.get("alive", now=NOW) is not None
    assert sorted(left.id for left in await store.outbox.newest()) == ["alive", "kept longer"]
    assert [key.slot for key in await store.signing_keys.all(now=NOW - 1)] == ["alive"]
