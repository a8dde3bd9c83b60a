"""Which changes renew which marks; that they do their work is tested with the memory itself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from storage import base, marks, sqlite, watched
from storage.records import Identity, User
from storage.shared import LocalShared
from storage.watched import WatchedStorage
from tests.storage import samples
from tests.storage.samples import NOW


@pytest.mark.parametrize(("collection", "named"), [(base.Users, "USERS"), (base.Sessions, "SESSIONS")])
def test_every_call_says_what_it_touches(collection: type, named: str):
    assert set(getattr(watched, named)) == collection.__abstractmethods__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("collection", "named"), [(base.Users, "USERS"), (base.Sessions, "SESSIONS")])
def test_what_it_touches_is_found_however_the_call_is_written(collection: type, named: str):
    for name, names in getattr(watched, named).items():
        parameters = list(inspect.signature(getattr(collection, name)).parameters.values())[1:]
        values: dict[str, Any] = {known.name: known.name for known in parameters}
        if name == "replace":
            values = {"former": samples.session("former"), "session": samples.session("session")}
        by_place = [values[known.name] for known in parameters if known.kind is not known.KEYWORD_ONLY]
        rest = {known.name: values[known.name] for known in parameters if known.kind is known.KEYWORD_ONLY}
        assert list(names(*by_place, **rest)) == list(names(**values)), name


def test_what_a_session_stands_on():
    identity = Identity("wechat", "openid", following=True, event_at=0, created_at=0)
    user = User("survivor", 0, (identity,), unionid="union", previous_ids=("before",))
    assert set(marks.behind(samples.session("s", ticket_id="t", user_id="former"), user)) == {
        marks.of_session("s"),
        marks.of_ticket("t"),
        marks.of_person("former"),
        marks.of_person("survivor"),
        marks.of_person("before"),
        marks.of_identity("wechat", "openid"),
        marks.of_unionid("union"),
    }


def test_marks_take_no_more_room_the_more_people_there_are():
    names = {marks.of_person(f"{number}") for number in range(200_000)}
    assert 0.99 * marks.BUCKETS < len(names) <= marks.BUCKETS


def test_any_text_has_a_mark():
    """What the store refuses is refused by the store."""
    for text in ("", "\0", "\ud800", "龍" * 1000):
        assert marks.of_person(text)
    assert marks.of_person({"$ne": ""})  # type: ignore[arg-type]


async def test_all_collections_can_be_reached(tmp_path):
    storage = WatchedStorage(sqlite.open(tmp_path / "saoma.db"), LocalShared(lambda: NOW))

    async def work(transaction: base.Transaction) -> list[object]:
        properties = inspect.getmembers(base.Transaction, lambda member: isinstance(member, property))
        return [getattr(transaction, name) for name, _ in properties]

    assert len(await storage.transact(work)) >= 9
    await storage.ping()
    await storage.sweep(now=NOW)
    await storage.close()


async def test_a_call_that_nobody_has_thought_of_fails(tmp_path):
    storage = WatchedStorage(sqlite.open(tmp_path / "saoma.db"), LocalShared(lambda: NOW))

    async def work(transaction: Any) -> None:
        await transaction.users._require("user")

    with pytest.raises(KeyError):
        await storage.transact(work)
    await storage.close()
