"""The store for more than one process: MongoDB, by way of Motor.

No transactions: they need a replica set. Each call is made of conditional changes of one document, so ordered
that a crash between two of them is repaired by running the call again. Expiry is part of every query; indexes
that delete what has expired are made where the server has them, and only save the sweep some work.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, ReadPreference, ReturnDocument
from pymongo.errors import (
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
)

from errors import StoreTooNew, StoreUnavailable, TicketUnknown
from storage import base, codec
from storage.base import MAX_PAGE, TIMEOUT_SECONDS, Result
from storage.codec import Row
from storage.mongodb_documents import Versioned, expiring, insert_first
from storage.mongodb_logs import Audit, KnownBrowsers, Logins
from storage.mongodb_people import People
from storage.mongodb_sites import Grants, Outbox, SigningKeys
from storage.records import Link, Session
from tickets import State, Ticket

DEFAULT_DATABASE = "saoma"
# Of the documents: counted up when an older saoma could no longer read or would spoil them.
SCHEMA_VERSION = 1
SELECTION_MILLISECONDS = 2500  # to find a server; all three within base.TIMEOUT_SECONDS
CONNECT_MILLISECONDS = 2000
ANSWER_MILLISECONDS = 3000
# The server's clock may differ from ours: what it deletes by itself has long been over.
TTL_SLACK_SECONDS = 3600

_UNIQUE: Mapping[str, Sequence[Sequence[str]]] = {
    "sessions": [("id",), ("token_hash",)],
}
_INDEXES: Mapping[str, Sequence[Sequence[str]]] = {
    "users": [("created_at", "_id"), ("merged_into", "absorbed")],
    "identities": [("user_id",), ("user_created_at", "user_id")],
    "unionids": [("user_id",)],
    "sessions": [("user_id",), ("expires_at",)],
    "tickets": [("user_id",), ("expires_at",)],
    "deliveries": [("expires_at",)],
    "signatures": [("expires_at",)],
    "links": [("user_id",), ("expires_at",)],
    "logins": [("at", "_id"), ("user_id", "at"), ("expires_at",)],
    "audit": [("at", "_id")],
    "known_browsers": [("user_id",), ("token_hash",), ("expires_at",)],
    "grants": [("session_id",), ("user_id",), ("expires_at",)],
    "outbox": [
        ("endpoint", "state", "created_at", "id"),
        ("endpoint", "created_at", "id"),
        ("created_at", "id"),
        ("expires_at",),
    ],
}
_EXPIRING = (
    "tickets",
    "sessions",
    "deliveries",
    "signatures",
    "links",
    "logins",
    "known_browsers",
    "grants",
    "outbox",
    "signing_keys",
)

log = logging.getLogger("saoma.storage")


async def open(url: str) -> MongoStorage:
    """Opens the database that the path of `url` names (default `saoma`) and makes its indexes.

    Raises StoreUnavailable where the address cannot be understood, nobody answers, or access is refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # so the driver tells of options it does not know
            client: Any = AsyncIOMotorClient(
                url,
                appname="saoma",
                w="majority",
                journal=True,
                wTimeoutMS=ANSWER_MILLISECONDS,
                serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
                connectTimeoutMS=CONNECT_MILLISECONDS,
                socketTimeoutMS=ANSWER_MILLISECONDS,
                waitQueueTimeoutMS=SELECTION_MILLISECONDS,
            )
        database = client.get_default_database(DEFAULT_DATABASE).with_options(
            read_preference=ReadPreference.PRIMARY
        )
    except (PyMongoError, ValueError, TypeError, UserWarning):
        # What the driver says may quote a part of the address, and that may be the password.
        raise StoreUnavailable(
            "storage.url is no address that MongoDB's driver understands: it must look like"
            " mongodb://user:password@host:27017/saoma, with the special characters of user and password"
            " percent-encoded."
        ) from None
    storage = MongoStorage(client, database)
    try:
        await storage.prepare()
    except StoreTooNew:
        await storage.close()
        raise
    except StoreUnavailable as error:
        await storage.close()
        raise StoreUnavailable(
            f"The MongoDB of storage.url did not answer or did not let us in: {_named(error.__cause__)}."
        ) from error
    return storage


