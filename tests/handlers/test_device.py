"""Names of browsers and systems come from a list of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import device

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "names"),
    [
        (
            f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36",
            ("Chrome", "Windows"),
        ),
        (
            f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
            ("Edge", "Windows"),
        ),
        (
            f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} Chrome/139.0 Safari/537.36 OPR/124.0",
            ("Opera", "Linux"),
        ),
        (f"{MOZILLA} (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0", ("Firefox", "Linux")),
        (
            f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/140.0 Safari/537.36",
            ("Chrome", "ChromeOS"),
        ),
        (
            f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/18.0 Safari/605.1.15",
            ("Safari", "macOS"),
        ),
        (
            f"{MOZILLA} (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
            ("Safari", "iPhone"),
        ),
        (f"{MOZILLA} (iPad; CPU OS 17_0 like Mac OS X) FxiOS/140.0 Mobile Safari/605", ("Firefox", "iPad")),
        (
            f"{MOZILLA} (iPhone; CPU iPhone OS 18_0 like Mac OS X) CriOS/140 Mobile Safari/604",
            ("Chrome", "iPhone"),
        ),
        (
            f"{MOZILLA} (Linux; Android 14; K) {WEBKIT} Chrome/140.0 Mobile Safari/537.36",
            ("Chrome", "Android"),
        ),
        (
            f"{MOZILLA} (Linux; Android 14) {WEBKIT} Version/4.0 Chrome/130.0 Mobile Safari/537.36"
            " MicroMessenger/8.0.50",
            ("WeChat", "Android"),
        ),
        (f"{MOZILLA} (Phone; OpenHarmony 5.0; HarmonyOS 5.0) ArkWeb/4 Mobile", ("", "HarmonyOS")),
        ("curl/8.5.0", ("", "")),
        ("", ("", "")),
        ("<script>Chrome</script>", ("", "")),
    ],
)
def test_names(user_agent: str, names: tuple[str, str]) -> None:
    assert device.names_of(user_agent) == names


@given(st.text())
def test_nothing_of_a_stranger_is_ever_shown(user_agent: str) -> None:
    browser, system = device.names_of(user_agent)
    assert browser in {"", *(name for _, name in device._BROWSERS)}
    assert system in {"", *(name for _, name in device._SYSTEMS)}
    assert f"{browser}{system}".isascii()
