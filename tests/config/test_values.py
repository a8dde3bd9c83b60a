"""Each value at its edges."""

from __future__ import annotations

from typing import Any

import pytest

import config
from tests.config.reading import FULL, KEY, LONG, document_faults, plain, written

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
    ("ticket", "lifetime", 600),
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
    ("ticket", "lifetime", 601),
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
    settings = config.load(written(tmp_path, document), {})
    if key != "base_url":
        assert plain(getattr(getattr(settings, section), key)) == value


@pytest.mark.parametrize(("section", "key", "value"), FAULTY, ids=str)
def test_a_value_that_is_faulty(tmp_path, section, key, value):
    document = {section: {key: value}} if section != "wechat" else {section: {**FULL, key: value}}
    found = document_faults(tmp_path, document)
    assert all(fault.startswith(f"{section}.{key}") for fault in found), found
