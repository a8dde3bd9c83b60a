"""`server.py demo`: everything in one process, for whoever wants to see it work."""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.netutil import bind_sockets

from composition import Server, open_storage
from config import Settings
from emulator import Account, AppBackend, Emulator
from wechat.callback import Mode

PHONE_PORT = 8890

# Where the sites in examples/ are: those that log in with OpenID Connect, and the one behind nginx.
EXAMPLE_PORTS = {"php": 9001, "java": 9002, "flask": 9003, "node": 9004}
STATIC_EXAMPLE_PORT = 9005


async def demo(port: int, given: Settings, told: asyncio.Event) -> None:
    """The server, WeChat's platform and a phone, with an embedded store that is gone afterwards.

    Of the settings `given` it takes the sites, where they are reached, and `app.number_match`. Ends when
    `told` is set.
    """
    with tempfile.TemporaryDirectory(prefix="saoma-demo-") as folder:
        sockets = _bind_near(port)
        base_url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        account = Account(
            appid=f"wx{secrets.token_hex(8)}",
            secret=secrets.token_hex(16),
            token=secrets.token_hex(16),
            encoding_aes_key=secrets.token_hex(22)[:43],
            mode=Mode.SAFE,
            callback_url=f"{base_url}/wechat/callback",
        )
        try:
            emulator = Emulator.start(account, port=PHONE_PORT)
        except OSError:
            emulator = Emulator.start(account)
        backend = AppBackend(
            issuer=emulator.base_url, audience="saoma", key=secrets.token_urlsafe(32), server=base_url
        )
        emulator.install_app(backend)
        site_secret = secrets.token_urlsafe(24)
        document = {
            "server": {
                "allowed_redirects": [
                    f"http://127.0.0.1:{STATIC_EXAMPLE_PORT}",
                    *given.server.allowed_redirects,
                ],
                "allowed_networks": ["127.0.0.0/8", *given.server.allowed_networks],
            },
            "site": {"name": "saoma 演示"},
            "sites": [
                *given.sites,
                *(site for site in example_sites(site_secret) if not given.site_of(site["id"])),
            ],
            "wechat": {
                "appid": account.appid,
                "secret": account.secret,
                "token": account.token,
                "encoding_aes_key": account.encoding_aes_key,
                "mode": "safe",
                "api_base": emulator.base_url,
                "picture_hosts": [urlsplit(emulator.base_url).netloc],
                "welcome": "你好，欢迎关注！\nHello, and thank you for following.",
            },
            "app": {
                "issuer": backend.issuer,
                "key": backend.key,
                "link": f"{emulator.base_url}/?code={{url}}",
                "number_match": given.app.number_match,
            },
        }
        settings = Settings.model_validate({**document, "folder": Path(folder)})
        server = Server(settings, sockets=sockets, storage=await open_storage(settings), demo=True)
        server.start()
        print(f"网站 site:             {server.base_url}/")
        print(f"模拟手机 phone:        {emulator.base_url}/")
        print(f"示例 examples:         LOGIN_SERVER={server.base_url} LOGIN_SECRET={site_secret}")
        print("用浏览器打开网站并登录，再用模拟手机扫码。按 Ctrl+C 结束。")
        print("Open the site, then scan its code with the phone. Ctrl+C ends it.", flush=True)
        await told.wait()
        await server.stop()
        await emulator.stop()


def example_sites(secret: str) -> list[dict[str, Any]]:
    """Entries of `sites:` for the examples that log in with OpenID Connect."""
    return [
        {
            "id": name,
            "name": f"examples/{name}",
            "secret": secret,
            "redirect_uris": [f"http://127.0.0.1:{port}/callback"],
            "post_logout_redirect_uris": [f"http://127.0.0.1:{port}/"],
        }
        for name, port in EXAMPLE_PORTS.items()
    ]


def _bind_near(port: int) -> list[socket.socket]:
    """The port, or a free one where it is taken."""
    try:
        return bind_sockets(port, "127.0.0.1")
    except OSError:
        return bind_sockets(0, "127.0.0.1")
