"""The REST part as its description has it: schemathesis asks all of it, as somebody in every situation."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from flows.exchange import exchange
from flows.tickets import APP, Held, TicketDesk, Wish, abandon
from tests.handlers.test_app import bearer
from tests.harness import Whole
from tickets import Device

PATH = "/api/openapi.json"
SHOP = {"id": "shop", "name": "Shop", "secret": "s" * 40, "wechat_access_token": True}
OTHER = {"id": "other", "name": "Other", "secret": "o" * 40}
ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
XSRF = secrets.token_hex(16)
DEVICE = Device("Chrome", "Windows", "203.0.113.5")

Result = TypeVar("Result")
Document = dict[str, Any]

# The secret of a ticket is what makes it known: without it there is no 401 but a 404 like for any other id.
_UNKNOWN_WITHOUT_SECRET = [f"{verb}Ticket{kind}" for verb, kind in (
    ("get", ""), ("get", "Svg"), ("get", "Png"), ("exchange", ""), ("abandon", ""),
)]  # fmt: skip


@dataclass
class Report:
    """What was asked and answered; `failures` in words, each with the request as a curl command."""

    failures: list[str] = field(default_factory=list)
    answered: set[tuple[str, str]] = field(default_factory=set)  # (operationId, status)
    requests: int = 0

    def __add__(self, other: Report) -> Report:
        return Report(
            self.failures + other.failures, self.answered | other.answered, self.requests + other.requests
        )


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """(method, path, operation) of all that is described."""
    for path, item in document["paths"].items():
        for method in {"get", "head", "post", "put", "patch", "delete", "options", "trace"} & item.keys():
            yield method.upper(), path, item[method]


def strict(node: Any) -> Any:
    """The same, but objects have no members besides those that are described: clients must bear new ones,
    and we must describe them."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    copied = {name: strict(value) for name, value in node.items()}
    if copied.get("type") == "object" and "properties" in copied:
        copied["additionalProperties"] = False
    return copied


def prepared(document: Document) -> Document:
    """Answers taken strictly, and `next` without other origins, for the settings list none."""
    schemas = strict(document["components"]["schemas"])
    for name in ("NewTicket", "Decision"):
        schemas[name] = document["components"]["schemas"][name]
    wanted = schemas["NewTicket"]["properties"]["next"]
    schemas["NewTicket"] = {
        **schemas["NewTicket"],
        "properties": {
            **schemas["NewTicket"]["properties"],
            "next": {**wanted, "anyOf": wanted["anyOf"][:1]},
        },
    }
    return {**document, "components": {**document["components"], "schemas": schemas}}


def ask_all(
    document: Document,
    url: str,
    *,
    put: Callable[[Any], None] | None = None,
    generation: Mapping[str, Any] | None = None,
    **config: Any,
) -> Report:
    """Runs schemathesis in this thread; `put` may change each case before it goes out. Deterministic."""
    unknown = {
        "include-operation-id": _UNKNOWN_WITHOUT_SECRET,
        "checks": {"ignored_auth": {"enabled": False}},
    }
    settings = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "generation": {"deterministic": True, "database": "none", **(generation or {})},
            "operations": [unknown],
            **config,
        }
    )
    schema = schemathesis.openapi.from_dict(prepared(document), config=settings)
    if put is not None:

        class Credentials:
            def get(self, case: Any, context: Any) -> str:
                return ""

            def set(self, case: Any, data: str, context: Any) -> None:
                put(case)

        schema.auth(refresh_interval=None)(Credentials)
    report = Report()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            report.failures.append(str(vars(event) if hasattr(event, "__dict__") else event))
        elif isinstance(event, events.ScenarioFinished):
            _read(event, report)
    return report


def _read(event: events.ScenarioFinished, report: Report) -> None:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        report.requests += 1
        case = recorder.cases[case_id].value
        if interaction.response is not None and interaction.request.method == case.operation.method.upper():
            name = case.operation.definition.raw["operationId"]
            report.answered.add((name, str(interaction.response.status_code)))
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                told = check.failure_info
                report.failures.append(f"{check.name}: {told.failure.message}\n{told.code_sample}")


def basic(site: Document) -> str:
    return "Basic " + base64.b64encode(f"{site['id']}:{site['secret']}".encode()).decode()


def with_credentials(case: Any) -> None:
    """Somebody who may ask it, as far as that can be told without looking."""
    tag = case.operation.tags[0]
    token = {"app": bearer("u1")["Authorization"], "sessions": "Bearer x", "wechat": basic(SHOP)}
    case.headers["Authorization"] = token.get(tag, "Ticket x" if case.path_parameters else basic(SHOP))


