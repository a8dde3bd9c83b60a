"""The description of the REST part (OpenAPI 3.1), for whoever writes a client."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from handlers.base import ApiHandler
from handlers.cookies import CookieNames
from handlers.services import Services

PUBLIC_SECONDS = 300  # that it may be kept
SOURCE = Path(__file__).with_suffix(".yaml")


def described(base_url: str, names: CookieNames) -> dict[str, Any]:
    """`openapi.yaml`, with what each installation has of its own."""
    document: dict[str, Any] = json.loads(_source())
    document["servers"] = [{"url": base_url}]
    schemes = document["components"]["securitySchemes"]
    schemes["ticketCookie"]["name"] = names.ticket("{id}")
    schemes["sessionCookie"]["name"] = names.session
    return document


@lru_cache(1)
def _source() -> str:
    return json.dumps(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))


class Description(ApiHandler):
    def initialize(self, services: Services, document: bytes) -> None:  # type: ignore[override]
        super().initialize(services)
        self._document = document

    def get(self) -> None:
        self.set_header("Cache-Control", f"public, max-age={PUBLIC_SECONDS}")
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Content-Type", "application/json")
        self.finish(self._document)


def encoded(services: Services) -> bytes:
    document = described(services.context.base_url, services.cookie_names)
    return json.dumps(document, ensure_ascii=False).encode("utf-8")
