"""The file in the repository has every setting, with its default and a comment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

import config
from config import Settings
from tests.config.reading import plain

FILE = Path(__file__).parents[2] / "settings.yaml"


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
