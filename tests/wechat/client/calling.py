"""Whoever calls the emulated platform, and what must not be told of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.platform import STABLE_TOKEN, TOKEN
from wechat.client import WechatClient

CANARY = "canarySecret0123456789"


Make = Callable[..., WechatClient]

BOTH = pytest.mark.parametrize(("stable", "path"), [(True, STABLE_TOKEN), (False, TOKEN)])
