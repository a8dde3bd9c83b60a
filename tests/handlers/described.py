"""The REST part as its description has it: schemathesis asks all of it, as somebody in every situation."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from flows.app_login import WRONG_NUMBERS
from flows.exchange import Collected, exchange
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

Document = dict[str, Any]

# A ticket that was just made is there for who holds its secret, and not every situation does.
_HELD = {"ensure_resource_availability": {"enabled": False}}
# The secret makes a ticket known: without it there is no 401 but a 404, like for any other id.
_UNKNOWN = {**_HELD, "ignored_auth": {"enabled": False}}
_BY_SECRET = ("getTicket", "getTicketSvg", "getTicketPng", "exchangeTicket", "abandonTicket")
_BY_APP = ("scanTicket", "confirmTicket", "cancelTicket")
OPERATIONS = [
    {"include-operation-id": list(_BY_SECRET), "checks": _UNKNOWN},
    {"include-operation-id": list(_BY_APP), "checks": _HELD},
]


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
    put: Callable[[Any], None],
    generation: Mapping[str, Any] | None = None,
    **config: Any,
) -> Report:
    """Runs schemathesis in this thread; `put` may change each case before it goes out. Deterministic."""
    settings = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "generation": {"deterministic": True, "database": "none", **(generation or {})},
            "operations": OPERATIONS,
            **config,
        }
    )
    schema = schemathesis.openapi.from_dict(prepared(document), config=settings)

    @schema.auth(refresh_interval=None)
    class Credentials:
        def get(self, case: Any, context: Any) -> str:
            return ""

        def set(self, case: Any, data: str, context: Any) -> None:
            put(case)

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


# Whose ticket it is and how far it has come, and who asks. Each operation goes through its list in turns.
ON_TICKETS = (
    ("confirmed", "program"),
    ("confirmed", "page"),
    ("confirmed", "page of another site"),
    ("confirmed, then blocked", "program"),
    ("waiting", "page"),
    ("scanned", "program"),
    ("consumed", "page"),
    ("cancelled", "program"),
    ("waiting", "nobody"),
    ("none", "program"),
)
ON_SCANS = (
    ("scanned", "scanner"),
    ("waiting", "scanner"),
    ("scanned", "scanner with a wrong handle"),
    ("scanned", "scanner with a wrong number"),
    ("scanned, then guessed", "scanner"),
    ("scanned", "somebody else"),
    ("scanned, then blocked", "scanner"),
    ("confirmed", "scanner"),
    ("cancelled", "scanner"),
    ("consumed", "scanner"),
    ("waiting", "nobody"),
    ("none", "scanner"),
)
ON_SESSIONS = (
    ("", "page"),
    ("", "program"),
    ("", "page of another site"),
    ("", "nobody"),
)
ON_SITES = (("", "shop"), ("", "other"), ("", "nobody"))


@dataclass
class Scene:
    """A ticket of the app's, the handle of its scan, and who scanned."""

    held: Held
    person: str
    handle: str = ""
    number: int = 0

    @property
    def id(self) -> str:
        return self.held.ticket.id


