"""The test vectors, by kind, and the account of which of them are run.

`tests/fixtures/wechat-vectors.json` was collected from the tests of other people's libraries; its `meta`
explains the kinds and how they are graded. `each` hands the vectors of some kinds to a test and notes
them; `test_vectors.py` holds that every vector of an official account is either noted or listed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parent.parent / "fixtures" / "wechat-vectors.json"
_DOCUMENT: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
META: dict[str, Any] = _DOCUMENT["meta"]

OFFICIAL_ACCOUNT = "mp"

# Kinds that tests/wechat/test_api.py runs, beside the module that reads the platform's answers.
COVERED_IN_TEST_API = ("api_response",)

NOT_APPLICABLE = {
    "skit-msg-text-json": "official accounts get XML only; JSON pushes exist for mini programs",
    "skit-ev-revoke-json": "official accounts get XML only; JSON pushes exist for mini programs",
}


@dataclass(frozen=True)
class Vector:
    id: str
    kind: str
    family: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    optional: bool  # either outcome passes

    @property
    def official(self) -> bool:
        return self.family == OFFICIAL_ACCOUNT


ALL = [
    Vector(
        id=entry["id"],
        kind=entry["kind"],
        family=entry["family"],
        inputs=entry["inputs"],
        expected=entry["expected"],
        optional=entry.get("optional", False),
    )
    for entry in _DOCUMENT["vectors"]
]

run: set[str] = set()


def each(
    *kinds: str, families: tuple[str, ...] = (OFFICIAL_ACCOUNT,), only: Callable[[Vector], bool] | None = None
) -> pytest.MarkDecorator:
    """Runs a test with each vector of these kinds as its `vector`."""
    chosen = [
        vector
        for vector in ALL
        if vector.kind in kinds and vector.family in families and (only is None or only(vector))
    ]
    assert chosen, f"no vectors of {kinds}"
    run.update(vector.id for vector in chosen)
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: vector.id)


def named(identifier: str) -> Vector:
    """One vector that `each` hands out elsewhere, for a further test of its own."""
    return next(vector for vector in ALL if vector.id == identifier)
