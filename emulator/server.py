"""Starts the emulator on a port of 127.0.0.1."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tornado.httpserver import HTTPServer

from emulator.app import make_app
from emulator.delivery import TIMEOUT, TRIES, Courier
from emulator.own_app import AppBackend, OwnApp
from emulator.phone import Phone
from emulator.platform import TOKEN_LIFETIME, Account, Platform

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator; `base_url` is what `wechat.api_base` is set to."""

    platform: Platform
    courier: Courier
    phone: Phone
    server: HTTPServer

    @classmethod
    def start(
        cls,
        account: Account,
        *,
        port: int = 0,
        now: Callable[[], float] = time.time,
        token: Callable[[int], str] = secrets.token_urlsafe,
        timeout: float = TIMEOUT,
        tries: int = TRIES,
        token_lifetime: float = TOKEN_LIFETIME,
        quotas: Mapping[str, int] | None = None,
    ) -> Emulator:
        """Serves on `port`, 0 for a free one. Needs a running event loop. Raises OSError for a taken port."""
        listener = socket.create_server((ADDRESS, port))
        listener.setblocking(False)
        base_url = f"http://{ADDRESS}:{listener.getsockname()[1]}"
        platform = Platform(
            account, base_url=base_url, now=now, token=token, token_lifetime=token_lifetime, quotas=quotas
        )
        courier = Courier(platform, timeout=timeout, tries=tries)
        phone = Phone(platform, courier)
        server = HTTPServer(make_app(platform, phone))
        server.add_socket(listener)
        return cls(platform, courier, phone, server)

    @property
    def base_url(self) -> str:
        return self.platform.base_url

    def deliver_to(self, callback_url: str) -> None:
        """Sets the account's callback, for servers whose address is known only after ours."""
        self.platform.account = replace(self.platform.account, callback_url=callback_url)

    def install_app(self, backend: AppBackend) -> None:
        """Puts the team's own app on every phone; its login server may be known only after our start."""
        platform = self.platform
        self.phone.own_app = OwnApp(
            backend, now=platform.now, random=platform.random, picture_of=platform.picture_url
        )

    async def stop(self) -> None:
        if self.phone.own_app is not None:
            self.phone.own_app.close()
        self.server.stop()
        await self.server.close_all_connections()
        self.courier.close()
