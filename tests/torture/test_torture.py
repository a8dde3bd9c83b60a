"""The short form of `make torture`, and what its verdict is worth."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.torture.history import FOLLOW, SCAN, UNFOLLOW, WECHAT, History
from tests.torture.run import Torture, mongodb_store, sqlite_store
from tests.torture.server import Nursery
from tests.torture.stored import Notice, Row, Stored
from tests.torture.verdict import verdict, verdict_of_notices

KILLS = 20
ANSWERS = 12
MONGODB_KILLS = 20 if os.environ.get("CI") else 6


@pytest.fixture
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.mark.parametrize(("kind", "kills"), [("sqlite", KILLS), ("mongodb", MONGODB_KILLS)])
async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    tmp_path: Path, nursery, request, kind, kills
):
    """`pytest -s` prints the figures."""
    store = (
        sqlite_store(tmp_path) if kind == "sqlite" else mongodb_store(request.getfixturevalue("mongodb_url"))
    )
    seed = random.SystemRandom().randrange(10**6)
    report = await Torture(tmp_path, store, seed, answers=ANSWERS, nursery=nursery).run(kills)
    print(f"\n{kind}: {report}")
    assert not report.wrong, f"seed {seed}"
    assert report.kills >= kills
    assert min(report.acknowledged, report.collected, report.notices) > 0


# --- The verdict.

PERSON, TICKET, TOKEN = "a", "t", "token"


def story() -> tuple[History, Stored]:
    """One person was met, logged in, logged out, left; all of it acknowledged and stored."""
    history = History()
    history.acknowledged(history.event(PERSON, FOLLOW, 1))
    login = history.issued(TICKET, WECHAT)
    history.acknowledged(history.event(PERSON, SCAN, 2, login))
    history.confirmed(login, PERSON)
    history.exchanged(login, history.exchange(login), 200, token=TOKEN, subject=PERSON)
    login.ends_asked, login.ended = 1, True
    history.acknowledged(history.event(PERSON, UNFOLLOW, 3))
    session: Row = {
        "id": "s",
        "user_id": "u",
        "token_hash": hashlib.sha256(TOKEN.encode()).digest(),
        "revoked": True,
    }
    described = {"user": {"identities": [{"subject": PERSON}]}}
    stored = Stored(
        atomic=True,
        people={(WECHAT, PERSON): {"user_id": "u", "following": False, "event_at": 3.0}},
        logins_counted={"u": 1},
        sessions={TICKET: [session]},
        tickets={TICKET: {"state": "CONSUMED", "scanner_subject": PERSON}},
        success_lines={TICKET: [{"id": f"{TICKET}:success"}]},
        notices=[
            Notice("1", "user.created", described),
            Notice("2", "user.followed", described),
            Notice("3", "login.succeeded", {**described, "ticket_id": TICKET, "session_id": "s"}),
            Notice("4", "session.ended", {"session_id": "s"}),
            Notice("5", "user.unfollowed", described),
        ],
    )
    return history, stored


def of_session(stored: Stored, **changed) -> dict[str, list[Row]]:
    return {TICKET: [{**stored.sessions[TICKET][0], **changed}]}


def of_ticket(stored: Stored, **changed) -> dict[str, Row]:
    return {TICKET: {**stored.tickets[TICKET], **changed}}


def of_person(stored: Stored, **changed) -> dict[tuple[str, str], Row]:
    return {(WECHAT, PERSON): {**stored.people[WECHAT, PERSON], **changed}}


def untold(id: str, stored: Stored) -> dict[str, list[Notice]]:
    return {"notices": [notice for notice in stored.notices if notice.id != id]}


def told_twice(id: str, stored: Stored) -> dict[str, list[Notice]]:
    again = [replace(notice, id="6") for notice in stored.notices if notice.id == id]
    return {"notices": [*stored.notices, *again]}


SPOILT = {
    "no person": ("lost", lambda s: {"people": {}}),
    "an unfollow not applied": ("lost", lambda s: {"people": of_person(s, following=True, event_at=2.0)}),
    "somebody else": ("foreign", lambda s: {"people": {**s.people, (WECHAT, "b"): {"user_id": "v"}}}),
    "no ticket": ("lost", lambda s: {"tickets": {}}),
    "a ticket set back": ("lost", lambda s: {"tickets": of_ticket(s, state="CONFIRMED")}),
    "another scanner": ("foreign", lambda s: {"tickets": of_ticket(s, scanner_subject="b")}),
    "no session": ("lost", lambda s: {"sessions": {}}),
    "two sessions": ("double", lambda s: {"sessions": {TICKET: 2 * s.sessions[TICKET]}}),
    "another token": ("lost", lambda s: {"sessions": of_session(s, token_hash=b"")}),
    "a session come back": ("lost", lambda s: {"sessions": of_session(s, revoked=False)}),
    "another's session": ("foreign", lambda s: {"sessions": of_session(s, user_id="v")}),
    "no line": ("lost", lambda s: {"success_lines": {}}),
    "not counted": ("lost", lambda s: {"logins_counted": {"u": 0}}),
    "counted twice": ("double", lambda s: {"logins_counted": {"u": 2}}),
    "a broken file": ("broken", lambda s: {"faults": ["row 3 missing from index"]}),
    **{
        f"nobody told of {known.event}": ("lost", partial(untold, known.id))
        for known in story()[1].notices
    },
    **{
        f"told twice of {known.event}": ("double", partial(told_twice, known.id))
        for known in story()[1].notices
        if known.event != "user.followed"  # a scan may bring one, too
    },
}  # fmt: skip


def test_what_is_well_is_not_complained_of():
    history, stored = story()
    assert [*verdict(history, stored), *verdict_of_notices(history, stored)] == []


@pytest.mark.parametrize(("kind", "spoilt"), SPOILT.values(), ids=SPOILT.keys())
def test_what_is_lost_or_double_is_found(kind, spoilt):
    history, stored = story()
    spoilt_store = replace(stored, **spoilt(stored))
    found = [*verdict(history, spoilt_store), *verdict_of_notices(history, spoilt_store)]
    assert any(line.startswith(f"{kind}:") for line in found), found


def test_what_was_not_answered_may_have_happened():
    history, stored = story()
    login = history.logins[TICKET]
    history.event(PERSON, FOLLOW, 4)
    history.exchanged(login, history.exchange(login))
    for people in (stored.people, of_person(stored, following=True, event_at=4.0)):
        for token_hash in (stored.sessions[TICKET][0]["token_hash"], b"of an answer that was lost"):
            known = replace(stored, people=people, sessions=of_session(stored, token_hash=token_hash))
            assert verdict(history, known) == []


@pytest.mark.parametrize(("seconds", "lost"), [(59.0, True), (60.0, False)])
def test_a_login_that_was_not_answered_can_be_collected_for_a_minute(seconds, lost):
    history = History()
    login = history.issued(TICKET, WECHAT)
    history.acknowledged(history.event(PERSON, SCAN, 1, login))
    history.confirmed(login, PERSON)
    history.exchanged(login, history.exchange(login, 5.0), now=8.5)
    history.exchanged(login, history.exchange(login, 9.0), 409, now=5.0 + seconds)
    assert bool(history.complaints) is lost
