"""A site that uses us, in the fewest steps: what a library would do, with every step in the test's hands."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet
from tornado.httpclient import HTTPResponse

from oidc.grant import challenge_of
from oidc.requests import SCOPES
from storage.records import Session
from tests.harness import Browser, Whole
from tickets import hash_secret

SITE: dict[str, Any] = {
    "id": "shop",
    "name": "Shop",
    "secret": "s" * 32,
    "redirect_uris": ["https://shop.example.com/callback", "https://shop.example.com/other?a=b"],
    "post_logout_redirect_uris": ["https://shop.example.com/bye"],
    "scopes": list(SCOPES),
}
OTHER: dict[str, Any] = {
    "id": "forum",
    "name": "Forum",
    "secret": "f" * 32,
    "redirect_uris": ["https://forum.example.com/callback"],
    "post_logout_redirect_uris": ["https://forum.example.com/bye"],
}
PUBLIC: dict[str, Any] = {
    "id": "page",
    "name": "Page",
    "public": True,
    "redirect_uris": ["https://page.example.com/"],
}
SITES = [SITE, OTHER, PUBLIC]
INVALID_GRANT = (400, "invalid_grant")
INVALID_CLIENT = (401, "invalid_client")
INVALID_REQUEST = (400, "invalid_request")


class RelyingParty:
    """One site's side of one login."""

    def __init__(self, whole: Whole, site: dict[str, Any] = SITE) -> None:
        self.whole = whole
        self.site = site
        self.redirect_uri = site["redirect_uris"][0]
        self.verifier = secrets.token_urlsafe(32)
        self.state = secrets.token_urlsafe(8)
        self.nonce = secrets.token_urlsafe(8)

    def authorize_path(self, **changes: str | None) -> str:
        """The address that starts a login; a parameter that is None is left out."""
        parameters = {
            "response_type": "code",
            "client_id": self.site["id"],
            "redirect_uri": self.redirect_uri,
            "scope": "openid profile",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            **changes,
        }
        return "/oauth2/authorize?" + urlencode(
            {name: value for name, value in parameters.items() if value is not None}
        )

    async def authorize(self, browser: Browser, **changes: str | None) -> dict[str, str]:
        """What the browser brings to `redirect_uri`; nobody has to log in."""
        return self.brought(await browser.get(self.authorize_path(**changes)))

    async def given(self, browser: Browser, **changes: str | None) -> dict[str, Any]:
        """The tokens for a browser that is logged in."""
        return await self.tokens((await self.authorize(browser, **changes))["code"])

    def brought(self, response: HTTPResponse) -> dict[str, str]:
        assert response.code == 302, (response.code, response.body)
        address = response.headers["Location"]
        assert address.startswith(self.redirect_uri), address
        return {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}

    async def log_in(self, browser: Browser, person: str, **changes: str | None) -> dict[str, str]:
        """From the first address over the login page and the phone back to the site."""
        started = await browser.get(self.authorize_path(**changes))
        assert started.code == 302, (started.code, started.body)
        page = started.headers["Location"]
        assert page.startswith("/login?next="), page
        collected = await self.whole.log_in(browser, person, page)
        return self.brought(await browser.get(collected["next"]))

    async def token(self, form: dict[str, str], **headers: str) -> HTTPResponse:
        return await self.post("token", form, **headers)

    async def post(self, endpoint: str, form: dict[str, str], **headers: str) -> HTTPResponse:
        """Authenticated by Basic, unless `headers` say otherwise or the site is public."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": self.basic(), **headers}
        if self.site.get("public"):
            form, sent["Authorization"] = (
                {"client_id": self.site["id"], **form},
                headers.get("Authorization", ""),
            )
        browser = self.whole.browser()
        return await browser.request(
            "POST",
            f"/oauth2/{endpoint}",
            body=urlencode(form),
            headers={"Origin": "", "X-XSRFToken": "", **sent},
        )

    def basic(self) -> str:
        pair = f"{self.site['id']}:{self.site.get('secret', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def code_form(self, code: str, /, **changes: str) -> dict[str, str]:
        return {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            **changes,
        }

    async def tokens(self, code: str) -> dict[str, Any]:
        return self.tokens_of(await self.token(self.code_form(code)))

    def tokens_of(self, answer: HTTPResponse) -> dict[str, Any]:
        assert answer.code == 200, answer.body
        return json.loads(answer.body)

    async def redeemed(self, code: str, /, **changes: str) -> tuple[int, str]:
        """Status and error of a try with the code."""
        return told(await self.token(self.code_form(code, **changes)))

    async def refreshed(self, refresh_token: str, **changes: str) -> HTTPResponse:
        return await self.token({"grant_type": "refresh_token", "refresh_token": refresh_token, **changes})

    async def userinfo(self, access_token: str) -> HTTPResponse:
        return await self.whole.browser().get("/oauth2/userinfo", Authorization=f"Bearer {access_token}")

    async def seen(self, token: str) -> dict[str, Any]:
        """What introspection says of it."""
        answer = await self.post("introspect", {"token": token})
        assert answer.code == 200, answer.body
        return json.loads(answer.body)

    async def active(self, token: str) -> bool:
        return (await self.seen(token))["active"]

    async def all_over(self, tokens: dict[str, Any]) -> bool:
        """Whether nothing that was given is good for anything any more. A refresh that succeeds is a no."""
        access, refresh = tokens["access_token"], tokens["refresh_token"]
        if (await self.userinfo(access)).code == 200:
            return False
        if not self.site.get("public") and (await self.active(access) or await self.active(refresh)):
            return False
        return told(await self.refreshed(refresh)) == (400, "invalid_grant")

    async def verified(self, id_token: str, algorithm: str = "RS256") -> dict[str, Any]:
        """The ID token's claims, once its signature, issuer, audience and nonce are right."""
        keys = KeySet.import_key_set(json.loads((await self.whole.browser().get("/oauth2/jwks")).body))
        claims = jwt.decode(id_token, keys, algorithms=[algorithm]).claims
        assert claims["iss"] == self.whole.base_url
        assert claims["aud"] == self.site["id"]
        assert claims.get("nonce", self.nonce) == self.nonce
        return claims


def told(answer: HTTPResponse) -> tuple[int, str]:
    """Status and error, "" where there is none; a refusal says no more than its two sentences."""
    document = json.loads(answer.body)
    if answer.code == 200:
        return 200, ""
    assert document.keys() == {"error", "error_description"}, document
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.code, document["error"]


async def session_of(whole: Whole, browser: Browser) -> Session:
    """The browser's, as stored."""

    async def work(transaction):
        return await transaction.sessions.get(hash_secret(browser.cookies["saoma-session"]))

    return await whole.storage.transact(work)
