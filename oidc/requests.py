"""Authorization requests: what a site asks of us through a browser (OpenID Connect Core, 3.1.2.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from oidc.errors import OAuthError, Unredirectable

MAX_QUERY = 3000  # characters; it goes through the login page's address, percent-encoded
MAX_STATE = 1024
MAX_NONCE = 512

IDENTITIES = "urn:saoma:identities"  # scope and claim
UNIONID = "urn:saoma:unionid"  # claim of the same scope
SCOPES = ("openid", "profile", "offline_access", IDENTITIES)
PROMPTS = frozenset({"none", "login", "consent", "select_account"})

# What a browser sends, or keeps where it stands in a link: it survives the way over the login page.
_QUERY = re.compile(r"[!-\[\]-~]*\Z")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # of S256 (RFC 7636, 4.2)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Client(Protocol):
    """What of a registered site is needed here."""

    @property
    def id(self) -> str: ...
    @property
    def redirect_uris(self) -> Sequence[str]: ...
    @property
    def scopes(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    site: str
    redirect_uri: str
    state: str
    scope: str  # what of the asked we know, in our order
    nonce: str
    code_challenge: str
    prompt: frozenset[str]
    max_age: int | None  # seconds
    id_token_hint: str
    ui_locales: str

    @property
    def relogin(self) -> bool:
        """Whether a login of before the request will not do."""
        return bool(self.prompt & {"login", "select_account"})


class Refused(Exception):
    """To be told to the site, by way of the browser."""

    def __init__(self, redirect_uri: str, state: str, error: OAuthError) -> None:
        super().__init__(error.code)
        self.redirect_uri = redirect_uri
        self.state = state
        self.error = error


def parse_query(query: str) -> dict[str, list[str]]:
    """Each parameter's values. Raises Unredirectable for what is no text, or too long."""
    if len(query) > MAX_QUERY:
        raise Unredirectable(f"The request is longer than {MAX_QUERY} characters.")
    if not _QUERY.match(query):
        raise Unredirectable("The request is not understood.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise Unredirectable("The request is not understood.") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def parse(values: Mapping[str, Sequence[str]], clients: Iterable[Client]) -> AuthorizationRequest:
    """The request in `values`.

    Raises Unredirectable where site or address are in doubt, Refused for everything else that is wrong.
    """
    client = _client(values, clients)
    redirect_uri = values["redirect_uri"][0]
    states = values.get("state", ())
    state = states[0] if len(states) == 1 else ""

    def refuse(code: str, message: str) -> Refused:
        return Refused(redirect_uri, state, OAuthError(code, message))

    twice = sorted(name for name, given in values.items() if len(given) > 1)
    if twice:
        raise refuse("invalid_request", f"{_printable(twice[0])} is given more than once.")
    # One without a value counts as left out (RFC 6749, 3.1).
    given = {name: value[0] for name, value in values.items() if value[0]}
    if not state or len(state) > MAX_STATE or _CONTROL.search(state):
        raise refuse("invalid_request", f"state is required, at most {MAX_STATE} characters.")
    if given.get("response_type", "") != "code":
        known = "response_type" in given
        raise refuse(
            "unsupported_response_type" if known else "invalid_request", "response_type should be code."
        )
    if given.get("response_mode", "query") != "query":
        raise refuse("invalid_request", "response_mode should be query.")
    for name in ("request", "request_uri"):
        if name in given:
            raise refuse(f"{name}_not_supported", f"{name} is not supported.")
    if given.get("code_challenge_method", "plain") != "S256" or not _CHALLENGE.match(
        given.get("code_challenge", "")
    ):
        raise refuse("invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256.")
    nonce = given.get("nonce", "")
    if len(nonce) > MAX_NONCE or _CONTROL.search(nonce):
        raise refuse("invalid_request", f"nonce has at most {MAX_NONCE} characters.")
    prompt = frozenset(given.get("prompt", "").split())
    if not prompt <= PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise refuse("invalid_request", "prompt should be none, or some of login, consent, select_account.")
    max_age = given.get("max_age", "")
    if max_age and not re.fullmatch(r"[0-9]{1,9}", max_age):
        raise refuse("invalid_request", "max_age should be a number of seconds.")
    asked = given.get("scope", "").split()
    scopes = [scope for scope in SCOPES if scope in asked]
    for scope in scopes:
        if scope not in client.scopes:
            raise refuse("invalid_scope", f"{scope} is not among the scopes of this client in the settings.")
    return AuthorizationRequest(
        site=client.id,
        redirect_uri=redirect_uri,
        state=state,
        scope=" ".join(scopes),
        nonce=nonce,
        code_challenge=given["code_challenge"],
        prompt=prompt,
        max_age=int(max_age) if max_age else None,
        id_token_hint=given.get("id_token_hint", ""),
        ui_locales=given.get("ui_locales", ""),
    )


def _client(values: Mapping[str, Sequence[str]], clients: Iterable[Client]) -> Client:
    ids, addresses = values.get("client_id", ()), values.get("redirect_uri", ())
    if len(ids) != 1 or len(addresses) != 1:
        raise Unredirectable("client_id and redirect_uri are required, once each.")
    client = next((known for known in clients if known.id == ids[0]), None)
    if client is None:
        raise Unredirectable("There is no such client_id.")
    if addresses[0] not in client.redirect_uris:
        raise Unredirectable("This redirect_uri is not registered for the client.")
    return client


def answer(redirect_uri: str, **parameters: str) -> str:
    """`redirect_uri` with the answer in its query; blank parameters are left out (RFC 6749, 4.1.2)."""
    separator = "&" if "?" in redirect_uri else "?"
    return redirect_uri + separator + urlencode({name: value for name, value in parameters.items() if value})


def _printable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:-]", "", name)[:40]  # a description has no quotes and is ASCII
