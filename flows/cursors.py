"""Cursors as they go out to a browser and come back: with a MAC, so that only ours are read (rule 18)."""

from __future__ import annotations

import base64
import binascii

from errors import BadRequest
from flows.context import Context

MAC_LENGTH = 32
MAX_LENGTH = 300


def sealed(context: Context, of: str, cursor: str) -> str:
    """`of` names the list; "" stays "", the end of it."""
    if not cursor:
        return ""
    mac = context.mac("cursor", f"{of} {cursor}")[:MAC_LENGTH]
    return base64.urlsafe_b64encode(cursor.encode()).decode("ascii") + "." + mac


def opened(context: Context, of: str, given: str) -> str:
    """Raises BadRequest for what is no cursor of that list."""
    if not given:
        return ""
    encoded, _, mac = given.partition(".")
    try:
        cursor = base64.b64decode(encoded, altchars=b"-_", validate=True).decode()
        ours = len(given) <= MAX_LENGTH and context.is_mac(mac, "cursor", f"{of} {cursor}", MAC_LENGTH)
    except (binascii.Error, ValueError):
        ours = False
    if not ours:
        raise BadRequest("This page of the list is not known; start again at its beginning.")
    return cursor
