"""The settings: the file, the environment over it, and what is said of their faults."""

from __future__ import annotations

import re
import stat
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr

import config
from config import FaultySettings, Settings

FILE = Path(__file__).parent.parent / "settings.yaml"

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
FULL = {"appid": "wx1", "secret": "s", "token": "abc", "encoding_aes_key": KEY}
LONG = "0123456789abcdef0123456789abcdef"

# Their names say it all.


def load(folder: Path, text: str = "", **environment: str) -> Settings:
    file = folder / "settings.yaml"
    file.write_text(textwrap.dedent(text), "utf-8")
    return config.load(file, environment)


def faults(folder: Path, text: str = "", **environment: str) -> tuple[str, ...]:
    with pytest.raises(FaultySettings) as error:
        load(folder, text, **environment)
    return error.value.faults


def document_faults(folder: Path, document: Mapping[str, Any]) -> tuple[str, ...]:
    return faults(folder, yaml.safe_dump(document))


def plain(value: Any) -> Any:
    """Settings as YAML would have them."""
    match value:
        case BaseModel():
            return {
                name: plain(getattr(value, name)) for name in type(value).model_fields if name != "folder"
            }
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return [plain(item) for item in value]
        case _:
            return value


# --- the file in the repository ---------------------------------------------------------------------------


def test_the_file_has_every_setting_with_its_default_and_nothing_else():
    assert yaml.safe_load(FILE.read_text("utf-8")) == plain(Settings())


def test_the_file_is_without_faults():
    assert config.load(FILE, {}) == Settings(folder=FILE.parent)


def test_every_setting_has_its_comment():
    section, commented, keys = "", set(), set()
    for line in FILE.read_text("utf-8").splitlines():
        if found := re.match(r"(\w+):", line):
            section = found[1]
        if found := re.match(r" +(\w+): ", line):
            keys.add(f"{section}.{found[1]}")
            if re.search(r" # \S", line):
                commented.add(f"{section}.{found[1]}")
    assert keys == {".".join(pair) for pair in config.setting_names()}
    assert keys == commented


def test_defaults_have_no_secret():
    secrets = _secrets_of(Settings())
    assert len(secrets) >= 6
    assert not any(secrets)


def _secrets_of(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in _secrets_of(getattr(value, name))]
    return []


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "wechat:\n", "wechat: {}\nsites: []\n", "---\n"])
def test_nothing_set_is_the_defaults(tmp_path, text):
    assert load(tmp_path, text) == Settings(folder=tmp_path)


def test_values_of_the_file(tmp_path):
    settings = load(
        tmp_path,
        f"""
        server: {{base_url: "HTTPS://Login.Example.com/", trusted_proxies: [10.0.0.0/8, "::1"]}}
        wechat: {{appid: wx1, secret: s, token: abc, encoding_aes_key: {KEY}, previous_token: xyz}}
        ticket: {{lifetime: 120}}
        sites: [{{id: shop, name: 商店, secret: {LONG}}}]
        """,
    )
    assert settings.server.base_url == "https://login.example.com"
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.wechat.enabled
    assert settings.wechat.tokens == ("abc", "xyz")
    assert settings.wechat.aes_keys == (KEY,)
    assert settings.sites[0].name == "商店"


def test_settings_are_frozen():
    with pytest.raises(ValueError):
        Settings().server.port = 1  # type: ignore[misc]


