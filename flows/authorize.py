"""A site sends its visitor to be logged in, and gets a code (OpenID Connect Core, 3.1.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from config.sections import RegisteredSite, Settings
from errors import Unauthenticated
from flows.context import Context
from flows.limits import take
from flows.sessions import Current
from flows.signing import Signer
from oidc import requests
from oidc.errors import OAuthError, Unredirectable
from oidc.grant import CODE_SECONDS, Grant, hash_of, join
from oidc.requests import AuthorizationRequest, Refused
from oidc.tokens import AUTHORIZE
from storage.base import Transaction
from storage.rates import Rate
from storage.records import Session
from tickets import BROWSER

GRANT_ID_BYTES = 16
CODE_BYTES = 24
ASKED_SECONDS = 3600.0  # that somebody may take to log in

# Our own note at the end of a request that waits for a login: since when, and proof that it is ours. With it
# a login that was asked for anew (`prompt=login`) is known when it has been made.
_NOTE = re.compile(r"&saoma_asked=([0-9]{1,12})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """A site's request, and since when a login counts as made for it (None: any will do)."""

    request: AuthorizationRequest
    query: str  # as the site wrote it
    asked_at: float | None


def read(context: Context, query: str) -> Asked:
    """The request in a query. Raises Unredirectable, Refused."""
    note = _NOTE.search(query)
    asked_at = None
    if note is not None:
        query = query[: note.start()]
        at = float(note[1])
        ours = context.is_mac(note[2], *_asked(note[1], query))
        if ours and context.now() < at + ASKED_SECONDS:
            asked_at = at
    values = requests.parse_query(query)
    return Asked(requests.parse(values, context.settings.sites), query, asked_at)


def login_address(context: Context, asked: Asked) -> str:
    """The login page, which leads back to the request."""
    at = str(int(context.now()))
    continued = f"{AUTHORIZE}?{asked.query}&saoma_asked={at}.{context.mac(*_asked(at, asked.query))}"
    language = next(iter(asked.request.ui_locales.split()), "")
    return f"/login?next={quote(continued, safe='')}" + (f"&lang={quote(language)}" if language else "")


def site_of(settings: Settings, target: str) -> RegisteredSite | None:
    """The site that a login leads back to, where `target` is an authorization request of one."""
    path, _, query = target.partition("?")
    if path != AUTHORIZE:
        return None
    try:
        request = requests.parse(requests.parse_query(_NOTE.sub("", query)), settings.sites)
    except (Refused, Unredirectable):
        return None
    return settings.site_of(request.site)


async def authorize(context: Context, signer: Signer, asked: Asked, current: Current | None) -> str | None:
    """The address to send the browser to, with a code; None where the person has to log in first.

    A program's session does not do: it is one site's, and must not open the others.
    Raises Refused, which is an answer for the site too, and TooManyRequests.
    """
    request = asked.request
    silent = "none" in request.prompt
    usable = current is not None and current.session.client == BROWSER
    if current is None or not usable or not _fresh_enough(context, asked, current.session):
        if silent:
            raise _login_required(request)
        return None
    if request.id_token_hint:
        hinted = await signer.verified(request.id_token_hint)
        meant = hinted is not None and hinted.get("sub") in (current.user.id, *current.user.previous_ids)
        if silent and not meant:
            raise _login_required(request)
        if hinted is not None and not meant:
            if asked.asked_at is not None:  # and even so somebody else has logged in
                raise _login_required(request)
            return None
    await take(
        context, Rate.per_minute("site-codes", context.settings.limits.site_codes_per_person), current.user.id
    )
    try:
        code = await issue_code(context, request, current.session, current.user.id)
    except Unauthenticated:  # the session ended at this moment
        if silent:
            raise _login_required(request) from None
        return None
    return requests.answer(request.redirect_uri, code=code, state=request.state, iss=context.base_url)


def refusal_address(context: Context, refused: Refused) -> str:
    """Where the browser takes the refusal to the site."""
    error = refused.error
    return requests.answer(
        refused.redirect_uri,
        error=error.code,
        error_description=error.message,
        state=refused.state,
        iss=context.base_url,
    )


async def issue_code(context: Context, request: AuthorizationRequest, session: Session, user_id: str) -> str:
    """A code for the site, good for 60 s, once. Raises Unauthenticated where the session has ended."""
    grant_id, secret = context.token(GRANT_ID_BYTES), context.token(CODE_BYTES)

    async def work(transaction: Transaction) -> None:
        now = context.now()
        stored = await transaction.sessions.by_id(session.id)
        if stored is None or stored.revoked:
            raise Unauthenticated
        await transaction.grants.create(
            Grant(
                id=grant_id,
                site=request.site,
                user_id=user_id,
                session_id=session.id,
                redirect_uri=request.redirect_uri,
                scope=request.scope,
                nonce=request.nonce,
                code_challenge=request.code_challenge,
                auth_time=session.created_at,
                created_at=now,
                expires_at=now + CODE_SECONDS,  # the session's once it is redeemed
                code_hash=hash_of(secret),
                code_expires_at=now + CODE_SECONDS,
            )
        )

    await context.storage.transact(work)
    return join(grant_id, secret)


def _fresh_enough(context: Context, asked: Asked, session: Session) -> bool:
    # `asked_at` is cut to whole seconds, so a login right after it is not taken for an older one.
    if asked.asked_at is not None and session.created_at >= asked.asked_at:
        return True
    request = asked.request
    too_old = request.max_age is not None and abs(context.now() - session.created_at) > request.max_age
    return not (request.relogin or too_old)


def _login_required(request: AuthorizationRequest) -> Refused:
    error = OAuthError("login_required", "The person has to log in first.")
    return Refused(request.redirect_uri, request.state, error)


def _asked(at: str, query: str) -> tuple[str, str]:
    return "authorize", f"{at} {query}"
