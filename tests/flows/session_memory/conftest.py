"""A memory for each test."""

from __future__ import annotations

import pytest

from tests.flows.session_memory.remembering import Remembering
from tests.flows.world import World


@pytest.fixture
def here(world: World) -> Remembering:
    return Remembering(world)
