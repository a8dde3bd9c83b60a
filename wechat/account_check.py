"""Whether the account can do what a login needs, tried in the order in which one thing needs the other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

TRIAL_CODE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for the operator."""

    fine: bool
    words: str


async def try_account(client: WechatClient) -> AsyncIterator[Finding]:
    """Token, a call with it, the right to make codes; ends at the first that fails. Uses one code up."""
    scene = f"check{secrets.token_hex(8)}"
    steps = (
        ("access token", "AppID, AppSecret and this server's address are accepted", client.token.get),
        ("API", "WeChat takes calls with the token", client.check_callback_addresses),
        (
            "codes",
            "this account may make login codes",
            lambda: client.create_code(scene, TRIAL_CODE_SECONDS),
        ),
    )
    for subject, words, step in steps:
        try:
            await step()
        except (PlatformError, PlatformUnreachable) as error:
            detail = f" (WeChat's words: {error})" if isinstance(error, PlatformError) else ""
            yield Finding(False, f"{subject}: {error.plain_words}{detail}")
            return
        yield Finding(True, f"{subject}: {words}")
