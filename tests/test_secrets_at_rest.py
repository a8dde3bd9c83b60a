"""Secrets in files: who may read what we write, and each secret setting from a file of its own."""

from __future__ import annotations

import base64
import copy
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

import backup
import config
from config import Settings
from config.loading import setting_names
from config.sections import RegisteredSite
from tests.harness import running

AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
WORTH: dict[Any, str] = {
    ("storage", "url"): "mongodb://user:password@host/saoma",
    "previous_token": "previoustoken12",
    "token": "callbacktoken12",
    "encoding_aes_key": AES_KEY,
    "previous_encoding_aes_key": AES_KEY,
    "url": "redis://:password@127.0.0.1/0",
}
# What has to be there with it.
BESIDE: dict[str, Any] = {
    "server": {"secret_key": "a" * 32},
    "wechat": {"appid": "wx1", "secret": "s", "token": "abc", "encoding_aes_key": AES_KEY},
    "app": {"issuer": "https://app.example.com", "key": "k" * 32},
}


@contextmanager
def masked(mask: int) -> Iterator[None]:
    former = os.umask(mask)
    try:
        yield
    finally:
        os.umask(former)


def secret_settings() -> list[tuple[str, str]]:
    """Found by their type, so that a new one is among them."""
    found = [
        (section, key)
        for section, key in setting_names()
        if isinstance(Settings.model_fields[section].annotation.model_fields[key].default, SecretStr)
    ]
    return [*found, ("storage", "url")]  # a password may be in it


def test_the_table_knows_secrets_by_their_type():
    assert {("server", "secret_key"), ("wechat", "token"), ("app", "previous_key"), ("redis", "url")} <= set(
        secret_settings()
    )


@pytest.mark.parametrize(("section", "key"), secret_settings())
def test_each_secret_can_be_read_from_a_file(tmp_path, section, key):
    worth = WORTH.get((section, key), WORTH.get(key, f"{section}-{key}-{'x' * 32}"))
    (tmp_path / "given").write_text(worth + "\n")
    document = copy.deepcopy(BESIDE)
    document.get(section, {}).pop(key, None)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(document))
    name = f"SAOMA_{section}_{key}_FILE".upper()
    settings = config.load(tmp_path / "settings.yaml", {name: str(tmp_path / "given")})
    value = getattr(getattr(settings, section), key)
    assert (value.get_secret_value() if isinstance(value, SecretStr) else value) == worth
    assert worth not in repr(settings)


def test_the_sites_and_their_secrets_can_be_read_from_a_file(tmp_path):
    """They are a list, so that one file holds them all."""
    webhook = f"whsec_{base64.b64encode(b'w' * 32).decode()}"
    fields = RegisteredSite.model_fields.items()
    secret = [name for name, field in fields if isinstance(field.default, SecretStr)]
    site = {name: webhook if "webhook" in name else f"{name}-{'x' * 32}" for name in secret}
    more = {"id": "shop", "name": "Shop", "webhook_url": "https://shop.example.com/hook"}
    (tmp_path / "sites").write_text(yaml.safe_dump([{**more, **site}]))
    (given,) = config.load(None, {"SAOMA_SITES_FILE": str(tmp_path / "sites")}).sites
    assert {name: getattr(given, name).get_secret_value() for name in secret} == site
    assert not any(value in repr(given) for value in site.values())


@pytest.mark.parametrize("mask", [0o022, 0o000])
async def test_what_a_server_writes_is_for_its_owner_alone(tmp_path, mask, capsys):
    with masked(mask):
        async with running(tmp_path) as whole:
            browser = whole.browser()
            await whole.log_in(browser, whole.person())
            assert await backup.backup(whole.server.settings, tmp_path / "data" / "copy.db")
            modes = {path.name: stat.filemode(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {
        "saoma.db": "-rw-------",
        "saoma.db-wal": "-rw-------",
        "secret.key": "-rw-------",
        "control.sock": "srw-------",
        "copy.db": "-rw-------",
        "copy.db.secret.key": "-rw-------",
    }
    assert stat.filemode((tmp_path / "data").stat().st_mode) == "drwx------"