def test_all_faults_at_once_each_with_its_path(tmp_path):
    found = faults(
        tmp_path,
        """
        sever: {port: 80}
        server: {port: 99999, address: 0.0.0.0, adress: x}
        site: nonsense
        ticket: {lifetime: 5, interval: soon}
        wechat: {appid: wx1, mode: open, encoding_aes_key: short}
        sites: [{id: "a b", secret: short}, {id: x, name: x, secret: ""}]
        folder: /tmp
        """,
        SAOMA_WECHAT_TOKN="x",
    )
    for start in (
        "folder: unknown section",
        "SAOMA_WECHAT_TOKN: unknown environment variable; did you mean SAOMA_WECHAT_TOKEN?",
        "sever: unknown setting",
        "server.port: should be less than or equal to 65535",
        "server.adress: unknown setting; did you mean server.address?",
        "server.base_url: should be the address that browsers use",
        "site: should be a section with settings below it",
        "ticket.lifetime: should be greater than or equal to 30",
        "ticket.interval: should be a valid number",
        "wechat.mode: should be 'safe', 'compatible' or 'plain'",
        "wechat.encoding_aes_key: an EncodingAESKey has 43",
        "wechat.secret: is missing",
        "wechat.token: is missing",
        "sites.0.id: ",
        "sites.0.name: is missing",
        "sites.0.secret: should be 32 characters or more",
        "sites.1: should have a secret, or `public: true`",
    ):
        assert any(fault.startswith(start) for fault in found), (start, found)
    assert len(found) == 17, found


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FaultySettings) as error:
        config.load(tmp_path / "none.yaml", {})
    assert "none.yaml: cannot be read" in error.value.faults[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("server:\n\tport: 1", "is not YAML"),
        ("- server", "should be sections"),
        ("7", "should be sections"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("server: {port: 1, port: 2}", "port is given twice"),
        ("site: {}\nserver: {}\nsite: {}", "site is given twice"),
        ("? [a]\n: 1", "is not YAML"),
        ("? {a: 1}\n: 1", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
    ],
)
def test_a_file_that_is_no_settings(tmp_path, text, words):
    (fault,) = faults(tmp_path, text)
    assert words in fault
    assert str(tmp_path) in fault


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "settings.yaml").write_bytes(b"site: {name: \xff\xfe}")
    with pytest.raises(FaultySettings) as error:
        config.load(tmp_path / "settings.yaml", {})
    assert "is not YAML" in error.value.faults[0]


def test_the_same_key_in_two_sections_is_not_twice(tmp_path):
    assert load(tmp_path, "ticket: {lifetime: 60}\nsession: {lifetime: 60}").ticket.lifetime == 60


# --- the environment --------------------------------------------------------------------------------------


def test_the_environment_overrides_the_file(tmp_path):
    settings = load(
        tmp_path,
        "server: {port: 1}\nsite: {name: file}",
        SAOMA_SERVER_PORT="9000",
        SAOMA_SITE_NAME="environment",
        SAOMA_LIMITS_ENABLED="false",
        SAOMA_SERVER_TRUSTED_PROXIES="[10.0.0.0/8]",
        SAOMA_SITES=f"[{{id: a, name: A, secret: {LONG}}}]",
        SAOMA_TEST_MONGODB="not ours",
        OTHER="x",
    )
    assert settings.server.port == 9000
    assert settings.site.name == "environment"
    assert settings.limits.enabled is False
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert settings.sites[0].id == "a"


@pytest.mark.parametrize("value", ["123456", "true", "null", "0x10", "2024-01-01", "a: b", "[a", "'q'", "~"])
def test_text_is_taken_as_it_is_written(tmp_path, value):
    assert load(
        tmp_path, SAOMA_WECHAT_SECRET=value, **_filled(secret="")
    ).wechat.secret.get_secret_value() == (value)


def _filled(**without: str) -> dict[str, str]:
    return {f"SAOMA_WECHAT_{key.upper()}": value for key, value in FULL.items() if key not in without}


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_from_a_file(tmp_path, end):
    (tmp_path / "secret").write_bytes(b" two words " + end.encode())
    settings = load(tmp_path, SAOMA_WECHAT_SECRET_FILE=str(tmp_path / "secret"), **_filled(secret=""))
    assert settings.wechat.secret.get_secret_value() == " two words "


def test_a_file_and_a_value_for_the_same_setting(tmp_path):
    (tmp_path / "port").write_text("9000")
    (fault,) = faults(tmp_path, SAOMA_SERVER_PORT="1", SAOMA_SERVER_PORT_FILE=str(tmp_path / "port"))
    assert fault == "SAOMA_SERVER_PORT_FILE: should not be set together with SAOMA_SERVER_PORT"


