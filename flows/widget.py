"""A site shows our code on a page of its own, in a frame of ours, and its script is handed the site's code.

The frame holds its ticket by the secret alone, and no cookie: browsers give a third party none. What the site
asks for is an authorization request like any other, kept as the ticket's `next`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from config import Settings
from errors import BadRequest
from flows.authorize import issue_code, read
from flows.context import Context
from flows.exchange import Collected
from oidc.requests import Refused
from oidc.tokens import AUTHORIZE

PARAMETERS = (
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)


def framing_origin(settings: Settings, values: Mapping[str, Sequence[str]]) -> str:
    """The origin that the page around the frame says it has. Raises BadRequest where it is not the site's."""
    ids, origins = values.get("client_id", ()), values.get("origin", ())
    site = settings.site_of(ids[0]) if len(ids) == 1 else None
    if site is None:
        raise BadRequest("There is no such client_id.")
    if len(origins) != 1 or origins[0] not in site.all_origins:
        raise BadRequest("This origin is none of the site's: it belongs into its origins in the settings.")
    return origins[0]


def target(context: Context, values: Mapping[str, Sequence[str]]) -> str:
    """Where a login by redirect would begin. Raises OAuthError for what would be refused there."""
    given = [(name, value) for name in PARAMETERS for value in values.get(name, ())]
    query = urlencode([("response_type", "code"), *given])
    try:
        read(context, query)
    except Refused as refused:
        raise refused.error from None
    return f"{AUTHORIZE}?{query}"


async def authorization(context: Context, collected: Collected) -> dict[str, str]:
    """The site's answer: a code that stands on this login. Raises OAuthError, Unauthenticated."""
    try:
        request = read(context, collected.ticket.next.partition("?")[2]).request
    except Refused as refused:  # the settings are others now
        raise refused.error from None
    code = await issue_code(context, request, collected.session, collected.user.id)
    return {"code": code, "state": request.state, "iss": context.base_url}
