"""Whoever calls the emulated platform, and what must not be told of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.platform import STABLE_TOKEN, TOKEN
from wechat.client import WechatClient

START = 1_800_000_000.0
CANARY = "canarySecret0123456789"


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


Make = Callable[..., WechatClient]

BOTH = pytest.mark.parametrize(("stable", "path"), [(True, STABLE_TOKEN), (False, TOKEN)])
