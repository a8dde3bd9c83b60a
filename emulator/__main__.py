"""Runs the emulator alone, against any server: `python -m emulator --callback-url http://…`."""

from __future__ import annotations

import argparse
import asyncio

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


async def _serve(account: Account, port: int) -> None:
    emulator = Emulator.start(account, port=port)
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
    arguments = parser.parse_args()
    if arguments.mode is not Mode.PLAIN:
        try:
            decode_key(arguments.encoding_aes_key)
        except ValueError as error:
            parser.error(f"--encoding-aes-key: {error}")
    try:
        asyncio.run(_serve(_account(arguments), arguments.port))
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
