"""Each driver beside a model in memory: whatever is called in whatever order, both answer alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from errors import TicketUnknown
from storage.records import Identity, Profile, Session, User
from tests.storage.drivers import Open, Store
from tests.storage.samples import NOW, session, ticket
from tickets import Ticket

SUBJECTS = st.sampled_from(["1", "2", "3", "4"])
UNIONIDS = st.sampled_from(["", "a", "b"])
TICKETS = st.sampled_from(["t1", "t2", "t3"])
TIMES = st.integers(0, 5).map(float)


@dataclass
class Model:
    """The contract in its simplest form. People are found by any id they have or had."""

    people: dict[str, User] = field(default_factory=dict)
    counted: dict[str, set[str]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)  # by ticket
    tickets: dict[str, Ticket] = field(default_factory=dict)

    def get(self, user_id: str) -> User | None:
        known = (user for user in self.people.values() if user_id in (user.id, *user.previous_ids))
        return next(known, None)

    def by_subject(self, subject: str) -> User | None:
        for user in self.people.values():
            if any(identity.subject == subject for identity in user.identities):
                return user
        return None

    def put(self, user: User) -> User:
        self.people[user.id] = user
        return user

    def change_identity(self, subject: str, **fields: Any) -> User | None:
        user = self.by_subject(subject)
        if user is None:
            return None
        changed = (replace(i, **fields) if i.subject == subject else i for i in user.identities)
        return self.put(replace(user, identities=tuple(changed)))

    def identity(self, subject: str) -> Identity | None:
        user = self.by_subject(subject)
        return next(i for i in user.identities if i.subject == subject) if user else None

    def upsert(self, subject: str, following: bool, event_at: float, new_id: str, now: float) -> User | None:
        known = self.identity(subject)
        if known is None:
            return self.put(User(new_id, now, (Identity("wechat", subject, following, event_at, now),)))
        if event_at >= known.event_at:
            self.change_identity(subject, following=following, event_at=event_at)
        return self.by_subject(subject)

    def unfollow(self, subject: str, event_at: float) -> User | None:
        known = self.identity(subject)
        if known and event_at >= known.event_at:
            self.change_identity(
                subject, following=False, event_at=event_at, profile=Profile(), profile_at=0.0
            )
        return self.by_subject(subject)

    def profile(self, subject: str, profile: Profile, unionid: str, now: float) -> User | None:
        known = self.identity(subject)
        if known and known.following:
            self.change_identity(subject, profile=known.profile.merged(profile), profile_at=now)
            user = self.by_subject(subject)
            owner = next((u for u in self.people.values() if unionid and u.unionid == unionid), None)
            if user and unionid:
                self.put(replace(user, unionid=unionid))
                if owner and owner.id != user.id:
                    self.merge(self.people[user.id], owner, unionid)
        return self.by_subject(subject)

    def merge(self, one: User, other: User, unionid: str) -> None:
        older, younger = sorted((one, other), key=lambda user: (user.created_at, user.id))
        latest = younger if younger.last_login_at > older.last_login_at else older
        identities = sorted(
            older.identities + younger.identities, key=lambda i: (i.created_at, i.provider, i.subject)
        )
        del self.people[younger.id]
        self.counted[older.id] = self.counted.get(latest.id, set())
        self.put(
            replace(
                older,
                identities=tuple(identities),
                unionid=unionid,
                blocked=older.blocked or younger.blocked,
                chosen_name=older.chosen_name or younger.chosen_name,
                login_count=older.login_count + younger.login_count,
                last_login_at=latest.last_login_at,
                previous_ids=tuple(sorted((*older.previous_ids, younger.id, *younger.previous_ids))),
            )
        )
        for ticket_id, kept in self.sessions.items():
            if kept.user_id == younger.id:
                self.sessions[ticket_id] = replace(kept, user_id=older.id)

    def forget(self, user: User) -> None:
        del self.people[user.id]
        self.sessions = {id: kept for id, kept in self.sessions.items() if kept.user_id != user.id}


class Comparison(RuleBasedStateMachine):
    """Every example takes ids of its own, so that all share one database."""

    numbers = itertools.count()

    def __init__(self, store: Store, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.store, self.run = store, run

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.example = next(self.numbers)
        self.now = NOW
        self.ids: list[str] = []

    def own(self, name: str) -> str:
        return f"{self.example}/{name}" if name else ""

    def new_id(self) -> str:
        return self.own(f"{len(self.ids):03}")

    def some_id(self, n: int) -> str:
        return self.ids[n % len(self.ids)] if self.ids else "nobody"

    @rule(subject=SUBJECTS, following=st.booleans(), event_at=TIMES, back=TIMES)
    def upsert(self, subject: str, following: bool, event_at: float, back: float) -> None:
        new_id, subject, now = self.new_id(), self.own(subject), self.now - back
        expected = self.model.upsert(subject, following, event_at, new_id, now)
        self.ids.append(new_id)
        assert expected == self.run(
            self.store.users.upsert_identity(
                "wechat", subject, following=following, event_at=event_at, new_id=new_id, now=now
            )
        )

    @rule(subject=SUBJECTS, event_at=TIMES)
    def unfollow(self, subject: str, event_at: float) -> None:
        subject = self.own(subject)
        expected = self.model.unfollow(subject, event_at)
        assert expected == self.run(self.store.users.set_unfollowed("wechat", subject, event_at=event_at))

    @rule(subject=SUBJECTS, nickname=st.sampled_from(["", "Anna", "小明"]), unionid=UNIONIDS)
    def profile(self, subject: str, nickname: str, unionid: str) -> None:
        subject, unionid, profile = self.own(subject), self.own(unionid), Profile(nickname)
        expected = self.model.profile(subject, profile, unionid, self.now)
        assert expected == self.run(
            self.store.users.update_profile("wechat", subject, profile, unionid=unionid, now=self.now)
        )

    @rule(n=st.integers(0, 20), name=st.sampled_from(["", "Bert"]), blocked=st.booleans())
    def name_and_block(self, n: int, name: str, blocked: bool) -> None:
        user_id = self.some_id(n)
        user = self.model.get(user_id)
        if user:
            self.model.put(replace(user, chosen_name=name, blocked=blocked))
        self.run(self.store.users.set_chosen_name(user_id, name))
        self.run(self.store.users.set_blocked(user_id, blocked))

    @rule(n=st.integers(0, 20), ticket_id=TICKETS)
    def count(self, n: int, ticket_id: str) -> None:
        user_id = self.some_id(n)
        user = self.model.get(user_id)
        counted = self.model.counted.setdefault(user.id, set()) if user else set()
        if user and ticket_id not in counted:
            counted.add(ticket_id)
            self.model.put(replace(user, login_count=user.login_count + 1, last_login_at=self.now))
        self.run(self.store.users.count_login(user_id, ticket_id, now=self.now))

    @rule(n=st.integers(0, 20))
    def forget(self, n: int) -> None:
        user_id = self.some_id(n)
        user = self.model.get(user_id)
        if user:
            self.model.forget(user)
        self.run(self.store.users.forget(user_id))

    @rule(n=st.integers(0, 20), ticket_id=TICKETS, provider=st.sampled_from(["wechat", "app"]))
    def log_in(self, n: int, ticket_id: str, provider: str) -> None:
        user = self.model.get(self.some_id(n))
        if user is None:
            return
        id = self.own(f"session {len(self.ids)}")
        self.ids.append("nobody")
        made = session(id, ticket_id=self.own(ticket_id), user_id=user.id, provider=provider)
        expected = self.model.sessions.setdefault(made.ticket_id, made)
        assert self.run(self.store.sessions.create(made)) == expected

    @rule(ticket_id=TICKETS)
    def replace_session(self, ticket_id: str) -> None:
        former = self.model.sessions.get(self.own(ticket_id))
        if former is None:
            return
        id = self.own(f"session {len(self.ids)}")
        self.ids.append("nobody")
        made = replace(former, id=id, token_hash=session(id).token_hash, revoked=False)
        assert self.run(self.store.sessions.replace(former, made)) is not former.revoked
        if not former.revoked:
            self.model.sessions[former.ticket_id] = made

    @rule(n=st.integers(0, 20), provider=st.sampled_from([None, "wechat"]))
    def revoke(self, n: int, provider: str | None) -> None:
        user_id = self.some_id(n)
        user = self.model.get(user_id)
        for ticket_id, kept in self.model.sessions.items():
            if user and kept.user_id == user.id and provider in (None, kept.provider):
                self.model.sessions[ticket_id] = replace(kept, revoked=True)
        self.run(self.store.sessions.revoke_of_user(user_id, provider=provider))

    @rule(ticket_id=TICKETS, life=TIMES)
    def make_ticket(self, ticket_id: str, life: float) -> None:
        made = ticket(self.own(ticket_id), expires_at=self.now + life)
        if made.id in self.model.tickets:
            with pytest.raises(ValueError):
                self.run(self.store.tickets.create(made))
        else:
            self.model.tickets[made.id] = made
            self.run(self.store.tickets.create(made))

    @rule(ticket_id=TICKETS, longer=TIMES)
    def change_ticket(self, ticket_id: str, longer: float) -> None:
        known = self.model.tickets.get(self.own(ticket_id))

        def change(found: Ticket) -> Ticket:
            return replace(found, expires_at=found.expires_at + longer, next=f"{found.next}+")

        call = self.store.tickets.update(self.own(ticket_id), change, now=self.now)
        if known is None or known.expired(self.now):
            with pytest.raises(TicketUnknown):
                self.run(call)
        else:
            self.model.tickets[known.id] = change(known)
            assert self.run(call) == change(known)

    @rule(seconds=TIMES)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        for subject in ("1", "2", "3", "4"):
            expected = self.model.by_subject(self.own(subject))
            assert self.run(self.store.users.by_identity("wechat", self.own(subject))) == expected
        for user_id in self.ids:
            assert self.run(self.store.users.get(user_id)) == self.model.get(user_id)
        for kept in self.model.sessions.values():
            assert self.run(self.store.sessions.get(kept.token_hash)) == kept
        for user in self.model.people.values():
            alive = {s.id for s in self.model.sessions.values() if s.user_id == user.id and not s.revoked}
            assert {s.id for s in self.run(self.store.sessions.of_user(user.id, now=self.now))} == alive
        for id, known in self.model.tickets.items():
            expected_ticket = None if known.expired(self.now) else known
            assert self.run(self.store.tickets.get(id, now=self.now)) == expected_ticket


def test_driver_and_model_answer_alike(opener: Open) -> None:
    with asyncio.Runner() as runner:
        store = Store(opener, runner.run(opener()))
        try:
            embedded = type(store.storage).__name__ == "SqliteStorage"
            run_state_machine_as_test(
                lambda: Comparison(store, lambda call: runner.run(_awaited(call))),
                settings=settings(
                    max_examples=60 if embedded else 8,
                    stateful_step_count=25 if embedded else 15,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize=True,
                ),
            )
        finally:
            runner.run(store.storage.close())


async def _awaited(call: Any) -> Any:
    return await call
