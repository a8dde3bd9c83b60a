"""What admins look at. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from errors import BadRequest, NotFound
from flows import cursors
from flows.account import Overview, overview_of
from flows.context import Context
from flows.outbox import newest
from storage.base import MAX_PAGE, MAX_SEARCH_TEXT, Page, Transaction
from storage.records import AuditEntry, Login, LoginFilter, Notice, Tally, User

HOUR = 3600
ROWS = 50  # of a list on one page
SITE_NOTICES = 10

PEOPLE = "people"  # the lists that cursors belong to
LOGINS = "logins"
AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Now:
    waiting: int  # pages and programs that wait for a login, in this process
    sessions: int
    people: int


@dataclass(frozen=True, slots=True)
class PeoplePage:
    people: Sequence[User]
    cursor: str  # of the next page, "" at the end


@dataclass(frozen=True, slots=True)
class LoginsPage:
    logins: Sequence[Login]
    people: Mapping[str, User]  # those of the lines who are still there, by the line's `user_id`
    cursor: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: Sequence[AuditEntry]
    people: Mapping[str, User]  # admins and targets who are still there, by the entry's id of them
    cursor: str


@dataclass(frozen=True, slots=True)
class Person:
    user: User
    overview: Overview


async def now(context: Context) -> Now:
    async def work(transaction: Transaction) -> Now:
        sessions = await transaction.sessions.count(now=context.now())
        return Now(context.broker.waiting, sessions, await transaction.users.count())

    return await context.storage.transact(work)


async def tally(context: Context, first_hour: int, hours: int) -> Sequence[Tally]:
    """Of `hours` hours since 1970 from `first_hour` on."""

    async def work(transaction: Transaction) -> Sequence[Tally]:
        since = float(first_hour * HOUR)
        return await transaction.logins.tally(since=since, until=since + hours * HOUR)

    return await context.storage.transact(work)


async def people(context: Context, text: str, cursor: str, limit: int = ROWS) -> PeoplePage:
    """The oldest first. Raises BadRequest."""
    if len(text) > MAX_SEARCH_TEXT:
        raise BadRequest("That is too long to search for.")
    place, found = cursors.opened(context, PEOPLE, cursor), list[User]()
    while True:
        page = await context.storage.transact(_search_people(text, place, limit - len(found)))
        found += page.users
        place = page.cursor
        if not place or len(found) == limit:
            return PeoplePage(found, cursors.sealed(context, PEOPLE, place))


def _search_people(text: str, cursor: str, limit: int) -> Callable[[Transaction], Awaitable[Page]]:
    return lambda transaction: transaction.users.search(text, cursor=cursor, limit=limit)


async def all_people(context: Context, text: str) -> AsyncIterator[Sequence[User]]:
    """Page by page, whoever is found; people who come meanwhile may be among them."""
    cursor = ""
    while True:
        page = await people(context, text, cursor, MAX_PAGE)
        yield page.people
        if not (cursor := page.cursor):
            return


async def person(context: Context, user_id: str) -> Person:
    """Raises NotFound."""

    async def work(transaction: Transaction) -> Person:
        user = await transaction.users.get(user_id)
        if user is None:
            raise NotFound("There is no such person.")
        return Person(user, await overview_of(transaction, context, user.id))

    return await context.storage.transact(work)


async def find_person(context: Context, wanted: str) -> User | None:
    """By our id or by the id that a platform has for them."""

    async def work(transaction: Transaction) -> User | None:
        for provider in ("wechat", "app"):
            if found := await transaction.users.by_identity(provider, wanted):
                return found
        return await transaction.users.get(wanted)

    return await context.storage.transact(work)


async def logins(context: Context, wanted: LoginFilter, cursor: str, limit: int = ROWS) -> LoginsPage:
    """The newest first. Raises BadRequest."""
    place = cursors.opened(context, LOGINS, cursor)

    async def work(transaction: Transaction) -> LoginsPage:
        page = await transaction.logins.find(wanted, cursor=place, limit=limit)
        known = await _known(transaction, {line.user_id for line in page.logins})
        return LoginsPage(page.logins, known, cursors.sealed(context, LOGINS, page.cursor))

    return await context.storage.transact(work)


async def all_logins(context: Context, wanted: LoginFilter) -> AsyncIterator[LoginsPage]:
    """Page by page, the newest first; what is logged meanwhile is not among them."""
    cursor = ""
    while True:
        page = await logins(context, wanted, cursor, MAX_PAGE)
        yield page
        if not (cursor := page.cursor):
            return


async def audit(context: Context, cursor: str) -> AuditPage:
    """The newest first. Raises BadRequest."""
    place = cursors.opened(context, AUDIT, cursor)

    async def work(transaction: Transaction) -> AuditPage:
        page = await transaction.audit.newest(cursor=place, limit=ROWS)
        ids = {entry.admin_id for entry in page.entries} | {entry.target for entry in page.entries}
        known = await _known(transaction, ids)
        return AuditPage(page.entries, known, cursors.sealed(context, AUDIT, page.cursor))

    return await context.storage.transact(work)


async def notices(context: Context) -> dict[str, Sequence[Notice]]:
    """What became of the newest notices, by site."""
    return {
        site.id: await newest(context, site_id=site.id, limit=SITE_NOTICES) for site in context.settings.sites
    }


async def _known(transaction: Transaction, ids: Collection[str]) -> dict[str, User]:
    found = {user_id: await transaction.users.get(user_id) for user_id in ids if user_id}
    return {user_id: user for user_id, user in found.items() if user is not None}
