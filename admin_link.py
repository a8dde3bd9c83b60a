"""`server.py admin-link`: prints the link that makes an admin of whoever opens it and then scans."""

from __future__ import annotations

import sys

from config import Settings
from control import CannotAsk, ask
from errors import SaomaError
from flows import admin
from notices import opened_alone


async def admin_link(settings: Settings) -> bool:
    """Prints a fresh link, good once and for ten minutes. Whether there is one."""
    try:
        answer = await ask(settings, "POST", "/admin-link", {})
        if answer is None:
            async with opened_alone(settings) as context:
                answer = {"link": await admin.new_link(context)}
    except (CannotAsk, SaomaError) as error:
        print(f"FAULT  {error}", file=sys.stderr)
        return False
    print(answer["link"])
    print("Open it in a browser within ten minutes and scan: it works once.", file=sys.stderr)
    return True
