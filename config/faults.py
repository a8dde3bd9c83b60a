"""What is told of settings that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable


class FaultySettings(Exception):
    """`faults` are lines of `path: what it should be`."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))
