"""Settings as a test writes and reads them, and what is said of their faults."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr

import config
from config import FaultySettings, Settings

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
FULL = {"appid": "wx1", "secret": "s", "token": "abc", "encoding_aes_key": KEY}
LONG = "0123456789abcdef0123456789abcdef"


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


def written(folder: Path, document: Mapping[str, Any]) -> Path:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(document), "utf-8")
    return file
