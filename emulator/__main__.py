"""Runs the emulator alone, against any server: `python -m emulator --callback-url http://…`."""

from __future__ import annotations

import argparse
import asyncio

from emulator.own_app import AppBackend
from emulator.platform import Account
from emulator.server import Emulator
from wechat.callback import Mode
from wechat.crypto import decode_key


def _account(arguments: argparse.Namespace) -> Account:
    return Account(
        appid=arguments.appid,
        secret=arguments.secret,
        token=arguments.token,
        encoding_aes_key=arguments.encoding_aes_key,
        mode=arguments.mode,
        callback_url=arguments.callback_url,
    )


def _app(arguments: argparse.Namespace) -> AppBackend | None:
    """The team's own app, None where the arguments leave it out. Raises ValueError for half of it."""
    server, issuer, key = arguments.app_server, arguments.app_issuer, arguments.app_key
    if not (server or issuer or key):
        return None
    if not (server and issuer and key):
        raise ValueError("--app-server, --app-issuer and --app-key belong together")
    return AppBackend(issuer, arguments.app_audience, key, server.rstrip("/"))


async def _serve(account: Account, port: int, app: AppBackend | None) -> None:
    emulator = Emulator.start(account, port=port)
    if app is not None:
        emulator.install_app(app)
    print(f"phone and WeChat platform: {emulator.base_url}/  (api_base: {emulator.base_url})", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m emulator", description="Plays WeChat's platform and a phone on 127.0.0.1."
    )
    parser.add_argument("--callback-url", required=True, help="where pushes are posted")
    parser.add_argument("--port", type=int, default=8890, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--appid", required=True)
    parser.add_argument("--secret", required=True, help="the AppSecret")
    parser.add_argument("--token", required=True, help="the callback's token")
    parser.add_argument("--encoding-aes-key", default="", help="43 characters; not needed in plain mode")
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.SAFE)
    own_app = parser.add_argument_group("the team's own app", "left out: it is on nobody's phone")
    own_app.add_argument("--app-server", default="", help="the base_url in the app's codes")
    own_app.add_argument("--app-issuer", default="", help="as app.issuer of the settings")
    own_app.add_argument("--app-audience", default="saoma", help="as app.audience (default: %(default)s)")
    own_app.add_argument("--app-key", default="", help="as app.key: a shared secret")
    arguments = parser.parse_args()
    if arguments.mode is not Mode.PLAIN:
        try:
            decode_key(arguments.encoding_aes_key)
        except ValueError as error:
            parser.error(f"--encoding-aes-key: {error}")
    try:
        app = _app(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(_account(arguments), arguments.port, app))
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