class MongoStorage(base.Storage):
    def __init__(self, client: Any, database: Any) -> None:
        self._client = client
        self._database = database
        self._transaction = _Transaction(database)
        self._closed = False

    async def prepare(self) -> None:
        """Makes the indexes. What the contract stands on must be there; what only deletes may be missing.

        Raises StoreTooNew, and then has changed nothing.
        """
        await _answered(self._require_known_schema())
        for name in sorted({*_UNIQUE, *_INDEXES}):
            await _answered(self._index(name))
        try:
            for name in _EXPIRING:
                await asyncio.wait_for(self._delete_over_time(name), TIMEOUT_SECONDS)
        except OperationFailure as error:
            log.info("the server deletes nothing by itself, the sweep will: %s", _named(error))
        except (TimeoutError, PyMongoError) as error:
            raise _unavailable(error) from error

    async def transact(self, work: Callable[[base.Transaction], Awaitable[Result]]) -> Result:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        return await _answered(work(self._transaction))

    async def sweep(self, *, now: float) -> None:
        for name in _EXPIRING:
            await _answered(self._database[name].delete_many({"expires_at": {"$lte": now}}))
        await _answered(self._transaction.users.finish_merges())

    async def ping(self) -> None:
        await _answered(
            self._database["health"].update_one({"_id": "ping"}, {"$inc": {"count": 1}}, upsert=True)
        )

    async def close(self) -> None:
        self._closed = True
        self._client.close()

    async def _require_known_schema(self) -> None:
        """Writes ours down where an older one stands, or none."""
        meta, which = self._database["meta"], {"_id": "schema"}
        stored = await meta.find_one(which) or {"version": 0}
        if stored["version"] > SCHEMA_VERSION:
            raise StoreTooNew(
                f"The MongoDB of storage.url has schema version {stored['version']};"
                f" this saoma knows version {SCHEMA_VERSION}."
            )
        if stored["version"] < SCHEMA_VERSION:
            await meta.update_one(which, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)

    async def _index(self, name: str) -> None:
        collection = self._database[name]
        known = await collection.index_information()  # FerretDB fails where one is made a second time
        wanted = [
            IndexModel([(field, 1) for field in fields], unique=True) for fields in _UNIQUE.get(name, ())
        ]
        wanted += [IndexModel([(field, 1) for field in fields]) for fields in _INDEXES.get(name, ())]
        missing = [index for index in wanted if index.document["name"] not in known]
        if missing:
            await collection.create_indexes(missing)

    async def _delete_over_time(self, name: str) -> None:
        collection = self._database[name]
        await collection.create_index("expires_on", expireAfterSeconds=TTL_SLACK_SECONDS)


async def _answered(operation: Awaitable[Result]) -> Result:
    """The outcome of `operation`, with MongoDB's failures as those of the contract."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await operation
    except (DocumentTooLarge, BSONError) as error:
        raise ValueError(f"not to be stored: {error}") from error
    except (TimeoutError, PyMongoError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailable:
    log.error("MongoDB did not do what was asked: %s", _named(error))
    return StoreUnavailable()


def _named(error: BaseException | None) -> str:
    """The kind of failure; the driver's own words may quote what is stored."""
    code = getattr(error, "code", None)
    return type(error).__name__ + ("" if code is None else f", code {code}")


class _Sessions(base.Sessions):
    """`_id` is the ticket's: a ticket is collected once."""

    def __init__(self, database: Any, people: People) -> None:
        self._collection = database["sessions"]
        self._people = people

    async def create(self, session: Session) -> Session:
        if await insert_first(self._collection, {"_id": session.ticket_id, **self._row(session)}):
            return session
        stored = await self._collection.find_one({"_id": session.ticket_id})
        assert stored is not None, "ids and tokens are random, so only the ticket can be the same"
        return codec.session_of(stored)

    async def replace(self, former: Session, session: Session) -> bool:
        place = {**codec.scalars(_id=session.ticket_id, id=former.id), "revoked": False}
        result = await self._collection.update_one(place, {"$set": self._row(session)})
        return bool(result.matched_count)

    async def get(self, token_hash: bytes) -> Session | None:
        return await self._one(codec.scalars(token_hash=token_hash))

    async def by_id(self, session_id: str) -> Session | None:
        return await self._one(codec.scalars(id=session_id))

    async def by_ticket(self, ticket_id: str) -> Session | None:
        return await self._one(codec.scalars(_id=ticket_id))

    async def touch(self, session_id: str, *, now: float) -> None:
        await self._collection.update_one(
            codec.scalars(id=session_id), {"$set": codec.scalars(last_used_at=now)}
        )

    async def revoke(self, session_id: str) -> Session | None:
        return await self._revoke(codec.scalars(id=session_id))

    async def revoke_of_ticket(self, ticket_id: str) -> Session | None:
        return await self._revoke(codec.scalars(_id=ticket_id))

    async def revoke_of_user(self, user_id: str, *, provider: str | None = None) -> None:
        which = await self._of_user(user_id, provider)
        await self._collection.update_many(which, {"$set": {"revoked": True}})

    async def of_user(self, user_id: str, *, now: float, provider: str | None = None) -> Sequence[Session]:
        which = await self._of_user(user_id, provider)
        rows = self._collection.find({**which, "revoked": False, "expires_at": {"$gt": now}})
        newest_first = rows.sort([("created_at", -1), ("id", -1)]).limit(MAX_PAGE)
        return [codec.session_of(row) async for row in newest_first]

    async def _of_user(self, user_id: str, provider: str | None) -> Row:
        which: Row = {} if provider is None else codec.scalars(provider=provider)
        return {**which, **await self._people.owned(user_id)}

    async def _one(self, which: Row) -> Session | None:
        row = await self._collection.find_one(which)
        return codec.session_of(row) if row else None

    async def count(self, *, now: float) -> int:
        alive = {"revoked": False, "expires_at": {"$gt": now}}
        return int(await self._collection.count_documents(alive))

    async def _revoke(self, which: Row) -> Session | None:
        row = await self._collection.find_one_and_update(
            which, {"$set": {"revoked": True}}, return_document=ReturnDocument.AFTER
        )
        return codec.session_of(row) if row else None

    def _row(self, session: Session) -> Row:
        return expiring(codec.scalars(**codec.session_row(session)))


