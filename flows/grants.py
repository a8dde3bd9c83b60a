"""What a site does with what it was given: redeem, refresh, look, give back (RFC 6749, 7009, 7662)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from config.sections import RegisteredSite
from flows import pictures, sessions
from flows.context import Context
from flows.sessions import Current
from flows.signing import Signer
from oidc import grant as grants
from oidc import tokens
from oidc.errors import InvalidGrant, InvalidToken, OAuthError
from oidc.grant import Grant, GrantRefused, Pair
from oidc.tokens import Person
from storage.base import Transaction
from storage.records import User

SECRET_BYTES = 24


@dataclass(frozen=True, slots=True)
class Issued:
    """A token endpoint's answer; `id_token` is "" where the scope has no `openid`."""

    access_token: str
    refresh_token: str
    id_token: str
    scope: str
    expires_in: int  # seconds


@dataclass(frozen=True, slots=True)
class _Live:
    """A grant and the login that it stands on."""

    grant: Grant
    current: Current


async def redeem(
    context: Context, signer: Signer, site: RegisteredSite, *, code: str, redirect_uri: str, verifier: str
) -> Issued:
    """Code to tokens, once. Raises InvalidGrant; a second use ends all that the first one gave."""
    grant_id, secret = grants.split(code)
    pair = _pair(context, context.token(SECRET_BYTES))

    def change(grant: Grant) -> Grant:
        return grants.redeem(
            grant,
            secret=secret,
            site=site.id,
            redirect_uri=redirect_uri,
            verifier=verifier,
            pair=pair,
            now=context.now(),
        )

    return await _issued(context, signer, site, await _changed(context, grant_id, change), pair)


async def refresh(
    context: Context, signer: Signer, site: RegisteredSite, *, refresh_token: str, scope: str
) -> Issued:
    """A new pair for the refresh token, which is over then. Raises InvalidGrant; an old one ends the grant.

    `scope` may ask for less in what is told now; the grant keeps what it has (RFC 6749, 6).
    """
    grant_id, family, secret = grants.split_refresh(refresh_token)
    pair = _pair(context, family)

    def change(grant: Grant) -> Grant:
        if not set(scope.split()) <= set(grant.scope.split()):
            raise OAuthError("invalid_scope", "scope asks for more than was given.")
        return grants.refresh(grant, secret=secret, site=site.id, pair=pair)

    return await _issued(context, signer, site, await _changed(context, grant_id, change), pair, scope)


async def userinfo(context: Context, access_token: str) -> dict[str, Any]:
    """The person's claims. Raises InvalidToken."""
    grant_id, secret = grants.split(access_token)

    async def work(transaction: Transaction) -> _Live:
        live = await _live(transaction, context, grant_id)
        if live is None or context.now() >= grants.access_ends_at(live.grant, secret):
            raise InvalidToken
        return live

    live = await context.storage.transact(work)
    if "openid" not in live.grant.scope.split():
        raise InvalidToken  # a token of plain OAuth is for nothing here (OpenID Connect Core, 5.3.1)
    return tokens.person_claims(_person(context, live.current.user), live.grant.scope)


async def introspect(context: Context, site: RegisteredSite, token: str) -> dict[str, Any]:
    """What the token is good for now (RFC 7662, 2.2); of another site's nothing is told."""
    grant_id, rest = grants.split(token)
    _, family, secret = grants.split_refresh(token)

    async def work(transaction: Transaction) -> dict[str, Any]:
        live = await _live(transaction, context, grant_id)
        if live is None or live.grant.site != site.id:
            return {"active": False}
        grant, session = live.grant, live.current.session
        if grants.is_refresh_token(grant, family, secret):
            kind, expires_at = "refresh_token", session.expires_at
        else:
            kind, expires_at = "access_token", grants.access_ends_at(grant, rest)
        if context.now() >= expires_at:
            return {"active": False}
        return {
            "active": True,
            "token_type": "Bearer" if kind == "access_token" else "refresh_token",
            "client_id": grant.site,
            "sub": grant.user_id,
            "sid": grant.session_id,
            "scope": grant.scope,
            "iss": context.base_url,
            "aud": grant.site,
            "exp": int(expires_at),
            "auth_time": int(grant.auth_time),
        }

    return await context.storage.transact(work)


