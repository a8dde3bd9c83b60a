"""OAuth 2.0 and OpenID Connect for the registered sites."""

from __future__ import annotations

import http
import json
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from config.sections import RegisteredSite
from config.values import origin_of
from errors import SaomaError, StoreUnavailable
from flows import authorize, grants, sessions
from flows.grants import Issued
from flows.sites import authenticated
from handlers.base import BaseHandler, PageHandler
from oidc import requests, tokens
from oidc.errors import InsufficientScope, InvalidClient, InvalidToken, OAuthError, Unredirectable
from oidc.requests import Refused, answer

PUBLIC_SECONDS = 300  # that discovery and keys may be kept


class Authorize(PageHandler):
    """A site's visitor comes to be logged in. By GET or by POST (OpenID Connect Core, 3.1.2.1)."""

    acts_on_cookie = False  # the answer goes to the site's registered address alone

    async def get(self) -> None:
        await self._answer(self.request.query)

    async def post(self) -> None:
        # On to GET: a form that another site's page has sent comes without our cookie (SameSite).
        self.redirect(f"{tokens.AUTHORIZE}?{_form_query(self.request.body)}", status=303)

    async def _answer(self, query: str) -> None:
        context = self.context
        try:
            asked = authorize.read(context, query)
            granted = await authorize.authorize(context, self.services.signer, asked, await self.current())
            address = granted or authorize.login_address(context, asked)
        except Refused as refused:
            address = authorize.refusal_address(context, refused)
        self.redirect(address)


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

    def may_be_kept(self) -> None:
        self.set_header("Cache-Control", f"public, max-age={PUBLIC_SECONDS}")
        self.clear_header("Pragma")

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
        """The form's fields, without the blank ones (RFC 6749, 3.2).

        Raises OAuthError where one is given twice, or there is no form.
        """
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
        return {name: value for name, value in fields.items() if value}

    def site(self, form: dict[str, str], *, public_too: bool = True) -> RegisteredSite:
        """The site that asks: by Basic, by the form, or a public one by its name. Raises InvalidClient."""
        settings = self.context.settings
        if self.authorization("Basic"):
            name, secret = self.basic()
            site_id = unquote_plus(name)
            if "client_secret" in form:
                raise OAuthError("invalid_request", "Authenticate in one way only.")
            if site_id and form.get("client_id", site_id) != site_id:
                raise OAuthError("invalid_request", "client_id is not the one that has authenticated.")
        else:
            site_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if secret:
            found = authenticated(settings, site_id, secret)
            if found is None and self.authorization("Basic"):
                # There it is form-encoded first (RFC 6749, 2.3.1), though many programs send it as it is.
                found = authenticated(settings, site_id, unquote_plus(secret))
        else:
            known = settings.site_of(site_id)
            found = known if known is not None and known.public and public_too else None
        if found is None:
            self.set_header("WWW-Authenticate", 'Basic realm="saoma"')
            raise InvalidClient
        return found


class Discovery(OAuthHandler):
    any_origin = True

    def get(self) -> None:
        self.may_be_kept()
        locales = [tag for tag, _ in self.texts().languages]
        self.write_json(tokens.discovery(self.context.base_url, locales))


class Jwks(OAuthHandler):
    any_origin = True

    async def get(self) -> None:
        document = await self.services.signer.public_set()
        self.may_be_kept()
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
        token = self.authorization("Bearer")
        try:
            claims = await grants.userinfo(self.context, token)
        except (InvalidToken, InsufficientScope) as error:
            # Who brings no token is told no error (RFC 6750, 3.1).
            told = f', error="{error.code}"' if token else ""
            self.set_header("WWW-Authenticate", f'Bearer realm="saoma"{told}')
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
        given = _single(self.request.query)
        hinted = await self._hinted(given)
        back = self._back(given, hinted)
        current = await self.current()
        if "sid" in hinted and await sessions.end_of_widget(self.context, hinted["sid"]):
            pass  # it had no cookie; another login in this browser is not meant
        elif current is not None and hinted.get("sid") == current.session.id:
            await self.sign_out()
        elif current is not None:
            self.set_policy(form_target=_source_of(back))  # browsers check where a form leads in the end
            kept = urlencode({name: value for name, value in given.items() if name != "lang"})
            self.render("sign_out.html", action=tokens.LOGOUT, kept=kept)
            return
        self.redirect(back)

    async def post(self) -> None:
        if not self.acts_on_cookie:
            self.redirect(f"{tokens.LOGOUT}?{_form_query(self.request.body)}", status=303)
            return
        given = _single(self.request.query)
        back = self._back(given, await self._hinted(given))
        await self.sign_out()
        self.redirect(back, status=303)

    async def _hinted(self, given: dict[str, str]) -> dict[str, Any]:
        """The claims of the ID token; none of one that is not ours."""
        hint = given.get("id_token_hint", "")
        return (await self.services.signer.verified(hint) if hint else None) or {}

    def _back(self, given: dict[str, str], hinted: dict[str, Any]) -> str:
        """Where to go afterwards: the site's registered address, else home. Raises Unredirectable."""
        target = given.get("post_logout_redirect_uri", "")
        audience = hinted.get("aud", "")
        site_id = given.get("client_id", "") or audience
        if audience and audience != site_id:
            raise Unredirectable("This id_token_hint was given to another client.")
        if not target:
            return "/"
        site = self.context.settings.site_of(site_id)
        if site is None or target not in site.post_logout_redirect_uris:
            raise Unredirectable("This post_logout_redirect_uri is not registered for the client.")
        return answer(target, state=given["state"]) if given.get("state") else target


def _source_of(address: str) -> str:
    """How a policy names where `address` is: an origin, or an app's own scheme; "" of a path of ours."""
    scheme = urlsplit(address).scheme
    return origin_of(address) or (f"{scheme}:" if scheme else "")


def _form_query(body: bytes) -> str:
    """A form's body as a query. Raises Unredirectable where it is none."""
    query = body.decode("latin-1")
    requests.parse_query(query)
    return query


def _single(query: str) -> dict[str, str]:
    """Each parameter's value. Raises Unredirectable where there is more than one."""
    values = requests.parse_query(query)
    if any(len(given) > 1 for given in values.values()):
        raise Unredirectable("A parameter is given more than once.")
    return {name: given[0] for name, given in values.items()}


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
        "scope": issued.scope,
    }
    optional = {"refresh_token": issued.refresh_token, "id_token": issued.id_token}
    return document | {name: token for name, token in optional.items() if token}