def test_faults_of_the_environment(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found = faults(
        tmp_path,
        SAOMA_SERVER_PROT="1",
        SAOMA_SERVER_PROT_FILE="/nowhere",
        SAOMA_FOLDER="/tmp",
        SAOMA_SERVER="{}",
        SAOMA_="x",
        SAOMA_WECHAT_TOKEN_FILE="/nowhere",
        SAOMA_WECHAT_SECRET_FILE=str(tmp_path / "binary"),
        SAOMA_SERVER_PORT="[1",
        SAOMA_TICKET_LIFETIME="5",
    )
    assert sorted(fault.split(":")[0] for fault in found) == [
        "SAOMA_",
        "SAOMA_FOLDER",
        "SAOMA_SERVER",
        "SAOMA_SERVER_PORT",
        "SAOMA_SERVER_PROT",
        "SAOMA_SERVER_PROT_FILE",
        "SAOMA_WECHAT_SECRET_FILE",
        "SAOMA_WECHAT_TOKEN_FILE",
        "ticket.lifetime",
    ]


def test_a_section_that_is_no_section_stays_the_files_fault(tmp_path):
    found = faults(tmp_path, "server: 7", SAOMA_SERVER_PORT="1")
    assert found == ("server: should be a section with settings below it",)


# --- half-filled sections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["safe", "compatible", "plain"])
@pytest.mark.parametrize("missing", sorted(FULL))
def test_a_section_filled_in_part(tmp_path, mode, missing):
    wechat = {**FULL, "mode": mode, missing: ""}
    if missing == "encoding_aes_key" and mode == "plain":
        assert config.load(_written(tmp_path, {"wechat": wechat}), {}).wechat.enabled
        return
    (fault,) = document_faults(tmp_path, {"wechat": wechat})
    assert fault.startswith(f"wechat.{missing}: is missing")
    assert mode in fault


@pytest.mark.parametrize("given", sorted(FULL))
def test_one_value_alone_is_a_section_filled_in_part(tmp_path, given):
    found = document_faults(tmp_path, {"wechat": {given: FULL[given]}})
    assert len(found) == 3
    assert not any(fault.startswith(f"wechat.{given}:") for fault in found)


def _written(folder: Path, document: Mapping[str, Any]) -> Path:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(document), "utf-8")
    return file


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_base_url(tmp_path, address):
    assert load(tmp_path, f"server: {{address: '{address}'}}").server.base_url == ""


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "10.0.0.1", "example.com", "localhost.evil.com"])
def test_other_addresses_need_one(tmp_path, address):
    (fault,) = faults(tmp_path, f"server: {{address: '{address}'}}")
    assert fault.startswith("server.base_url: ")
    assert load(tmp_path, f"server: {{address: '{address}', base_url: 'https://a.example'}}")


def test_two_sites_with_one_id(tmp_path):
    site = {"id": "a", "name": "A", "secret": LONG}
    (fault,) = document_faults(tmp_path, {"sites": [site, {**site, "name": "B"}]})
    assert fault == "sites: a is the id of more than one site"


# --- each value at its edges ------------------------------------------------------------------------------