class Situations:
    """Puts each case into the next of its operation's situations."""

    def __init__(self, whole: Whole, loop: asyncio.AbstractEventLoop) -> None:
        self._context = whole.server.context
        self._desk = TicketDesk(self._context, whole.server.codes)
        app = whole.server._app_login()
        assert app is not None
        self._app = app
        self._loop = loop
        self._turns: dict[str, Iterator[tuple[str, str]]] = {}

    def __call__(self, case: Any) -> None:
        """For schemathesis's thread."""
        asyncio.run_coroutine_threadsafe(self._put(case), self._loop).result(20)

    async def _put(self, case: Any) -> None:
        if case.method != case.operation.method.upper():
            return  # it is about the method
        tag = case.operation.tags[0]
        if "id" in (case.path_parameters or {}):
            if ID.match(str(case.path_parameters["id"])):
                state, asker = self._next(case, ON_SCANS if tag == "app" else ON_TICKETS)
                scene = await self._scene(state)
                case.path_parameters["id"] = scene.id
                self._ask(case, asker, scene)
        elif tag == "sessions":
            self._log_in(case, self._next(case, ON_SESSIONS)[1], await self._session())
        elif tag in ("tickets", "wechat"):
            site = {"shop": SHOP, "other": OTHER}.get(self._next(case, ON_SITES)[1])
            if site is not None:
                case.headers["Authorization"] = basic(site)

    def _next(self, case: Any, situations: tuple[tuple[str, str], ...]) -> tuple[str, str]:
        return next(self._turns.setdefault(case.operation.label, itertools.cycle(situations)))

    # Who asks.

    def _ask(self, case: Any, asker: str, scene: Scene) -> None:
        match asker:
            case "program":
                case.headers["Authorization"] = f"Ticket {scene.held.secret}"
            case "page" | "page of another site":
                self._from_page(case, f"saoma-ticket-{scene.id}", scene.held.secret, ours=asker == "page")
            case "somebody else":
                case.headers["Authorization"] = bearer("somebody else")["Authorization"]
            case "scanner" | "scanner with a wrong handle" | "scanner with a wrong number":
                case.headers["Authorization"] = bearer(scene.person)["Authorization"]
        told = case.body if isinstance(case.body, dict) else {}
        if "handle" in told and case.meta.generation.mode.is_positive:
            if asker != "scanner with a wrong handle":
                told["handle"] = scene.handle
            told["number"] = scene.number - (asker == "scanner with a wrong number")

    def _log_in(self, case: Any, asker: str, token: str) -> None:
        if asker == "program":
            case.headers["Authorization"] = f"Bearer {token}"
        elif asker != "nobody":
            self._from_page(case, "saoma-session", token, ours=asker == "page")

    def _from_page(self, case: Any, cookie: str, value: str, *, ours: bool) -> None:
        """As a page sends it, with what only a page of ours has or without."""
        case.headers.pop("Authorization", None)
        case.headers.pop("X-XSRFToken", None)
        case.headers["Cookie"] = f"{cookie}={value}; saoma-xsrf={XSRF}"
        if ours:
            case.headers["X-XSRFToken"] = XSRF
            case.headers["Origin"] = self._context.base_url

    # What there is.

    async def _session(self) -> str:
        scene = await self._scene("confirmed")
        return (await self._exchange(scene)).token

    async def _exchange(self, scene: Scene) -> Collected:
        ticket = scene.held.ticket
        return await exchange(self._context, ticket.id, scene.held.secret, clients=(ticket.client,))

    async def _scene(self, state: str) -> Scene:
        """A fresh ticket that has come so far."""
        wish = Wish(APP, "api", "", "en", DEVICE, "shop")
        scene = Scene(await self._desk.issue(wish), f"u{secrets.token_hex(6)}")
        if state == "none":
            return replace(scene, held=replace(scene.held, ticket=replace(scene.held.ticket, id="unknown")))
        if state == "waiting":
            return scene
        scanned = await self._app.scan(scene.id, await self._claims(scene.person))
        scene.handle, scene.number = scanned.handle, scanned.ticket.number
        if state == "cancelled":
            await abandon(self._context, scene.id, scene.held.secret)
        elif not state.startswith("scanned"):
            await self._app.confirm(scene.id, await self._claims(scene.person), scene.handle, scene.number)
        if state == "consumed":
            await self._exchange(scene)
        if state.endswith("blocked"):
            await self._block(scene.person)
        if state.endswith("guessed"):
            for _ in range(5):
                await self._context.rates.take(WRONG_NUMBERS, scene.person)
        return scene

    async def _block(self, person: str) -> None:
        async def work(transaction: Any) -> None:
            user = await transaction.users.by_identity(APP, person)
            await transaction.users.set_blocked(user.id, True)

        await self._context.storage.transact(work)

    async def _claims(self, person: str) -> Any:
        token = bearer(person, jti=secrets.token_hex(8))["Authorization"].partition(" ")[2]
        return await self._app.person(token)