class Situations:
    """Puts each case into the next of all situations: whose ticket it is, in which state, and who asks."""

    def __init__(self, whole: Whole, loop: asyncio.AbstractEventLoop) -> None:
        self._context = whole.server.context
        self._desk = TicketDesk(self._context, whole.server.codes)
        app = whole.server._app_login()
        assert app is not None
        self._app = app
        self._loop = loop
        self._number = itertools.count()

    def __call__(self, case: Any) -> None:
        """For schemathesis's thread."""
        asyncio.run_coroutine_threadsafe(self._put(case), self._loop).result(20)

    async def _put(self, case: Any) -> None:
        number = next(self._number)
        if "id" in (case.path_parameters or {}):
            if ID.match(str(case.path_parameters["id"])):
                await self._ticket(case, number)
        elif case.path.startswith("/api/v1/wechat"):
            self._basic(case, number)
        elif case.path == "/api/v1/tickets":
            if number % 2:
                self._basic(case, number)
        elif case.path.startswith("/api/v1/"):
            await self._session(case, number)

    async def _ticket(self, case: Any, number: int) -> None:
        kinds = (
            self._waiting, self._scanned, self._confirmed, self._consumed, self._cancelled, self._blocked,
        )  # fmt: skip
        held, handle, person = await kinds[number % len(kinds)]()
        case.path_parameters["id"] = held.ticket.id
        if case.operation.tags == ["app"]:
            stranger = number % 5 == 4
            case.headers["Authorization"] = bearer(f"{person}-other" if stranger else person)["Authorization"]
            if isinstance(case.body, dict) and isinstance(case.body.get("handle"), str) and number % 4:
                case.body["handle"] = handle
        elif number % 3 == 2:
            case.headers["Authorization"] = f"Ticket {held.secret}"
        else:
            self._page(case, f"saoma-ticket-{held.ticket.id}", held.secret, good=number % 3 == 0)

    def _basic(self, case: Any, number: int) -> None:
        case.headers["Authorization"] = basic((SHOP, OTHER)[number // 2 % 2])

    async def _session(self, case: Any, number: int) -> None:
        held, _, _ = await self._confirmed()
        collected = await exchange(self._context, held.ticket.id, held.secret, clients=(held.ticket.client,))
        if number % 3 == 2:
            case.headers["Authorization"] = f"Bearer {collected.token}"
        else:
            self._page(case, "saoma-session", collected.token, good=number % 3 == 0)

    def _page(self, case: Any, cookie: str, value: str, *, good: bool) -> None:
        """As a page of ours does, or without what only such a page has."""
        case.headers.pop("Authorization", None)
        case.headers["Cookie"] = f"{cookie}={value}; saoma-xsrf={XSRF}"
        case.headers.pop("X-XSRFToken", None)
        if good:
            case.headers["X-XSRFToken"] = XSRF
            case.headers["Origin"] = self._context.base_url

    # Tickets of the app's, in each state: the ticket, the handle of its scan, and who scanned it.

    async def _waiting(self) -> tuple[Held, str, str]:
        client = ("browser", "api")[next(self._number) % 2]
        wish = Wish(APP, client, "", "en", DEVICE, "shop" if client == "api" else "")
        return await self._desk.issue(wish), "", f"u{secrets.token_hex(6)}"

    async def _scanned(self) -> tuple[Held, str, str]:
        held, _, person = await self._waiting()
        scanned = await self._app.scan(held.ticket.id, await self._claims(person))
        return held, scanned.handle, person

    async def _confirmed(self) -> tuple[Held, str, str]:
        held, handle, person = await self._scanned()
        await self._app.confirm(held.ticket.id, await self._claims(person), handle)
        return held, handle, person

    async def _consumed(self) -> tuple[Held, str, str]:
        held, handle, person = await self._confirmed()
        await exchange(self._context, held.ticket.id, held.secret, clients=(held.ticket.client,))
        return held, handle, person

    async def _cancelled(self) -> tuple[Held, str, str]:
        held, handle, person = await self._scanned()
        await abandon(self._context, held.ticket.id, held.secret)
        return held, handle, person

    async def _blocked(self) -> tuple[Held, str, str]:
        """Confirmed, or scanned only, by somebody who may not log in any longer."""
        make: Callable[[], Awaitable[tuple[Held, str, str]]]
        make = self._confirmed if next(self._number) % 2 else self._scanned
        held, handle, person = await make()

        async def work(transaction: Any) -> None:
            user = await transaction.users.by_identity(APP, person)
            await transaction.users.set_blocked(user.id, True)

        await self._context.storage.transact(work)
        return held, handle, person

    async def _claims(self, person: str) -> Any:
        token = bearer(person, jti=secrets.token_hex(8))["Authorization"].partition(" ")[2]
        return await self._app.person(token)