async def give_back(context: Context, site: RegisteredSite, token: str) -> None:
    """Ends the token: an access token alone, with a refresh token all of its grant (RFC 7009, 2.1).

    An unknown one is over already. Raises OAuthError for another site's.
    """
    grant_id, rest = grants.split(token)
    _, family, secret = grants.split_refresh(token)

    def change(grant: Grant) -> Grant:
        refreshing = grants.is_refresh_token(grant, family, secret)
        if not refreshing and not grants.access_ends_at(grant, rest):
            return grant
        if grant.site != site.id:
            raise OAuthError("unauthorized_client", "The token was given to another client.")
        return replace(grant, revoked=True) if refreshing else grants.without_access(grant, rest)

    await context.storage.transact(
        lambda transaction: transaction.grants.update(grant_id, change, now=context.now())
    )


def _pair(context: Context, family: str) -> Pair:
    ends_at = context.now() + context.settings.oidc.access_token_lifetime
    return Pair(context.token(SECRET_BYTES), family, context.token(SECRET_BYTES), ends_at)


async def _changed(context: Context, grant_id: str, change: Callable[[Grant], Grant]) -> _Live:
    """The grant after `change`, standing on a login that is good. Raises InvalidGrant."""

    async def work(transaction: Transaction) -> _Live | None:
        live = await _live(transaction, context, grant_id)
        if live is None:
            return None
        try:
            changed = await transaction.grants.update(grant_id, change, now=context.now())
        except GrantRefused:
            return None
        return replace(live, grant=changed) if changed is not None else None

    live = await context.storage.transact(work)
    if live is None or live.grant.revoked:
        raise InvalidGrant
    return live


async def _live(transaction: Transaction, context: Context, grant_id: str) -> _Live | None:
    """The grant while the login that it stands on is good, and still is that of the same person's id.

    Who was merged into somebody else has to log in again: a site must not see `sub` change under one login.
    """
    if not grant_id:
        return None
    grant = await transaction.grants.get(grant_id, now=context.now())
    if grant is None or grant.revoked:
        return None
    current = await sessions.alive(transaction, context, await transaction.sessions.by_id(grant.session_id))
    return _Live(grant, current) if current is not None and current.user.id == grant.user_id else None


async def _issued(
    context: Context, signer: Signer, site: RegisteredSite, live: _Live, pair: Pair, scope: str = ""
) -> Issued:
    grant, session, now = live.grant, live.current.session, context.now()
    scope = scope or grant.scope
    id_token = ""
    if "openid" in scope.split():
        claims = tokens.id_claims(
            _person(context, live.current.user),
            scope,
            issuer=context.base_url,
            site=site.id,
            session_id=session.id,
            provider=session.provider,
            auth_time=grant.auth_time,
            nonce=grant.nonce,
            now=now,
            expires_at=pair.access_expires_at,
        )
        id_token = await signer.id_token(site, claims)
    return Issued(
        access_token=grants.join(grant.id, pair.access),
        refresh_token=grants.join(grant.id, grants.join(pair.family, pair.refresh)),
        id_token=id_token,
        scope=scope,
        expires_in=max(0, int(pair.access_expires_at - now)),
    )


def _person(context: Context, user: User) -> Person:
    """Never nameless: since 2021 WeChat tells no names, and a site has to show something."""
    identities = [
        {"provider": known.provider, "subject": known.subject, "following": known.following}
        for known in user.identities
    ]
    return Person(
        id=user.id,
        previous_ids=user.previous_ids,
        name=user.name or context.catalogues.of("")("WeChat user"),
        picture=pictures.address(context, user),
        identities=identities,
        unionid=user.unionid,
    )
