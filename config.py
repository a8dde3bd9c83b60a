"""Settings: the YAML file, with SAOMA_* of the environment over it, as frozen typed values.

All faults are reported at once, each with its path and what it should be. An environment variable
`SAOMA_SECTION_KEY` overrides one value; `SAOMA_SECTION_KEY_FILE` names a file that holds it.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from app.token import algorithms_of, import_key
from wechat.crypto import decode_key

PREFIX = "SAOMA_"
FILE_SUFFIX = "_FILE"


class FaultySettings(Exception):
    """`faults` are lines of `path: what it should be`."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


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


def _filled_in(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("is missing")
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


Algorithm = Literal["HS256", "RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
AppKey = Annotated[SecretStr, AfterValidator(_app_key)]
Origin = Annotated[str, AfterValidator(_origin)]
Url = Annotated[str, AfterValidator(_url)]
OptionalUrl = Annotated[str, AfterValidator(_or_empty(_url))]
Network = Annotated[str, AfterValidator(_network)]
AesKey = Annotated[SecretStr, AfterValidator(_aes_key)]
CallbackToken = Annotated[SecretStr, AfterValidator(_callback_token)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Server(_Section):
    address: str = "127.0.0.1"
    port: int = Field(8888, ge=0, le=65535)
    base_url: Annotated[str, AfterValidator(_or_empty(_origin))] = ""
    trusted_proxies: tuple[Network, ...] = Field((), strict=False)
    allowed_redirects: tuple[Origin, ...] = Field((), strict=False)
    secret_key: Annotated[SecretStr, AfterValidator(_long_secret)] = SecretStr("")


class Site(_Section):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "saoma"
    logo: str = ""
    icp: str = ""
    privacy_url: OptionalUrl = ""
    terms_url: OptionalUrl = ""
    timezone: Annotated[str, AfterValidator(_timezone)] = "Asia/Shanghai"


class Storage(_Section):
    # May have a password in it.
    url: Annotated[str, AfterValidator(_storage_url)] = Field("sqlite:data/saoma.db", repr=False)


class Ticket(_Section):
    lifetime: float = Field(300, ge=30, le=3600)
    interval: float = Field(3, ge=1, le=60)


class Session(_Section):
    lifetime: float = Field(2_592_000, ge=60)
    idle: float = Field(604_800, ge=60)


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
    confirm: Literal["never"] = "never"
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
    url: Annotated[SecretStr, AfterValidator(_redis_url)] = SecretStr("")


class App(_Section):
    issuer: str = ""
    audience: Annotated[str, StringConstraints(min_length=1)] = "saoma"
    key: AppKey = SecretStr("")
    jwks_url: OptionalUrl = ""
    algorithms: tuple[Algorithm, ...] = Field((), strict=False)
    link: Annotated[str, AfterValidator(_or_empty(_app_link))] = ""

    @property
    def enabled(self) -> bool:
        return bool(self.issuer)


class RegisteredSite(_Section):
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    secret: Annotated[SecretStr, AfterValidator(_filled_in), AfterValidator(_long_secret)]


class Limits(_Section):
    enabled: bool = True
    tickets_per_address: int = Field(60, ge=1)
    tickets_per_node: int = Field(200, ge=1)


class Settings(_Section):
    server: Server = Server()
    site: Site = Site()
    storage: Storage = Storage()
    redis: Redis = Redis()
    ticket: Ticket = Ticket()
    session: Session = Session()
    wechat: Wechat = Wechat()
    app: App = App()
    sites: tuple[RegisteredSite, ...] = Field((), strict=False)
    limits: Limits = Limits()
    folder: Path = Field(Path(), exclude=True, init_var=False, strict=False)

    @property
    def sqlite_path(self) -> Path | None:
        """Where the SQLite file is; None where people live in MongoDB."""
        if not self.storage.url.startswith("sqlite:"):
            return None
        return self.folder / self.storage.url.removeprefix("sqlite:")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, but the operator should know of."""
        return tuple(_warnings(self))


def _filled(*values: SecretStr) -> tuple[str, ...]:
    return tuple(value.get_secret_value() for value in values if value.get_secret_value())


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of the file (none: the defaults) and the environment. Raises FaultySettings."""
    faults: list[str] = []
    document = _read(path, faults) if path else {}
    _override(document, environment, faults)
    folder = path.parent.absolute() if path else Path.cwd()
    try:
        settings = Settings.model_validate({**document, "folder": folder})
    except ValidationError as error:
        faults += map(_plain_words, error.errors())
    faults += _contradictions(document)
    if faults:
        raise FaultySettings(faults)
    return settings


class _GivenTwice(yaml.MarkedYAMLError):
    """Its words are ours: a key and its place."""


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # refused below
            if key_node.value in seen:
                raise _GivenTwice(None, None, f"{key_node.value} is given twice", key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506  # it is a SafeLoader
    except OSError as error:
        raise FaultySettings([f"{path}: cannot be read ({error.strerror})"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FaultySettings([f"{path}: is not YAML{_place_of(error)}"]) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise FaultySettings([f"{path}: should be sections such as `server:` with their settings below"])
    # `wechat:` with nothing below it is an empty section; Settings itself has no key `folder` to set.
    if "folder" in document:
        faults.append("folder: unknown section")
        del document["folder"]
    return {str(name): {} if section is None else section for name, section in document.items()}


def _place_of(error: Exception) -> str:
    """Where, and why where no piece of the file is told with it: secrets stand there."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, twice = error.problem_mark, isinstance(error, _GivenTwice)
        reason = (
            f": {error.problem}" if twice else ": look for a value that needs quotes, or wrong indentation"
        )
        return f" in line {mark.line + 1}, column {mark.column + 1}{reason}"
    return "" if isinstance(error, yaml.YAMLError) else " in UTF-8"


def _override(document: dict[str, Any], environment: Mapping[str, str], faults: list[str]) -> None:
    targets = {f"{PREFIX}{section}_{key}".upper(): (section, key) for section, key in _keys()}
    targets[f"{PREFIX}SITES"] = ("sites", "")
    for name, raw in sorted(environment.items()):
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
            continue
        from_file = name not in targets and name.endswith(FILE_SUFFIX)
        variable = name.removesuffix(FILE_SUFFIX) if from_file else name
        if variable not in targets:
            faults.append(f"{name}: unknown environment variable{_suggestion(name, targets)}")
            continue
        if from_file:
            if variable in environment:
                faults.append(f"{name}: should not be set together with {variable}")
            try:
                raw = Path(raw).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"{name}: the file cannot be read ({error})")
                continue
        section, key = targets[variable]
        try:
            value = raw if _is_text(section, key) else yaml.safe_load(raw)
        except yaml.YAMLError:
            faults.append(f"{name}: is not YAML")
            continue
        if not key:
            document[section] = value
        elif isinstance(document.setdefault(section, {}), dict):
            document[section][key] = value


def _keys() -> Iterator[tuple[str, str]]:
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for key in model.model_fields:
                yield section, key


def _is_text(section: str, key: str) -> bool:
    """Whether the value is taken as written: a token of digits must not become a number."""
    if not key:
        return False
    model: Any = Settings.model_fields[section].annotation
    return isinstance(model.model_fields[key].default, (str, SecretStr))


def _plain_words(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return f"{path}: unknown setting{_suggestion(path, ('.'.join(pair) for pair in _keys()))}"
        case "missing":
            return f"{path}: is missing"
        case "value_error":
            return f"{path}: {error['ctx']['error']}"
        case "literal_error":
            return f"{path}: should be {error['ctx']['expected']}"
        case "model_type":
            return f"{path}: should be a section with settings below it"
        case _:
            return f"{path}: {error['msg'].replace('Input should', 'should')}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    """Faults that only show when several values are seen together; looked for in what was written.

    So they are reported beside the faults of single values, not after those are mended.
    """
    server, wechat = _section(document, "server"), _section(document, "wechat")
    if not server.get("base_url") and not _is_loopback(str(server.get("address", "127.0.0.1"))):
        yield "server.base_url: should be the address that browsers use, unless server.address is loopback"
    mode = wechat.get("mode", "safe")
    needed = ("appid", "secret", "token") + (("encoding_aes_key",) if mode != "plain" else ())
    if any(wechat.get(key) for key in (*needed, "encoding_aes_key")):
        for key in needed:
            if not wechat.get(key):
                yield f"wechat.{key}: is missing (the section is filled in part, and the mode is {mode})"
    if _section(document, "redis").get("url") and not server.get("secret_key"):
        yield "server.secret_key: should be set where there is Redis, the same for every node"
    app = _section(document, "app")
    if any(app.get(key) for key in ("issuer", "key", "jwks_url", "link")):
        if not app.get("issuer"):
            yield "app.issuer: is missing (the section is filled in part)"
        if bool(app.get("key")) == bool(app.get("jwks_url")):
            yield "app: should have one of key and jwks_url"
        yield from _unfitting_algorithms(app)
    sites = document.get("sites")
    ids = [site.get("id") for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
    for twice in {str(site_id) for site_id in ids if ids.count(site_id) > 1}:
        yield f"sites: {twice} is the id of more than one site"


def _unfitting_algorithms(app: Mapping[str, Any]) -> Iterator[str]:
    algorithms = app.get("algorithms") or ()
    if "HS256" in algorithms and app.get("jwks_url"):
        yield "app.algorithms: HS256 takes a shared secret, and jwks_url has public keys only"
    try:
        fitting = algorithms_of(import_key(str(app["key"]))) if app.get("key") else None
    except ValueError:
        return  # told already, with app.key
    for algorithm in algorithms:
        if fitting is not None and algorithm not in fitting:
            yield f"app.algorithms: {algorithm} does not go with this key; it takes {sorted(fitting)}"


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


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
    if settings.server.base_url.startswith("http://") and not _is_loopback_url(settings.server.base_url):
        yield "server.base_url is http: cookies and logins can be read on the way. Use https."
    if not wechat.enabled and not settings.app.enabled:
        yield "no login method is set up: fill in the wechat or the app section."


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_loopback_url(url: str) -> bool:
    return _is_loopback(urlsplit(url).hostname or "")


def secret_key(settings: Settings) -> bytes:
    """`server.secret_key`, or the one made on the first start and kept beside the database, mode 0600."""
    if configured := settings.server.secret_key.get_secret_value():
        return configured.encode("utf-8")
    database = settings.sqlite_path
    path = (database.parent if database else settings.folder / "data") / "secret.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _keep_new_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise FaultySettings(
            [f"server.secret_key: {path} cannot be made or read ({error.strerror})"]
        ) from None
    if len(key.strip()) < 32:
        raise FaultySettings([f"server.secret_key: {path} should hold 32 characters or more: delete it"])
    return key


def _keep_new_key(path: Path) -> None:
    """All of it or nothing: a start that is ended here leaves no half a key. The first of two wins."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
