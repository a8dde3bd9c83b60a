"""MongoDB and Redis for any test; `tests/conftest.py` hands these on."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pymongo
import pytest
import redis

from tests.missing import skip
from tests.storage.servers import Command, MongodbServer, NoServer, RedisServer, find_command


@pytest.fixture(scope="session")
def mongodb_command() -> Command:
    """How to start a MongoDB; without one the test is skipped, and fails where CI is set."""
    try:
        return find_command()
    except NoServer as missing:
        skip(f"{missing}; SAOMA_TEST_MONGODB_URL may name a server")


@pytest.fixture(scope="session")
def mongodb_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """mongodb://… of a server for the whole run: that of SAOMA_TEST_MONGODB_URL, else one of our own."""
    given = os.environ.get("SAOMA_TEST_MONGODB_URL")
    if given:
        yield given
        return
    server = MongodbServer(request.getfixturevalue("mongodb_command"))
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture
def mongodb_url(mongodb_address: str) -> Iterator[str]:
    """The address of a fresh database, dropped after the test."""
    name = f"saoma_test_{secrets.token_hex(6)}"
    yield urlsplit(mongodb_address)._replace(path=f"/{name}").geturl()
    with pymongo.MongoClient[dict[str, object]](mongodb_address) as client:
        client.drop_database(name)


@pytest.fixture
def own_mongodb(mongodb_command: Command) -> Iterator[MongodbServer]:
    """A started server that the test may stop, kill, hang and start again."""
    server = MongodbServer(mongodb_command)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def redis_address() -> Iterator[str]:
    """redis://… of a server for the whole run."""
    server = _redis_server()
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A started server that the test may stop, kill, hang and start again."""
    server = _redis_server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _redis_server() -> RedisServer:
    try:
        return RedisServer()
    except NoServer as missing:
        skip(missing)


@pytest.fixture
def redis_url(redis_address: str) -> str:
    """The address of an emptied server."""
    with redis.Redis.from_url(redis_address) as client:
        client.flushall()
    return redis_address