FINE: list[tuple[str, str, Any]] = [
    ("server", "port", 0),
    ("server", "port", 65535),
    ("server", "base_url", "https://a.example"),
    ("server", "base_url", "http://[::1]:8888"),
    ("server", "base_url", "https://a.example:8443/"),
    ("server", "trusted_proxies", ["10.0.0.1", "fd00::/8"]),
    ("server", "allowed_redirects", ["https://a.example"]),
    ("server", "secret_key", LONG),
    ("site", "name", "扫"),
    ("site", "name", "x" * 64),
    ("site", "privacy_url", "https://a.example/privacy?lang=zh"),
    ("site", "timezone", "UTC"),
    ("storage", "url", "sqlite:/var/lib/saoma.db"),
    ("storage", "url", "mongodb+srv://host/saoma"),
    ("ticket", "lifetime", 30),
    ("ticket", "lifetime", 3600),
    ("ticket", "interval", 1.5),
    ("session", "idle", 60),
    ("wechat", "timestamp_window", 0.5),
    ("wechat", "api_base", "http://127.0.0.1:8890"),
    ("wechat", "forward_url", "http://backend:8080/wechat?x=1"),
    ("wechat", "welcome", "x" * 600),
    ("wechat", "previous_token", "abc"),
    ("wechat", "previous_token", "x" * 32),
    ("wechat", "previous_encoding_aes_key", KEY),
    ("wechat", "pool_size", 0),
    ("wechat", "pool_size", 1000),
    ("wechat", "pool_age", 60),
    ("wechat", "daily_codes", 1),
    ("limits", "tickets_per_address", 1),
    ("limits", "connections_per_address", 1),
    ("limits", "header_seconds", 1),
    ("limits", "header_bytes", 4096),
    ("limits", "body_bytes", 1_048_576),
    ("limits", "send_seconds", 2.5),
    ("limits", "ping_seconds", 300),
]
FAULTY: list[tuple[str, str, Any]] = [
    ("server", "port", -1),
    ("server", "port", 65536),
    ("server", "port", "80"),
    ("server", "port", True),
    ("server", "port", 80.5),
    ("server", "base_url", "a.example"),
    ("server", "base_url", "//a.example"),
    ("server", "base_url", "ftp://a.example"),
    ("server", "base_url", "https://"),
    ("server", "base_url", "https://a.example/saoma"),
    ("server", "base_url", "https://a.example?x=1"),
    ("server", "base_url", "https://a.example#x"),
    ("server", "base_url", "https://user@a.example"),
    ("server", "base_url", "https://:x@a.example"),
    ("server", "base_url", "https://@a.example"),
    ("server", "base_url", "https://a.example:x"),
    ("server", "base_url", "https://a.example:99999"),
    ("server", "base_url", "https://a.example:"),
    ("server", "base_url", "https://a example"),
    ("server", "base_url", "https://a\\b.example"),
    ("server", "base_url", "https://a.example\n"),
    ("server", "base_url", "https://[::1"),
    ("server", "trusted_proxies", ["10.0.0.1/8"]),
    ("server", "trusted_proxies", ["proxy.example"]),
    ("server", "trusted_proxies", [""]),
    ("server", "trusted_proxies", "10.0.0.1"),
    ("server", "allowed_redirects", ["https://a.example/path"]),
    ("server", "allowed_redirects", ["*"]),
    ("server", "allowed_redirects", [""]),
    ("server", "secret_key", LONG[:31]),
    ("site", "name", ""),
    ("site", "name", "x" * 65),
    ("site", "privacy_url", "javascript:alert(1)"),
    ("site", "terms_url", "/terms"),
    ("site", "timezone", ""),
    ("site", "timezone", "Asia"),
    ("site", "timezone", "Asia/Nowhere"),
    ("site", "timezone", "../../etc/passwd"),
    ("storage", "url", ""),
    ("storage", "url", "sqlite:"),
    ("storage", "url", "saoma.db"),
    ("storage", "url", "postgres://host/saoma"),
    ("ticket", "lifetime", 29),
    ("ticket", "lifetime", 3601),
    ("ticket", "lifetime", float("nan")),
    ("ticket", "interval", 0.5),
    ("session", "lifetime", 59),
    ("session", "lifetime", float("inf")),
    ("session", "idle", float("inf")),
    ("wechat", "appid", "wx 1"),
    ("wechat", "appid", "wx1\n"),
    ("wechat", "token", "ab"),
    ("wechat", "token", "x" * 33),
    ("wechat", "token", "a-b"),
    ("wechat", "token", "abc\n"),
    ("wechat", "token", 123456),
    ("wechat", "encoding_aes_key", KEY[:42]),
    ("wechat", "encoding_aes_key", KEY + "="),
    ("wechat", "encoding_aes_key", KEY + "\n"),
    ("wechat", "mode", "SAFE"),
    ("wechat", "mode", ""),
    ("wechat", "api_base", ""),
    ("wechat", "api_base", "api.weixin.qq.com"),
    ("wechat", "access_token", "both"),
    ("wechat", "unfollow", ""),
    ("wechat", "timestamp_window", 0),
    ("wechat", "timestamp_window", float("inf")),
    ("wechat", "forward_url", "backend:8080"),
    ("wechat", "forward_url", "http://backend:port/"),
    ("wechat", "welcome", "x" * 601),
    ("wechat", "pool_size", 1001),
    ("wechat", "pool_age", 59),
    ("wechat", "daily_codes", 0),
    ("limits", "enabled", "yes"),
    ("limits", "tickets_per_node", 0),
    ("limits", "app_calls_per_person", 0),
    ("limits", "site_codes_per_person", 0),
    ("limits", "connections_per_address", 0),
    ("limits", "header_bytes", 4095),
    ("limits", "header_seconds", 0),
    ("limits", "body_bytes", 1_048_577),
    ("limits", "body_seconds", 301),
    ("limits", "send_seconds", float("inf")),
    ("limits", "unsent_bytes", 0),
    ("limits", "frame_bytes", 127),
    ("limits", "ping_seconds", 0),
    ("limits", "pong_seconds", "20"),
]


