"""Kinds of values, and what each should be. Pure."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, SecretStr

from app.token import import_key
from wechat.crypto import decode_key


def _origin(value: str) -> str:
    """scheme://host[:port], nothing more."""
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("should be an address such as https://login.example.com")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("should end after the host and port: no path, no query")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("should be an http:// or https:// address")
    return value


def _split(value: str) -> SplitResult:
    if "\\" in value or not value.isprintable() or " " in value:
        raise ValueError("should have no blank, no backslash and no control character")
    parts = urlsplit(value)
    _ = parts.port  # raises ValueError where it is no number
    if parts.netloc.endswith(":"):
        raise ValueError("should have a number after the colon")
    return parts


def _or_empty(check: Any) -> Any:
    return lambda value: check(value) if value else value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("should be an IP address or a network such as 10.0.0.0/8") from None
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("should be a time zone such as Asia/Shanghai") from None
    return value


def _storage_url(value: str) -> str:
    if value.startswith("sqlite:") and value != "sqlite:":
        return value
    if value.startswith(("mongodb://", "mongodb+srv://")):
        return value
    raise ValueError("should be sqlite:PATH or mongodb://HOST/NAME")


def _aes_key(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        decode_key(value.get_secret_value())
    return value


def _callback_token(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not re.fullmatch(r"[A-Za-z0-9]{3,32}", value.get_secret_value()):
        raise ValueError("should be 3 to 32 letters and digits, the same as in WeChat's console")
    return value


def _long_secret(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < 32:
        raise ValueError("should be 32 characters or more")
    return value


def _redirect_uri(value: str) -> str:
    """Compared letter by letter, so it is kept as it is written (RFC 6749, 3.1.2; RFC 8252, 7)."""
    parts = _split(value)
    if "#" in value or "@" in parts.netloc or len(value) > MAX_REDIRECT_URI:
        raise ValueError(f"should have no # and no user part, and at most {MAX_REDIRECT_URI} characters")
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise ValueError("should be an address such as https://shop.example.com/callback")
    elif "." not in parts.scheme:
        raise ValueError("should begin with https://, or with an app's own scheme such as com.example.app:/")
    return value


def origin_of(url: str) -> str:
    """scheme://host[:port] of an http or https address in lower case, "" of any other."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme in ("http", "https") else ""


def _webhook_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text:
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError("should be whsec_ and 24 to 64 random bytes in base64")
    return value


def _cookie_domain(value: str) -> str:
    if (
        not re.fullmatch(r"(?=.{1,253}\Z)[a-z0-9-]+(\.[a-z0-9-]+)+", value)
        or value.rpartition(".")[2].isdigit()
    ):
        raise ValueError("should be a domain such as example.com, without a dot before it")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should be redis://HOST, rediss://HOST (TLS) or unix:///PATH")
    return value


def _app_key(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        import_key(value.get_secret_value())
    return value


def _app_link(value: str) -> str:
    scheme, _, rest = value.partition("://")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest:
        raise ValueError("should be the app's link, such as myteam://login?code={url}")
    if scheme in ("javascript", "data", "vbscript", "file"):
        raise ValueError("should be a link that opens the app")
    if "{url}" not in rest and "{id}" not in rest:
        raise ValueError("should have {url} or {id} where the code goes")
    return value


MAX_REDIRECT_URI = 1024

WebhookEvent = Literal[
    "user.created",
    "user.updated",
    "user.deleted",
    "user.followed",
    "user.unfollowed",
    "login.succeeded",
    "login.refused",
    "session.ended",
]
Scope = Literal["openid", "profile", "offline_access", "urn:saoma:identities"]
Algorithm = Literal["HS256", "RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
AppKey = Annotated[SecretStr, AfterValidator(_app_key)]
Origin = Annotated[str, AfterValidator(_origin)]
Url = Annotated[str, AfterValidator(_url)]
OptionalUrl = Annotated[str, AfterValidator(_or_empty(_url))]
Network = Annotated[str, AfterValidator(_network)]
AesKey = Annotated[SecretStr, AfterValidator(_aes_key)]
CallbackToken = Annotated[SecretStr, AfterValidator(_callback_token)]
OptionalOrigin = Annotated[str, AfterValidator(_or_empty(_origin))]
Timezone = Annotated[str, AfterValidator(_timezone)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
AppLink = Annotated[str, AfterValidator(_or_empty(_app_link))]
OptionalSecret = Annotated[SecretStr, AfterValidator(_long_secret)]
RedirectUri = Annotated[str, AfterValidator(_redirect_uri)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
CookieDomain = Annotated[str, AfterValidator(_or_empty(_cookie_domain))]


def is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_loopback_url(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")
