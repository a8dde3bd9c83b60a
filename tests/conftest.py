"""What every test may ask for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

import pytest

from tests.canaries import CANARIES, planting
from tests.storage.fixtures import (
    mongodb_address,
    mongodb_command,
    mongodb_url,
    own_mongodb,
    own_redis,
    redis_address,
    redis_url,
)

__all__ = [
    "mongodb_address",
    "mongodb_command",
    "mongodb_url",
    "own_mongodb",
    "own_redis",
    "redis_address",
    "redis_url",
]

_LOUD = logging.WARNING


class _Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(_LOUD)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("saoma", "tornado", "asyncio")):
            self.lines.append(f"{record.name}: {self.format(record)}")


@pytest.fixture(scope="session", autouse=True)
def _canaries_everywhere() -> Iterator[None]:
    with planting():
        yield


@pytest.fixture(scope="module", autouse=True)
def _canaries_of_module() -> Iterator[None]:
    """What the servers say that a module shares, and when they end, is its own."""
    yield
    found = CANARIES.found()
    CANARIES.forget()
    assert not found, f"told what nobody may know: {found}"


@pytest.fixture(autouse=True)
def _canaries() -> Iterator[None]:
    """Fails a test that told what nobody may know (rule 19)."""
    yield
    found = CANARIES.found()
    assert not found, f"told what nobody may know: {found}"


@pytest.fixture(autouse=True)
def expect_log() -> Iterator[Callable[[str], None]]:
    """Fails a test that logs a warning or an error which it has not declared: `expect_log(r"pattern")`.

    A declared line has to come at least once.
    """
    collected = _Collected()
    expected: list[str] = []
    root = logging.getLogger()
    root.addHandler(collected)
    try:
        yield expected.append
    finally:
        root.removeHandler(collected)
    undeclared = [line for line in collected.lines if not any(re.search(p, line) for p in expected)]
    assert not undeclared, f"undeclared log lines: {undeclared}"
    missing = [p for p in expected if not any(re.search(p, line) for line in collected.lines)]
    assert not missing, f"declared log lines that did not come: {missing}"