@pytest.mark.parametrize(("section", "key", "value"), FINE, ids=str)
def test_a_value_that_is_fine(tmp_path, section, key, value):
    document = {section: {key: value}} if section != "wechat" else {section: {**FULL, key: value}}
    settings = config.load(_written(tmp_path, document), {})
    if key != "base_url":
        assert plain(getattr(getattr(settings, section), key)) == value


@pytest.mark.parametrize(("section", "key", "value"), FAULTY, ids=str)
def test_a_value_that_is_faulty(tmp_path, section, key, value):
    document = {section: {key: value}} if section != "wechat" else {section: {**FULL, key: value}}
    found = document_faults(tmp_path, document)
    assert all(fault.startswith(f"{section}.{key}") for fault in found), found


# --- paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:data/saoma.db", "data/saoma.db"),
        ("sqlite:./a.db", "a.db"),
        ("sqlite:/var/lib/saoma.db", "/var/lib/saoma.db"),
        ("mongodb://host/saoma", None),
    ],
)
def test_relative_paths_count_from_the_file(tmp_path, monkeypatch, url, path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "conf").mkdir()
    _written(tmp_path / "conf", {"storage": {"url": url}})
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = config.load(Path("../conf/settings.yaml"), {})
    monkeypatch.chdir("/")  # nor from wherever the process goes later
    known = settings.sqlite_path
    assert (known and known.resolve()) == (None if path is None else tmp_path / "conf" / path)


# --- secrets ----------------------------------------------------------------------------------------------

CANARY = "canary0123456789"


def test_secrets_are_in_no_repr(tmp_path):
    settings = load(
        tmp_path,
        f"""
        server: {{secret_key: {CANARY}{CANARY}}}
        storage: {{url: "mongodb://saoma:{CANARY}@host/saoma"}}
        wechat: {{appid: wx1, secret: {CANARY}, token: {CANARY}, previous_token: {CANARY},
                  encoding_aes_key: {CANARY}{CANARY}{CANARY[:11]},
                  previous_encoding_aes_key: {CANARY}{CANARY}{CANARY[:11]}}}
        sites: [{{id: a, name: A, secret: {CANARY}{CANARY}}}]
        """,
    )
    for shown in (repr(settings), str(settings), repr(settings.wechat), repr(settings.sites[0])):
        assert CANARY not in shown


