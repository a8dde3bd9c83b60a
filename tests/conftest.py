"""What every test may ask for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from joserfc._rfc7518.rsa_key import RSABinding
from joserfc.jwk import RSAKey

from oidc import keys
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
from translations import Catalogues

__all__ = [
    "mongodb_address",
    "mongodb_command",
    "mongodb_url",
    "own_mongodb",
    "own_redis",
    "redis_address",
    "redis_url",
]

# A busy machine makes an example slow, never wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_LOUD = logging.WARNING
RSA_KEYS = 4
# These begin first: if one of them came last, all else would wait for it.
_LONGEST = (
    "tests/cluster/test_chaos.py",
    "tests/torture/",
    "tests/test_deployment.py",
    "tests/pages/",
    "tests/whole/",
    "tests/cluster/",
    "tests/examples/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        places = (place for place, name in enumerate(_LONGEST) if item.nodeid.startswith(name))
        return next(places, len(_LONGEST))

    items.sort(key=place)


class _Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(_LOUD)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("saoma", "tornado", "asyncio")):
            self.lines.append(f"{record.name}: {self.format(record)}")


@pytest.fixture(scope="session", autouse=True)
def _few_rsa_keys() -> Iterator[None]:
    """One takes a third of a second to make: the tests' servers take turns with a few, under own names."""
    made: list[keys.PrivateKey] = []

    def new_key(algorithm: str, key_id: str, real: Callable[..., keys.PrivateKey] = keys.new_key) -> Any:
        if algorithm != "RS256":
            return real(algorithm, key_id)
        made.insert(0, real(algorithm, "") if len(made) < RSA_KEYS else made.pop())
        return RSAKey.import_key({**made[0].as_dict(private=True), "kid": key_id})

    loaded: dict[tuple[str | None, ...], Any] = {}

    def load(values: dict[str, str], real: Callable[..., Any] = RSABinding.import_private_key) -> Any:
        """Whether the factors are primes is asked once of each key."""
        numbers = tuple(values.get(name) for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi"))
        if numbers not in loaded:
            loaded[numbers] = real(values)
        return loaded[numbers]

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(keys, "new_key", new_key)
        patching.setattr(RSABinding, "import_private_key", load)
        yield


@pytest.fixture(scope="session", autouse=True)
def _canaries_everywhere() -> Iterator[None]:
    with planting():
        yield


@pytest.fixture(scope="session", autouse=True)
def _catalogues_once() -> Iterator[None]:
    """Compiling them would take a third of each server's start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("composition.Catalogues", SimpleNamespace(load=cache(Catalogues.load)))
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