class _Tickets(base.Tickets):
    def __init__(self, database: Any, people: People) -> None:
        self._collection = database["tickets"]
        self._versioned = Versioned(self._collection)
        self._people = people

    async def create(self, ticket: Ticket) -> None:
        await self._versioned.create(ticket.id, codec.scalars(**codec.ticket_row(ticket)))

    async def get(self, ticket_id: str, *, now: float) -> Ticket | None:
        row = await self._versioned.get(ticket_id, now=now)
        return codec.ticket_of(row) if row else None

    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        changed = await self._versioned.update(
            ticket_id, change, now=now, record_of=codec.ticket_of, row_of=codec.ticket_row
        )
        if changed is None:
            raise TicketUnknown
        return changed

    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        if not user_id:
            return []
        rows = self._collection.find(
            {
                **await self._people.owned(user_id),
                "state": {"$in": [State.SCANNED.value, State.CONFIRMED.value]},
                "expires_at": {"$gt": now},
            }
        )
        return [codec.ticket_of(row) async for row in rows]


class _Deliveries(base.Deliveries):
    def __init__(self, database: Any) -> None:
        self._deliveries = database["deliveries"]
        self._signatures = database["signatures"]

    async def reply_to(self, delivery_key: str, *, now: float) -> bytes | None:
        row = await self._deliveries.find_one({**codec.scalars(_id=delivery_key), "expires_at": {"$gt": now}})
        return row["reply"] if row else None

    async def mark(self, delivery_key: str, reply: bytes, *, expires_at: float) -> None:
        row = codec.scalars(_id=delivery_key, reply=reply, expires_at=expires_at)
        await insert_first(self._deliveries, expiring(row))

    async def bind(self, signature: str, body_hash: bytes, *, expires_at: float) -> bool:
        row = codec.scalars(_id=signature, body_hash=body_hash, expires_at=expires_at)
        if await insert_first(self._signatures, expiring(row)):
            return True
        stored = await self._signatures.find_one({"_id": signature})
        return stored is not None and stored["body_hash"] == body_hash


class _Links(base.Links):
    """`_id` is the token's hash."""

    def __init__(self, database: Any) -> None:
        self._collection = database["links"]

    async def create(self, link: Link) -> None:
        row = expiring(codec.scalars(**codec.link_row(link)))
        await insert_first(self._collection, {"_id": link.token_hash, **row})

    async def get(self, token_hash: bytes, *, now: float) -> Link | None:
        row = await self._collection.find_one(self._usable(token_hash, now))
        return codec.link_of(row) if row else None

    async def use(self, token_hash: bytes, *, now: float) -> Link | None:
        row = await self._collection.find_one_and_update(
            self._usable(token_hash, now), {"$set": {"used": True}}
        )
        return codec.link_of(row) if row else None

    def _usable(self, token_hash: bytes, now: float) -> Row:
        return {**codec.scalars(_id=token_hash), "used": False, "expires_at": {"$gt": now}}


class _Transaction:
    def __init__(self, database: Any) -> None:
        self.users = People(database)
        self.sessions = _Sessions(database, self.users)
        self.tickets = _Tickets(database, self.users)
        self.deliveries = _Deliveries(database)
        self.links = _Links(database)
        self.logins = Logins(database, self.users)
        self.grants = Grants(database)
        self.outbox = Outbox(database)
        self.signing_keys = SigningKeys(database)
        self.audit = Audit(database)
        self.known_browsers = KnownBrowsers(database, self.users)
