"""Cursors as they go out to a browser and come back: with a MAC, so that only ours are read (rule 18)."""

from __future__ import annotations

import base64
import binascii
import hmac

from errors import BadRequest
from flows.context import Context

MAC_LENGTH = 32
MAX_LENGTH = 300


def sealed(context: Context, of: str, cursor: str) -> str:
    """`of` names the list; "" stays "", the end of it."""
    if not cursor:
        return ""
    return base64.urlsafe_b64encode(cursor.encode()).decode("ascii") + "." + _mac(context, of, cursor)


def opened(context: Context, of: str, given: str) -> str:
    """Raises BadRequest for what is no cursor of that list."""
    if not given:
        return ""
    encoded, _, mac = given.partition(".")
    try:
        cursor = base64.b64decode(encoded, altchars=b"-_", validate=True).decode()
        ours = len(given) <= MAX_LENGTH and hmac.compare_digest(mac, _mac(context, of, cursor))
    except (binascii.Error, ValueError, TypeError):  # TypeError: compare_digest takes ASCII alone
        ours = False
    if not ours:
        raise BadRequest("This page of the list is not known; start again at its beginning.")
    return cursor


def _mac(context: Context, of: str, cursor: str) -> str:
    return context.mac("cursor", f"{of} {cursor}")[:MAC_LENGTH]
