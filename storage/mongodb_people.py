"""The people in MongoDB: users, identities, and how two users become one without a transaction.

`identities` has one document per provider and subject, `users` one per person, `unionids` one per unionid. A
unionid is claimed by inserting it; of two users with the same one the younger is merged into the older:

1. the younger's document gets `merged_into`. From here on it resolves to the older and no longer changes;
2. the older takes over the younger's count, block and ids, once (`previous_ids` tells);
3. whatever points to the younger is moved, and the younger's document is marked `absorbed`.

A crash between any two steps is repaired by the next call that meets the younger, or by the sweep. Plain
operators of MongoDB only, and none of Motor's names: `mongodb.py` hands in the database.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from errors import StoreUnavailable
from storage import base, codec
from storage.base import Page, check_search_text, page_size
from storage.codec import Row
from storage.mongodb_documents import MAX_TRIES
from storage.records import Profile, User

_NEW_USER: Row = {
    "chosen_name": "",
    "unionid": "",
    "blocked": False,
    "remark": "",
    "admin": False,
    "login_count": 0,
    "last_login_at": 0.0,
    "last_ticket_id": "",
    "previous_ids": [],
    "merged_into": "",
    "absorbed": False,
}
_OLDEST_FIRST = [("created_at", 1), ("_id", 1)]
_IDENTITIES_OLDEST_FIRST = [("user_created_at", 1), ("user_id", 1)]


class People(base.Users):
    def __init__(self, database: Any) -> None:
        self._users = database["users"]
        self._identities = database["identities"]
        self._unionids = database["unionids"]
        self._owned = [database[name] for name in ("sessions", "links", "logins")]
        self._tickets = database["tickets"]
        # They keep the id of the person they were made for.
        self._kept = [database[name] for name in ("grants", "known_browsers")]

    async def upsert_identity(
        self, provider: str, subject: str, *, following: bool, event_at: float, new_id: str, now: float
    ) -> User:
        key = _identity_key(provider, subject)
        event = codec.scalars(following=following, event_at=event_at)
        blank = codec.scalars(user_id=new_id, created_at=now, user_created_at=now, profile_at=0.0)
        blank |= {"provider": provider, "subject": subject, **codec.profile_row(Profile())}
        for _ in range(MAX_TRIES):
            identity: Row | None = await self._identities.find_one(key)
            if identity is None:
                identity = {**key, **blank, **event}
                try:
                    await self._identities.insert_one(identity)
                except DuplicateKeyError:  # made by another caller just now
                    continue
            elif any(identity[name] != value for name, value in event.items()):
                await self._identities.update_one({**key, "event_at": {"$lte": event_at}}, {"$set": event})
            user = await self.get(identity["user_id"])
            if user is not None:
                return user
            await self._make_user(identity)
        raise StoreUnavailable

    async def set_unfollowed(self, provider: str, subject: str, *, event_at: float) -> User | None:
        key = _identity_key(provider, subject)
        erased = {"following": False, "profile_at": 0.0, **codec.profile_row(Profile())}
        await self._identities.update_one(
            {**key, "event_at": {"$lte": event_at}},
            {"$set": {**erased, **codec.scalars(event_at=event_at)}},
        )
        return await self.by_identity(provider, subject)

    async def update_profile(
        self, provider: str, subject: str, profile: Profile, *, unionid: str, now: float
    ) -> User | None:
        key = _identity_key(provider, subject)
        codec.scalars(unionid=unionid)
        told = {name: value for name, value in codec.scalars(**codec.profile_row(profile)).items() if value}
        identity = await self._identities.find_one_and_update(
            {**key, "following": True}, {"$set": {**told, **codec.scalars(profile_at=now)}}
        )
        if identity is not None and unionid:
            await self._link_unionid(identity["user_id"], unionid)
        return await self.by_identity(provider, subject)

    async def get(self, user_id: str) -> User | None:
        person = await self._survivor(user_id)
        return (await self._assemble([person]))[0] if person else None

    async def by_identity(self, provider: str, subject: str) -> User | None:
        identity = await self._identities.find_one(_identity_key(provider, subject))
        return await self.get(identity["user_id"]) if identity else None

    async def set_chosen_name(self, user_id: str, name: str) -> None:
        await self._change(user_id, {"$set": codec.scalars(chosen_name=name)})

    async def set_blocked(self, user_id: str, blocked: bool) -> None:
        await self._change(user_id, {"$set": codec.scalars(blocked=blocked)})

    async def set_remark(self, user_id: str, remark: str) -> None:
        await self._change(user_id, {"$set": codec.scalars(remark=remark)})

    async def set_admin(self, user_id: str, admin: bool) -> None:
        await self._change(user_id, {"$set": codec.scalars(admin=admin)})

    async def count(self) -> int:
        return int(await self._users.count_documents({"merged_into": ""}))

    async def count_login(self, user_id: str, ticket_id: str, *, now: float) -> None:
        codec.scalars(ticket_id=ticket_id)
        for _ in range(MAX_TRIES):
            person = await self._survivor(user_id)
            if person is None or (counted := codec.count_ticket(person["last_ticket_id"], ticket_id)) is None:
                return
            same = {name: person[name] for name in ("_id", "merged_into", "last_ticket_id")}
            noted = codec.scalars(last_ticket_id=counted, last_login_at=now)
            result = await self._users.update_one(same, {"$inc": {"login_count": 1}, "$set": noted})
            if result.matched_count:
                return
        raise StoreUnavailable

    async def forget(self, user_id: str) -> None:
        person = await self._survivor(user_id)
        if person is None:
            return
        await self.finish_merges(into=person["_id"])
        owned = await self.owned(user_id)
        for collection in (self._identities, *self._owned, self._unionids, *self._kept):
            await collection.delete_many(owned)
        await self._users.delete_many({"merged_into": {"$in": [person["_id"], *person["previous_ids"]]}})
        await self._users.delete_one({"_id": person["_id"]})  # last: until then this can be run again

    async def search(self, text: str, *, cursor: str = "", limit: int = 50) -> Page:
        codec.scalars(text=text, cursor=cursor)
        check_search_text(text)
        limit = page_size(limit)
        created_at, user_id = codec.place_of(cursor)
        contains = {"$regex": _pattern(text)}
        people = _behind("created_at", created_at, "_id", user_id)
        people["merged_into"] = ""
        found: dict[str, Row] = {}
        if text:
            people = {"$and": [people, {"$or": [{"chosen_name": contains}, {"remark": contains}]}]}
            matching = {"$or": [{"nickname": contains}, {"subject": contains}]}
            behind = _behind("user_created_at", created_at, "user_id", user_id)
            matches = self._identities.find({"$and": [behind, matching]}).sort(_IDENTITIES_OLDEST_FIRST)
            ids = await _first_owners(matches, limit + 1)
            found = {
                row["_id"]: row async for row in self._users.find({"_id": {"$in": ids}, "merged_into": ""})
            }
        found |= {
            row["_id"]: row async for row in self._users.find(people).sort(_OLDEST_FIRST).limit(limit + 1)
        }
        rows = sorted(found.values(), key=_age)
        users = await self._assemble(rows[:limit])
        return Page(
            tuple(users), codec.cursor_after(users[-1].created_at, users[-1].id) if len(rows) > limit else ""
        )

    async def owned(self, user_id: str) -> Row:
        """A filter for what is the person's: another node may just have stored something under a former."""
        person = await self._survivor(user_id)
        return _of_any([person["_id"], *person["previous_ids"]] if person else [user_id])

    async def finish_merges(self, *, into: str | None = None) -> None:
        """Repairs merges that were broken off: all, or those into one person."""
        unfinished = {"merged_into": {"$ne": ""} if into is None else into, "absorbed": False}
        for former in await self._users.find(unfinished).to_list(None):
            await self._survivor(former["_id"])

    async def _survivor(self, user_id: str) -> Row | None:
        """The document of the person, after finishing merges on the way to it that were broken off."""
        codec.scalars(user_id=user_id)
        for _ in range(MAX_TRIES):
            unfinished: list[Row] = []
            person: Row | None = await self._users.find_one({"_id": user_id})
            while person and person["merged_into"]:
                if not person["absorbed"]:
                    unfinished.append(person)
                person = await self._users.find_one({"_id": person["merged_into"]})
            if person is None or not unfinished:
                return person
            await self._absorb(unfinished[-1], person)  # from the end, so that nothing is counted twice
        raise StoreUnavailable

    async def _make_user(self, identity: Row) -> None:
        """The user's document for an identity that has none: new, or its maker was killed."""
        user_id = identity["user_id"]
        try:
            await self._users.insert_one({"_id": user_id, "created_at": identity["created_at"], **_NEW_USER})
        except DuplicateKeyError:
            # Made by another caller just now; or merged into somebody who is forgotten by now.
            await self._users.delete_one({"_id": user_id, "merged_into": {"$ne": ""}})
        stored = await self._identities.find_one({"_id": identity["_id"]})
        if stored is None or stored["user_id"] != user_id:
            await self._users.delete_one({"_id": user_id, "merged_into": ""})  # forgotten at this moment

    async def _change(self, user_id: str, update: Row) -> None:
        for _ in range(MAX_TRIES):
            person = await self._survivor(user_id)
            if person is None:
                return
            result = await self._users.update_one({"_id": person["_id"], "merged_into": ""}, update)
            if result.matched_count:
                return
        raise StoreUnavailable

    async def _link_unionid(self, user_id: str, unionid: str) -> None:
        """Notes the unionid, and merges where another person has it."""
        for _ in range(MAX_TRIES):
            person = await self._survivor(user_id)
            if person is None:
                return
            with contextlib.suppress(DuplicateKeyError):  # claimed by another caller just now
                claim = await self._unionids.find_one_and_update(
                    {"_id": unionid},
                    {"$setOnInsert": {"user_id": person["_id"]}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
                owner = await self._survivor(claim["user_id"])
                if owner is not None and owner["_id"] == person["_id"]:
                    noted = await self._users.update_one(
                        {"_id": person["_id"], "merged_into": ""}, {"$set": {"unionid": unionid}}
                    )
                    if noted.matched_count:
                        return
                elif owner is None or owner["unionid"] not in ("", unionid):
                    # Forgotten, or has another unionid by now.
                    await self._unionids.update_one(claim, {"$set": {"user_id": person["_id"]}})
                else:
                    await self._merge(owner, person)
        raise StoreUnavailable

    async def _merge(self, one: Row, other: Row) -> None:
        """Step 1. Changes nothing where one of them has changed since it was read: the caller tries again."""
        older, younger = sorted((one, other), key=_age)
        if younger["blocked"]:  # first, so that there is no moment without the block
            await self._users.update_one(
                {"_id": older["_id"], "merged_into": ""}, {"$set": {"blocked": True}}
            )
        await self._users.update_one(
            {"_id": younger["_id"], "merged_into": "", "blocked": younger["blocked"]},
            {"$set": {"merged_into": older["_id"], "absorbed": False}},
        )

    async def _absorb(self, former: Row, survivor: Row) -> None:
        """Steps 2 and 3; each may have been done. Stops where `survivor` has changed since it was read."""
        former_id, survivor_id = former["_id"], survivor["_id"]
        if former_id not in survivor["previous_ids"]:
            taken_over: Row = {
                name: survivor.get(name, "") or former.get(name, "") for name in ("chosen_name", "remark")
            }
            if former["blocked"]:
                taken_over["blocked"] = True
            if former["last_login_at"] > survivor["last_login_at"]:
                taken_over |= {name: former[name] for name in ("last_login_at", "last_ticket_id")}
            unchanged = {name: survivor[name] for name in ("chosen_name", "last_login_at", "merged_into")}
            result = await self._users.update_one(
                {"_id": survivor_id, **unchanged, "previous_ids": {"$ne": former_id}},
                {
                    "$set": taken_over,
                    "$inc": {"login_count": former["login_count"]},
                    "$addToSet": {"previous_ids": {"$each": [former_id, *former["previous_ids"]]}},
                },
            )
            if not result.matched_count:
                return
        theirs, ours = {"user_id": former_id}, {"user_id": survivor_id}
        for collection in self._owned:
            await collection.update_many(theirs, {"$set": ours})
        await self._tickets.update_many(theirs, {"$set": ours, "$inc": {"version": 1}})
        await self._identities.update_many(
            theirs, {"$set": {**ours, "user_created_at": survivor["created_at"]}}
        )
        await self._users.update_one({"_id": former_id}, {"$set": {"absorbed": True}})

    async def _assemble(self, people: Sequence[Row]) -> list[User]:
        owner_of = {
            user_id: person["_id"]
            for person in people
            for user_id in (person["_id"], *person["previous_ids"])
        }
        identities: dict[str, list[Row]] = {person["_id"]: [] for person in people}
        async for identity in self._identities.find(_of_any(list(owner_of))):
            identities[owner_of[identity["user_id"]]].append(identity)
        return [_user_of(person, identities[person["_id"]]) for person in people]


def _identity_key(provider: str, subject: str) -> Row:
    """The `_id` of an identity; the length keeps what is before and after the colon apart."""
    codec.scalars(provider=provider, subject=subject)
    return {"_id": f"{len(provider)}:{provider}:{subject}"}


def _of_any(ids: Sequence[str]) -> Row:
    return {"user_id": ids[0] if len(ids) == 1 else {"$in": list(ids)}}


async def _first_owners(identities: Any, limit: int) -> list[str]:
    """The first `limit` different people in a cursor of identities, which is closed."""
    ids: dict[str, None] = {}
    try:
        async for identity in identities:
            ids[identity["user_id"]] = None
            if len(ids) == limit:
                break
    finally:
        await identities.close()
    return list(ids)


def _user_of(person: Row, identities: Iterable[Row]) -> User:
    by_age = sorted(identities, key=lambda row: (row["created_at"], row["provider"], row["subject"]))
    return User(
        id=person["_id"],
        created_at=person["created_at"],
        identities=tuple(codec.identity_of(identity) for identity in by_age),
        chosen_name=person["chosen_name"],
        unionid=person["unionid"],
        blocked=person["blocked"],
        remark=person.get("remark", ""),  # not there in what an older saoma has written
        admin=person.get("admin", False),
        login_count=person["login_count"],
        last_login_at=person["last_login_at"],
        previous_ids=tuple(sorted(person["previous_ids"])),
    )


def _age(person: Row) -> tuple[float, str]:
    return person["created_at"], person["_id"]


def _behind(time_field: str, time: float, id_field: str, user_id: str) -> Row:
    """A filter for what is behind that place in the list of people."""
    return {"$or": [{time_field: {"$gt": time}}, {time_field: time, id_field: {"$gt": user_id}}]}


def _pattern(text: str) -> str:
    """A regular expression that finds `text` as it is, A to Z in either case.

    Whatever might mean something is written as its number, so that every server reads it alike (a NUL
    character, for one, may not stand in a pattern itself).
    """
    return re.sub(
        r"[\x00-\x7f]",
        lambda found: (
            f"[{found[0].lower()}{found[0].upper()}]" if found[0].isalpha() else f"\\x{ord(found[0]):02x}"
        ),
        text,
    )
