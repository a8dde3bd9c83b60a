"""Sites of real processes. Where nginx, Redis or MongoDB is missing, tests skip; with CI set they fail."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pymongo
import pytest
import pytest_asyncio

from tests.cluster.site import Site, serving
from tests.missing import NotHere, find, skip
from tests.storage.servers import MongodbServer, RedisServer

NewDatabase = Callable[[], str]


@pytest.fixture(scope="session")
def nginx_program() -> str:
    try:
        return find("nginx", "nginx")
    except NotHere as missing:
        skip(missing)


@pytest.fixture(scope="module")
def new_database(mongodb_address: str) -> Iterator[NewDatabase]:
    """Gives the address of a fresh MongoDB database each time."""
    names: list[str] = []

    def new() -> str:
        names.append(f"saoma_test_{secrets.token_hex(6)}")
        return urlsplit(mongodb_address)._replace(path=f"/{names[-1]}").geturl()

    yield new
    with pymongo.MongoClient[dict[str, object]](mongodb_address) as client:
        for name in names:
            client.drop_database(name)


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("site")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_with_sqlite(
    nginx_program: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = _folder(tmp_path_factory)
    async with serving(folder, nginx_program, 1, storage={"url": f"sqlite:{folder}/saoma.db"}) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_with_mongodb(
    nginx_program: str, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = _folder(tmp_path_factory)
    async with serving(folder, nginx_program, 1, storage={"url": new_database()}) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three_with_redis(
    nginx_program: str,
    new_database: NewDatabase,
    redis_address: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    folder = _folder(tmp_path_factory)
    backing = {"storage": {"url": new_database()}, "redis": {"url": redis_address}}
    async with serving(folder, nginx_program, 3, **backing) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def own_cluster(
    nginx_program: str, own_mongodb: MongodbServer, own_redis: RedisServer, tmp_path: Path
) -> AsyncIterator[Site]:
    """Three nodes that the test may kill, on a Redis and a MongoDB that it may stop."""
    backing = {"storage": {"url": f"{own_mongodb.url}/saoma"}, "redis": {"url": own_redis.url}}
    async with serving(tmp_path, nginx_program, 3, **backing) as site:
        yield site
