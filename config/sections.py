"""The sections of the settings with their defaults, frozen and typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from config.values import (
    AesKey,
    Algorithm,
    AppKey,
    AppLink,
    CallbackToken,
    CookieDomain,
    Network,
    OptionalOrigin,
    OptionalSecret,
    OptionalUrl,
    Origin,
    RedirectUri,
    RedisUrl,
    Scope,
    StorageUrl,
    Timezone,
    Url,
    WebhookEvent,
    WebhookSecret,
    is_loopback_url,
    origin_of,
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Server(_Section):
    address: str = "127.0.0.1"
    port: int = Field(8888, ge=0, le=65535)
    base_url: OptionalOrigin = ""
    trusted_proxies: tuple[Network, ...] = Field((), strict=False)
    allowed_redirects: tuple[Origin, ...] = Field((), strict=False)
    allowed_networks: tuple[Network, ...] = Field((), strict=False)
    hsts_subdomains: bool = False
    secret_key: OptionalSecret = SecretStr("")
    previous_secret_key: OptionalSecret = SecretStr("")


class Site(_Section):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "saoma"
    logo: str = ""
    icp: str = ""
    privacy_url: OptionalUrl = ""
    terms_url: OptionalUrl = ""
    timezone: Timezone = "Asia/Shanghai"


class Storage(_Section):
    # May have a password in it.
    url: StorageUrl = Field("sqlite:data/saoma.db", repr=False)


class Ticket(_Section):
    lifetime: float = Field(300, ge=30, le=600)
    interval: float = Field(3, ge=1, le=60)


class Session(_Section):
    lifetime: float = Field(2_592_000, ge=60)
    idle: float = Field(604_800, ge=60)
    cookie_domain: CookieDomain = ""


class Wechat(_Section):
    appid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    secret: SecretStr = SecretStr("")
    token: CallbackToken = SecretStr("")
    previous_token: CallbackToken = SecretStr("")
    encoding_aes_key: AesKey = SecretStr("")
    previous_encoding_aes_key: AesKey = SecretStr("")
    mode: Literal["safe", "compatible", "plain"] = "safe"
    api_base: Url = "https://api.weixin.qq.com"
    access_token: Literal["stable", "ordinary"] = "stable"  # noqa: S105  # a kind, no token
    confirm: Literal["never", "new_browser", "always"] = "never"
    unfollow: Literal["end_sessions", "keep_sessions"] = "end_sessions"
    timestamp_window: float = Field(300, gt=0)
    forward_url: OptionalUrl = ""
    welcome: Annotated[str, StringConstraints(max_length=600)] = ""
    picture_hosts: tuple[str, ...] = Field(("thirdwx.qlogo.cn", "wx.qlogo.cn"), strict=False)
    pool_size: int = Field(10, ge=0, le=1000)
    pool_age: float = Field(1800, ge=60, le=86400)
    daily_codes: int = Field(50_000, ge=1)

    @property
    def enabled(self) -> bool:
        return bool(self.appid)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The current callback token, then the previous one while they rotate."""
        return _filled(self.token, self.previous_token)

    @property
    def aes_keys(self) -> tuple[str, ...]:
        return _filled(self.encoding_aes_key, self.previous_encoding_aes_key)


class Redis(_Section):
    url: RedisUrl = SecretStr("")


class App(_Section):
    issuer: str = ""
    audience: Annotated[str, StringConstraints(min_length=1)] = "saoma"
    key: AppKey = SecretStr("")
    previous_key: AppKey = SecretStr("")
    jwks_url: OptionalUrl = ""
    algorithms: tuple[Algorithm, ...] = Field((), strict=False)
    link: AppLink = ""
    number_match: bool = False

    @property
    def enabled(self) -> bool:
        return bool(self.issuer)

    @property
    def keys(self) -> tuple[str, ...]:
        """The current one, if the app's backend publishes none, then the previous one while they rotate."""
        return _filled(self.key, self.previous_key)


class Oidc(_Section):
    access_token_lifetime: float = Field(600, ge=60, le=86400)
    key_lifetime: float = Field(7_776_000, ge=86400)


