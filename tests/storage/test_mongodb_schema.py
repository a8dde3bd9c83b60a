"""The version of MongoDB's documents: written down, kept, and a newer one refused."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest

from errors import StoreTooNew
from storage import mongodb
from storage.mongodb import SCHEMA_VERSION


def version(url: str, new: int | None = None) -> Any:
    """What is written down, after `new` has been where it is given."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        meta = client.get_default_database()["meta"]
        if new is not None:
            meta.update_one({"_id": "schema"}, {"$set": {"version": new}}, upsert=True)
        return (meta.find_one({"_id": "schema"}) or {}).get("version")


async def test_a_new_database_gets_our_version_and_keeps_it(mongodb_url):
    assert version(mongodb_url) is None
    for _ in range(2):
        await (await mongodb.open(mongodb_url)).close()
        assert version(mongodb_url) == SCHEMA_VERSION


async def test_an_older_one_is_brought_up_to_ours(mongodb_url):
    version(mongodb_url, SCHEMA_VERSION - 1)
    await (await mongodb.open(mongodb_url)).close()
    assert version(mongodb_url) == SCHEMA_VERSION


async def test_a_newer_one_is_refused_and_nothing_is_changed(mongodb_url):
    version(mongodb_url, SCHEMA_VERSION + 1)
    words = f"has schema version {SCHEMA_VERSION + 1}; this saoma knows version {SCHEMA_VERSION}"
    with pytest.raises(StoreTooNew, match=words):
        await mongodb.open(mongodb_url)
    assert version(mongodb_url) == SCHEMA_VERSION + 1
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        assert client.get_default_database().list_collection_names() == ["meta"]
