"""The settings: the file, and the environment over it."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from config import FaultySettings, Settings
from tests.config.reading import FULL, KEY, LONG, faults, load, written


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
    written(tmp_path / "conf", {"storage": {"url": url}})
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = config.load(Path("../conf/settings.yaml"), {})
    monkeypatch.chdir("/")  # nor from wherever the process goes later
    known = settings.sqlite_path
    assert (known and known.resolve()) == (None if path is None else tmp_path / "conf" / path)
