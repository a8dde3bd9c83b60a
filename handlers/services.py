"""What the handlers call: the use cases, wired by `server.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tornado.websocket import WebSocketHandler

from flows.access_token import AccessTokens
from flows.app_login import AppLogin
from flows.context import Context
from flows.deliveries import Deliveries
from flows.drawing import Drawing
from flows.outbox import Outbox
from flows.pictures import Pictures
from flows.platform_state import PlatformState
from flows.session_memory import SessionMemory
from flows.signing import Signer
from flows.tickets import TicketDesk
from flows.watch import Waiters
from handlers.cookies import CookieNames
from handlers.peers import Peers
from handlers.skeletons import Skeletons
from wechat.callback import Gate


@dataclass(frozen=True, slots=True)
class Services:
    context: Context
    sessions: SessionMemory
    desk: TicketDesk
    drawing: Drawing
    peers: Peers
    pictures: Pictures
    signer: Signer
    access_tokens: AccessTokens
    outbox: Outbox
    waiters: Waiters
    own_hosts: frozenset[str]  # values of the Host header that are ours, in lower case
    gate: Gate | None = None  # None where WeChat is not set up
    deliveries: Deliveries | None = None
    platform_state: PlatformState | None = None
    app_login: AppLogin | None = None  # None where the team's own app is not set up
    open_sockets: set[WebSocketHandler] = field(default_factory=set)  # of pages that wait
    demo: bool = False  # the codes lead to the emulated phone, so the page links to it
    skeletons: Skeletons = field(default_factory=Skeletons)
    secure: bool = field(init=False)  # whether browsers come by https
    transport_security: str = field(init=False)  # what browsers are told of https (RFC 6797)
    cookie_names: CookieNames = field(init=False)

    def __post_init__(self) -> None:
        secure, settings = self.context.base_url.startswith("https://"), self.context.settings
        object.__setattr__(self, "secure", secure)
        subdomains = "; includeSubDomains" if settings.server.hsts_subdomains else ""
        object.__setattr__(self, "transport_security", f"max-age=31536000{subdomains}")
        names = CookieNames(secure, settings.session.cookie_domain)
        object.__setattr__(self, "cookie_names", names)
