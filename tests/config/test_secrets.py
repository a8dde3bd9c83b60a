"""Secrets: shown by no fault and no `repr`; and the key that is made where none is set."""

from __future__ import annotations

import stat

import pytest

import config
from config import FaultySettings
from tests.config.reading import FULL, LONG, document_faults, faults, load

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