@pytest.mark.parametrize(
    "document",
    [
        {"wechat": {"secret": [CANARY]}},
        {"wechat": {"secret": {"x": CANARY}}},
        {"wechat": {**FULL, "token": f"-{CANARY}"}},
        {"wechat": {**FULL, "encoding_aes_key": CANARY}},
        {"wechat": {**FULL, "previous_token": f"{CANARY}{CANARY}{CANARY}"}},
        {"server": {"secret_key": CANARY}},
        {"sites": [{"id": "a", "name": "A", "secret": CANARY}]},
        {"storage": {"url": f"postgres://saoma:{CANARY}@host"}},
    ],
    ids=repr,
)
def test_secrets_are_in_no_fault(tmp_path, document):
    assert CANARY not in "\n".join(document_faults(tmp_path, document))


@pytest.mark.parametrize(
    "text",
    [
        f"wechat:\n  secret: {CANARY}: x\n",
        f"wechat:\n  secret: '{CANARY}\n",
        f"wechat:\n  secret: [{CANARY}\n  token: x\n",
        f"wechat:\n  secret: @{CANARY}\n",
        f"wechat:\n  secret: {CANARY}\n  secret: {CANARY}\n",
        f"wechat: {{secret: {CANARY}}}\n\tx",
        f"wechat:\n  secret: !{CANARY} x\n",
        f"wechat:\n  secret: *{CANARY}\n",
        f"wechat:\n  secret: %{CANARY}\n",
        f'wechat:\n  secret: "\\q{CANARY}"\n',
    ],
)
def test_a_file_that_is_no_yaml_is_not_shown(tmp_path, text):
    (fault,) = faults(tmp_path, text)
    assert CANARY not in fault
    assert "line " in fault, "and yet the place is told"


def test_a_key_is_made_once_and_kept(tmp_path):
    settings = load(tmp_path, "storage: {url: 'sqlite:data/saoma.db'}")
    key = config.read_secret_key(settings)
    file = tmp_path / "data" / "secret.key"
    assert len(key) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert config.read_secret_key(settings) == key == file.read_bytes()
    assert config.read_secret_key(load(tmp_path, "storage: {url: 'sqlite:data/saoma.db'}")) == key
    assert [path.name for path in file.parent.iterdir()] == ["secret.key"]
    (tmp_path / "other").mkdir()
    assert config.read_secret_key(load(tmp_path / "other")) != key


def test_a_key_beside_no_database_is_kept_beside_the_file(tmp_path):
    config.read_secret_key(load(tmp_path, "storage: {url: 'mongodb://host/saoma'}"))
    assert (tmp_path / "data" / "secret.key").exists()


def test_a_configured_key_is_used(tmp_path):
    assert config.read_secret_key(load(tmp_path, f"server: {{secret_key: {LONG}}}")) == LONG.encode()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\n" * 40])
def test_a_key_that_was_cut_short_is_not_used(tmp_path, content):
    """A start that was ended at the wrong moment must not leave a key that anybody can guess."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_bytes(content)
    with pytest.raises(FaultySettings) as error:
        config.read_secret_key(load(tmp_path))
    assert "secret.key" in error.value.faults[0]


def test_a_key_that_cannot_be_kept_is_a_fault(tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(FaultySettings) as error:
        config.read_secret_key(load(tmp_path))
    assert "secret.key" in error.value.faults[0]


# --- warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, ["no login method"]),
        ({"wechat": FULL}, ["wechat.confirm is never"]),
        ({"wechat": {**FULL, "mode": "plain"}}, ["wechat.mode is plain", "wechat.confirm is never"]),
        ({"server": {"base_url": "http://a.example"}}, ["server.base_url is http", "no login method"]),
        ({"server": {"base_url": "https://a.example"}}, ["no login method"]),
        ({"server": {"base_url": "http://127.0.0.1:8888"}}, ["no login method"]),
    ],
    ids=str,
)
def test_warnings(tmp_path, document, words):
    warnings = config.load(_written(tmp_path, document), {}).warnings
    assert len(warnings) == len(words)
    for warning, start in zip(warnings, words, strict=True):
        assert warning.startswith(start)
