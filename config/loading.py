"""The settings file and the environment into settings, with all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from app.token import PUBLIC_KEY_ALGORITHMS, algorithms_of, import_key
from config.faults import FaultySettings
from config.sections import Settings
from config.values import is_loopback

PREFIX = "SAOMA_"
FILE_SUFFIX = "_FILE"


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
    targets = {f"{PREFIX}{section}_{key}".upper(): (section, key) for section, key in setting_names()}
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


def setting_names() -> Iterator[tuple[str, str]]:
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
            return f"{path}: unknown setting{_suggestion(path, ('.'.join(pair) for pair in setting_names()))}"
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
    if not server.get("base_url") and not is_loopback(str(server.get("address", "127.0.0.1"))):
        yield "server.base_url: should be the address that browsers use, unless server.address is loopback"
    mode = wechat.get("mode", "safe")
    needed = ("appid", "secret", "token") + (("encoding_aes_key",) if mode != "plain" else ())
    if any(wechat.get(key) for key in (*needed, "encoding_aes_key", "previous_token", "forward_url")):
        for key in needed:
            if not wechat.get(key):
                yield f"wechat.{key}: is missing (the section is filled in part, and the mode is {mode})"
    if _section(document, "redis").get("url") and not server.get("secret_key"):
        yield "server.secret_key: should be set where there is Redis, the same for every node"
    app = _section(document, "app")
    if any(app.get(key) for key in ("issuer", "key", "previous_key", "jwks_url", "link")):
        if not app.get("issuer"):
            yield "app.issuer: is missing (the section is filled in part)"
        if bool(app.get("key")) == bool(app.get("jwks_url")):
            yield "app: should have one of key and jwks_url"
        yield from _unfitting_algorithms(app)
    sites = document.get("sites")
    ids = [site.get("id") for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
    for twice in {str(site_id) for site_id in ids if ids.count(site_id) > 1}:
        yield f"sites: {twice} is the id of more than one site"
    for index, site in enumerate(sites if isinstance(sites, list) else []):
        if isinstance(site, dict):
            yield from _unfitting_site(f"sites.{index}", site)
    yield from _foreign_cookie_domain(str(_section(document, "session").get("cookie_domain", "")), server)


def _unfitting_site(path: str, site: Mapping[str, Any]) -> Iterator[str]:
    if bool(site.get("secret")) == bool(site.get("public")):
        yield f"{path}: should have a secret, or `public: true` where it cannot keep one"
    if site.get("public") and site.get("wechat_access_token"):
        yield f"{path}.wechat_access_token: a public site has no secret to ask with"
    if bool(site.get("webhook_url")) != bool(site.get("webhook_secret")):
        yield f"{path}: webhook_url and webhook_secret should be set together"


def _foreign_cookie_domain(domain: str, server: Mapping[str, Any]) -> Iterator[str]:
    try:
        host = urlsplit(str(server.get("base_url") or "")).hostname or ""
    except ValueError:
        return  # told already, with server.base_url
    if domain and host != domain and not host.endswith(f".{domain}"):
        yield f"session.cookie_domain: server.base_url should be below {domain}"


def _unfitting_algorithms(app: Mapping[str, Any]) -> Iterator[str]:
    """Each of them needs a key that it goes with, each key one of them."""
    fitting = {"jwks_url": PUBLIC_KEY_ALGORITHMS} if app.get("jwks_url") else {}
    try:
        for name in ("key", "previous_key"):
            if app.get(name):
                fitting[name] = algorithms_of(import_key(str(app[name])))
    except ValueError:
        return  # told already, with the key
    chosen = app.get("algorithms") or ()
    for algorithm in chosen:
        if fitting and not any(algorithm in taken for taken in fitting.values()):
            names = sorted(frozenset().union(*fitting.values()))
            yield f"app.algorithms: {algorithm} does not go with {' and '.join(fitting)}; take of {names}"
    for name, taken in fitting.items():
        if chosen and not taken.intersection(chosen):
            yield f"app.algorithms: none goes with {name}; it takes {sorted(taken)}"


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}
