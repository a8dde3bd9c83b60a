"""OAuth 2.0 and OpenID Connect for the registered sites."""

from __future__ import annotations

import base64
import binascii
import http
import json
from typing import Any
from urllib.parse import unquote_plus, urlencode

from config.sections import RegisteredSite
from errors import BadRequest, SaomaError, StoreUnavailable, Unauthenticated
from flows import authorize, grants, sessions
from flows.authorize import Asked
from flows.grants import Issued
from flows.sites import authenticated
from handlers.base import BaseHandler, PageHandler
from oidc import tokens
from oidc.errors import InvalidClient, InvalidToken, OAuthError
from oidc.requests import Refused, answer

PUBLIC_SECONDS = 300  # that discovery and keys may be kept


class Authorize(PageHandler):
    """A site's visitor comes to be logged in. By GET or by POST (OpenID Connect Core, 3.1.2.1)."""

    acts_on_cookie = False  # the answer goes to the site's registered address alone

    async def get(self) -> None:
        await self._answer(self.request.query)

    async def post(self) -> None:
        # On to GET: a form that another site's page has sent comes without our cookie (SameSite).
        given = [
            (name, value) for name in self.request.body_arguments for value in self.get_body_arguments(name)
        ]
        self.redirect(f"{tokens.AUTHORIZE}?{urlencode(given)}", status=303)

    async def _answer(self, query: str) -> None:
        context = self.context
        try:
            asked = authorize.read(context, query)
            address = await self._granted(asked) or authorize.login_address(context, asked)
        except Refused as refused:
            address = authorize.refusal_address(context, refused)
        self.redirect(address)

    async def _granted(self, asked: Asked) -> str | None:
        try:
            return await authorize.authorize(self.context, self.services.signer, asked, await self.current())
        except Unauthenticated:  # the session ended at this moment
            return None


