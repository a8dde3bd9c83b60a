"""Programs of other people that tests need and that may not be here."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


class NotHere(Exception):
    """A program or its packages are not installed here; the message says which."""


def find(name: str, package: str) -> str:
    """Where the program is, /usr/sbin too. Raises NotHere, naming Debian's package."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotHere(f"{name} is not on PATH (Debian's {package})")
    return program


def skip(missing: Exception | str) -> NoReturn:
    """Skips the test; fails it where CI is set, as CI must run it."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this: {missing}")
    pytest.skip(str(missing))