class RegisteredSite(_Section):
    """What stands in `sites:`. A public site (an app, a page without a backend) has no secret."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    secret: OptionalSecret = SecretStr("")
    previous_secret: OptionalSecret = SecretStr("")
    public: bool = False
    redirect_uris: tuple[RedirectUri, ...] = Field((), strict=False)
    post_logout_redirect_uris: tuple[RedirectUri, ...] = Field((), strict=False)
    backchannel_logout_uri: OptionalUrl = ""
    scopes: tuple[Scope, ...] = Field(("openid", "profile", "offline_access"), strict=False)
    id_token_alg: Literal["RS256", "ES256"] = "RS256"  # noqa: S105  # an algorithm
    origins: tuple[Origin, ...] = Field((), strict=False)
    webhook_url: OptionalUrl = ""
    webhook_secret: WebhookSecret = SecretStr("")
    previous_webhook_secret: WebhookSecret = SecretStr("")
    webhook_events: tuple[WebhookEvent, ...] = Field((), strict=False)
    wechat_access_token: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """The current one, then the previous one while they rotate; none of a public site."""
        return _filled(self.secret, self.previous_secret)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        return _filled(self.webhook_secret, self.previous_webhook_secret)

    @property
    def refreshes(self) -> bool:
        """Whether it gets refresh tokens."""
        return "offline_access" in self.scopes

    @property
    def all_origins(self) -> tuple[str, ...]:
        """Where the site's own pages are: `origins`, else those of its redirect addresses."""
        return self.origins or tuple(dict.fromkeys(filter(None, map(origin_of, self.redirect_uris))))


class Logs(_Section):
    format: Literal["text", "json"] = "text"
    login_days: int = Field(180, ge=1, le=3650)


class Metrics(_Section):
    address: str = "127.0.0.1"
    port: int = Field(8889, ge=0, le=65535)


class Limits(_Section):
    enabled: bool = True
    tickets_per_address: int = Field(60, ge=1)
    tickets_per_node: int = Field(200, ge=1)
    app_calls_per_person: int = Field(600, ge=1)
    site_codes_per_person: int = Field(600, ge=1)
    connections_per_address: int = Field(512, ge=1)
    header_bytes: int = Field(16_384, ge=4096, le=1_048_576)
    header_seconds: float = Field(10, ge=1, le=300)
    body_bytes: int = Field(65_536, ge=16_384, le=1_048_576)
    body_seconds: float = Field(10, ge=1, le=300)
    send_seconds: float = Field(20, ge=1, le=300)
    unsent_bytes: int = Field(65_536, ge=4096, le=16_777_216)
    frame_bytes: int = Field(4096, ge=128, le=1_048_576)
    ping_seconds: float = Field(20, ge=1, le=300)
    pong_seconds: float = Field(20, ge=1, le=300)


class Settings(_Section):
    server: Server = Server()
    site: Site = Site()
    storage: Storage = Storage()
    redis: Redis = Redis()
    ticket: Ticket = Ticket()
    session: Session = Session()
    wechat: Wechat = Wechat()
    app: App = App()
    oidc: Oidc = Oidc()
    sites: tuple[RegisteredSite, ...] = Field((), strict=False)
    limits: Limits = Limits()
    logs: Logs = Logs()
    metrics: Metrics = Metrics()
    folder: Path = Field(Path(), exclude=True, init_var=False, strict=False)

    @property
    def sqlite_path(self) -> Path | None:
        """Where the SQLite file is; None where people live in MongoDB."""
        if not self.storage.url.startswith("sqlite:"):
            return None
        return self.folder / self.storage.url.removeprefix("sqlite:")

    def site_of(self, site_id: str) -> RegisteredSite | None:
        return next((site for site in self.sites if site.id == site_id), None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, but the operator should know of."""
        return tuple(_warnings(self))


def _filled(*values: SecretStr) -> tuple[str, ...]:
    return tuple(value.get_secret_value() for value in values if value.get_secret_value())


def _warnings(settings: Settings) -> Iterator[str]:
    wechat = settings.wechat
    if wechat.enabled and wechat.mode == "plain":
        yield (
            "wechat.mode is plain: WeChat's signature does not cover the body then, so whoever learns one"
            " callback address can forge a login. Use it to try things out; go live in safe mode."
        )
    if wechat.enabled and wechat.confirm == "never":
        yield (
            "wechat.confirm is never: whoever is brought to scan a code logs in the browser that shows it."
            " The message after each login has a link to end it."
        )
    if settings.server.base_url.startswith("http://") and not is_loopback_url(settings.server.base_url):
        yield "server.base_url is http: cookies and logins can be read on the way. Use https."
    called = {"app.jwks_url": settings.app.jwks_url, "wechat.forward_url": wechat.forward_url}
    called |= {f"sites: {site.id}: webhook_url": site.webhook_url for site in settings.sites}
    for name, url in called.items():
        if url.startswith("http://") and not is_loopback_url(url):
            yield f"{name} is http: what goes there can be read and changed on the way. Use https."
    for site in settings.sites:
        if any(uri.startswith("http://") and not is_loopback_url(uri) for uri in site.redirect_uris):
            yield f"sites: {site.id} has a redirect address with http: its logins can be read on the way."
    if not wechat.enabled and not settings.app.enabled:
        yield "no login method is set up: fill in the wechat or the app section."