class OAuthHandler(BaseHandler):
    """Answers with JSON; failures in OAuth's own words (RFC 6749, 5.2)."""

    acts_on_cookie = False  # cookies count for nothing here
    any_origin = False

    def set_own_headers(self) -> None:
        super().set_own_headers()
        self.set_header("Pragma", "no-cache")
        self._allow_origin()

    def _allow_origin(self) -> None:
        """Scripts of public sites ask from the browser."""
        origin = self.request.headers.get("Origin", "")
        public = {known for site in self.context.settings.sites if site.public for known in site.all_origins}
        if self.any_origin:
            self.set_header("Access-Control-Allow-Origin", "*")
        else:
            self.set_header("Vary", "Origin")
            if origin in public:
                self.set_header("Access-Control-Allow-Origin", origin)

    def options(self) -> None:
        self.set_header("Access-Control-Allow-Methods", "GET, POST")
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type")
        self.set_header("Access-Control-Max-Age", "600")
        self.set_status(204)
        self.finish()

    def write_json(self, document: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document, ensure_ascii=False).encode("utf-8"))

    def tell_failure(self, status: int, error: SaomaError | None) -> None:
        code = "server_error" if status >= 500 else "invalid_request"
        message = error.message if error else http.HTTPStatus(status).phrase
        if isinstance(error, OAuthError):
            code = error.code
        elif isinstance(error, StoreUnavailable):
            code = "temporarily_unavailable"
        self.write_json({"error": code, "error_description": message})

    def form(self) -> dict[str, str]:
        """The form's fields. Raises OAuthError where one is given twice, or there is no form."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise OAuthError("invalid_request", "The body should be application/x-www-form-urlencoded.")
        fields = {}
        for name, values in self.request.body_arguments.items():
            if len(values) > 1:
                raise OAuthError("invalid_request", "A parameter is given more than once.")
            try:
                fields[name] = values[0].decode("utf-8")
            except UnicodeDecodeError:
                raise OAuthError("invalid_request", "The body is no UTF-8.") from None
        return fields

    def site(self, form: dict[str, str], *, public_too: bool = True) -> RegisteredSite:
        """The site that asks: by Basic, by the form, or a public one by its name. Raises InvalidClient."""
        site_id, secret = self._credentials(form)
        if not secret:
            site = self.context.settings.site_of(site_id)
            if site is not None and site.public and public_too:
                return site
        else:
            found = authenticated(self.context.settings, site_id, secret)
            if found is not None:
                return found
        self.set_header("WWW-Authenticate", 'Basic realm="saoma"')
        raise InvalidClient

    def _credentials(self, form: dict[str, str]) -> tuple[str, str]:
        """Id and secret, "" where there are none. By Basic they are form-encoded first (RFC 6749, 2.3.1)."""
        basic = self.authorization("Basic")
        if not basic:
            return form.get("client_id", ""), form.get("client_secret", "")
        if "client_secret" in form:
            raise OAuthError("invalid_request", "Authenticate in one way only.")
        try:
            decoded = base64.b64decode(basic, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        site_id, _, secret = (unquote_plus(part) for part in decoded.partition(":"))
        if form.get("client_id", site_id) != site_id:
            raise OAuthError("invalid_request", "client_id is not the one that has authenticated.")
        return site_id, secret


class Discovery(OAuthHandler):
    any_origin = True

    def get(self) -> None:
        self.set_header("Cache-Control", f"public, max-age={PUBLIC_SECONDS}")
        locales = [tag for tag, _ in self.texts().languages]
        self.write_json(tokens.discovery(self.context.base_url, locales))


class Jwks(OAuthHandler):
    any_origin = True

    async def get(self) -> None:
        document = await self.services.signer.public_set()
        self.set_header("Cache-Control", f"public, max-age={PUBLIC_SECONDS}")
        self.write_json(document)


class Token(OAuthHandler):
    async def post(self) -> None:
        form = self.form()
        site = self.site(form)
        context, signer = self.context, self.services.signer
        match form.get("grant_type", ""):
            case "authorization_code":
                issued = await grants.redeem(
                    context,
                    signer,
                    site,
                    code=_required(form, "code"),
                    redirect_uri=_required(form, "redirect_uri"),
                    verifier=_required(form, "code_verifier"),
                )
            case "refresh_token":
                given, scope = _required(form, "refresh_token"), form.get("scope", "")
                issued = await grants.refresh(context, signer, site, refresh_token=given, scope=scope)
            case "":
                raise OAuthError("invalid_request", "grant_type is required.")
            case _:
                raise OAuthError(
                    "unsupported_grant_type", "grant_type should be authorization_code or refresh_token."
                )
        self.write_json(_token_document(issued))


class Userinfo(OAuthHandler):
    async def get(self) -> None:
        try:
            claims = await grants.userinfo(self.context, self.authorization("Bearer"))
        except InvalidToken:
            self.set_header("WWW-Authenticate", 'Bearer realm="saoma", error="invalid_token"')
            raise
        self.write_json(claims)

    post = get


class Introspect(OAuthHandler):
    async def post(self) -> None:
        form = self.form()
        site = self.site(form, public_too=False)
        self.write_json(await grants.introspect(self.context, site, _required(form, "token")))


class Revoke(OAuthHandler):
    async def post(self) -> None:
        form = self.form()
        site = self.site(form)
        await grants.give_back(self.context, site, _required(form, "token"))
        self.write_json({})


class Logout(PageHandler):
    """A site's visitor comes to be logged out (OpenID Connect RP-Initiated Logout 1.0).

    At once where the site shows whom it means with the ID token of this very login; else the person is asked.
    """

    @property
    def acts_on_cookie(self) -> bool:
        return "_xsrf" in self.request.body_arguments  # what comes from a site's page is sent on to GET

    async def get(self) -> None:
        given = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        back = await self._back(given)
        current = await self.current()
        hinted = await self._hinted(given)
        if current is not None and hinted.get("sid") == current.session.id:
            await sessions.end(self.context, current.session)
            self.drop_cookie(self.cookie_names.session)
        elif current is not None:
            self.render("sign_out.html", action=f"{tokens.LOGOUT}?{self.request.query}")
            return
        self.redirect(back)

    async def post(self) -> None:
        if not self.acts_on_cookie:
            given = {name: self.get_body_argument(name) for name in self.request.body_arguments}
            self.redirect(f"{tokens.LOGOUT}?{urlencode(given)}", status=303)
            return
        back = await self._back(
            {name: self.get_query_argument(name) for name in self.request.query_arguments}
        )
        current = await self.current()
        if current is not None:
            await sessions.end(self.context, current.session)
        self.drop_cookie(self.cookie_names.session)
        self.redirect(back, status=303)

    async def _hinted(self, given: dict[str, str]) -> dict[str, Any]:
        """The claims of the ID token; none of one that is not ours."""
        hint = given.get("id_token_hint", "")
        return (await self.services.signer.verified(hint) if hint else None) or {}

    async def _back(self, given: dict[str, str]) -> str:
        """Where to go afterwards: the site's registered address, else home. Raises BadRequest."""
        target = given.get("post_logout_redirect_uri", "")
        if not target:
            return "/"
        audience = (await self._hinted(given)).get("aud", "")
        site_id = given.get("client_id", "") or audience
        site = self.context.settings.site_of(site_id)
        if site is None or (audience and audience != site_id) or target not in site.post_logout_redirect_uris:
            raise BadRequest("This post_logout_redirect_uri is not registered for the client.")
        return answer(target, state=given["state"]) if given.get("state") else target


def _required(form: dict[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise OAuthError("invalid_request", f"{name} is required.")
    return value


def _token_document(issued: Issued) -> dict[str, Any]:
    document = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "refresh_token": issued.refresh_token,
        "scope": issued.scope,
    }
    return {**document, "id_token": issued.id_token} if issued.id_token else document
