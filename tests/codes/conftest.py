"""What tests of codes share."""

from __future__ import annotations

import random
import string

import pytest

ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture(scope="session")
def tails() -> list[str]:
    """Ends of addresses, always the same."""
    chance = random.Random(7)
    return ["".join(chance.choices(ALPHABET, k=20 + number % 5)) for number in range(2000)]
