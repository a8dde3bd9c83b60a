"""What a site does with what it was given: redeem, refresh, look, give back (RFC 6749, 7009, 7662)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from config.sections import RegisteredSite
from flows import pictures, sessions
from flows.announce import identities
from flows.context import Context
from flows.sessions import Current
from flows.signing import Signer
from oidc import grant as grants
from oidc import tokens
from oidc.errors import InsufficientScope, InvalidGrant, InvalidToken, OAuthError
from oidc.grant import Access, Grant, GrantRefused, Pair
from oidc.tokens import Person
from storage.base import Transaction
from storage.records import Session, User

SECRET_BYTES = 24


@dataclass(frozen=True, slots=True)
class Issued:
    """A token endpoint's answer; `id_token` is "" where the scope has no `openid`.

    `refresh_token` is "" where the site's scopes have no `offline_access`.
    """

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

    def change(grant: Grant, session: Session) -> Grant:
        redeemed = grants.redeem(
            grant,
            secret=secret,
            site=site.id,
            redirect_uri=redirect_uri,
            verifier=verifier,
            pair=pair,
            now=context.now(),
        )
        return replace(redeemed, expires_at=session.expires_at)

    await signer.ready()
    live = await _changed(context, grant_id, change)
    return await _issued(context, signer, site, live, pair, live.grant.nonce)


async def refresh(
    context: Context, signer: Signer, site: RegisteredSite, *, refresh_token: str, scope: str
) -> Issued:
    """A new pair for the refresh token, which is over then. Raises InvalidGrant; an old one ends the grant.

    `scope` may ask for less than the grant has; what the site may not have any more is gone from it.
    Raises OAuthError where it asks for more, or the site gets no refresh tokens.
    """
    if not site.refreshes:
        raise OAuthError("unauthorized_client", "offline_access is not among the scopes of this client.")
    grant_id, family, secret = grants.split_refresh(refresh_token)
    pair = _pair(context, family)

    def change(grant: Grant, _: Session) -> Grant:
        left = " ".join(known for known in grant.scope.split() if known in site.scopes)
        given = replace(grant, scope=left)
        return grants.refresh(given, secret=secret, site=site.id, pair=pair, scope=scope)

    await signer.ready()
    # No nonce: that one was for the first ID token (OpenID Connect Core, 12.2).
    return await _issued(context, signer, site, await _changed(context, grant_id, change), pair, "")


async def userinfo(context: Context, access_token: str) -> dict[str, Any]:
    """The person's claims. Raises InvalidToken, InsufficientScope."""
    grant_id, secret = grants.split(access_token)

    async def work(transaction: Transaction) -> tuple[User, Access]:
        live = await _live(transaction, context, grant_id)
        access = grants.access_by(live.grant, secret) if live is not None else None
        if live is None or access is None or context.now() >= access.expires_at:
            raise InvalidToken
        return live.current.user, access

    user, access = await context.storage.transact(work)
    if "openid" not in access.scope.split():
        raise InsufficientScope
    return tokens.person_claims(_person(context, user), access.scope)


async def introspect(context: Context, site: RegisteredSite, token: str) -> dict[str, Any]:
    """What the token is good for now (RFC 7662, 2.2); of another site's nothing is told."""
    grant_id, rest = grants.split(token)
    _, family, secret = grants.split_refresh(token)

    async def work(transaction: Transaction) -> dict[str, Any]:
        live = await _live(transaction, context, grant_id)
        if live is None or live.grant.site != site.id:
            return {"active": False}
        grant, kind = live.grant, "Bearer"
        access = grants.access_by(grant, rest)
        if site.refreshes and grants.is_refresh_token(grant, family, secret):
            kind, access = "refresh_token", Access(grant.scope, live.current.session.expires_at)
        if access is None or context.now() >= access.expires_at:
            return {"active": False}
        return {
            "active": True,
            "token_type": kind,
            "client_id": grant.site,
            "sub": grant.user_id,
            "sid": grant.session_id,
            "scope": access.scope,
            "iss": context.base_url,
            "aud": grant.site,
            "exp": int(access.expires_at),
            "auth_time": int(grant.auth_time),
        }

    return await context.storage.transact(work)


async def give_back(context: Context, site: RegisteredSite, token: str) -> None:
    """Ends the token: an access token alone, with a refresh token all of its grant (RFC 7009, 2.1).

    An old refresh token does it too: whoever gives one back has lost the answer with its successor.
    An unknown one is over already. Raises OAuthError for another site's.
    """
    grant_id, rest = grants.split(token)
    _, family, _ = grants.split_refresh(token)

    def change(grant: Grant) -> Grant:
        refreshing = grants.is_of_family(grant, family)
        if not refreshing and grants.access_by(grant, rest) is None:
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


async def _changed(context: Context, grant_id: str, change: Callable[[Grant, Session], Grant]) -> _Live:
    """The grant after `change`, standing on a login that is good. Raises InvalidGrant."""

    async def work(transaction: Transaction) -> _Live | None:
        live = await _live(transaction, context, grant_id)
        if live is None:
            return None
        try:
            changed = await transaction.grants.update(
                grant_id, lambda grant: change(grant, live.current.session), now=context.now()
            )
        except GrantRefused:
            return None
        return replace(live, grant=changed) if changed is not None else None

    live = await context.storage.transact(work)
    if live is None or live.grant.revoked:
        raise InvalidGrant
    return live


async def _live(transaction: Transaction, context: Context, grant_id: str) -> _Live | None:
    """The grant while its site is registered and its login is good, and still that of the same person's id.

    Who was merged into somebody else has to log in again: a site must not see `sub` change under one login.
    """
    if not grant_id:
        return None
    grant = await transaction.grants.get(grant_id, now=context.now())
    if grant is None or grant.revoked or context.settings.site_of(grant.site) is None:
        return None
    current = await sessions.alive(transaction, context, await transaction.sessions.by_id(grant.session_id))
    return _Live(grant, current) if current is not None and current.user.id == grant.user_id else None


async def _issued(
    context: Context, signer: Signer, site: RegisteredSite, live: _Live, pair: Pair, nonce: str
) -> Issued:
    grant, session, now = live.grant, live.current.session, context.now()
    id_token = ""
    if "openid" in grant.access_scope.split():
        claims = tokens.id_claims(
            _person(context, live.current.user),
            grant.access_scope,
            issuer=context.base_url,
            site=site.id,
            session_id=session.id,
            provider=session.provider,
            agreed=session.agreed,
            auth_time=grant.auth_time,
            nonce=nonce,
            now=now,
            expires_at=pair.access_expires_at,
        )
        id_token = await signer.id_token(site, claims)
    return Issued(
        access_token=grants.join(grant.id, pair.access),
        refresh_token=grants.join(grant.id, grants.join(pair.family, pair.refresh)) if site.refreshes else "",
        id_token=id_token,
        scope=grant.access_scope,
        expires_in=max(0, int(pair.access_expires_at - now)),
    )


def _person(context: Context, user: User) -> Person:
    """Never nameless: since 2021 WeChat tells no names, and a site has to show something."""
    return Person(
        id=user.id,
        previous_ids=user.previous_ids,
        name=user.name or context.catalogues.of("")("WeChat user"),
        picture=pictures.address(context, user),
        identities=identities(user),
        unionid=user.unionid,
    )
