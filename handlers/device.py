"""Names for browsers and systems, from a list of ours: a User-Agent is a stranger's text. Pure."""

from __future__ import annotations

from functools import lru_cache

# The first that fits: Edge and Opera call themselves Chrome too, and Chrome calls itself Safari.
_BROWSERS = (
    ("MicroMessenger/", "WeChat"),
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Windows", "Windows"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("HarmonyOS", "HarmonyOS"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
PHONES = frozenset({"iPhone", "iPad", "HarmonyOS", "Android"})


_LONGEST_USER_AGENT = 500  # browsers send far less; what lies beyond is not looked at


def names_of(user_agent: str) -> tuple[str, str]:
    """The browser's and the system's name, each "" where it is not on our list."""
    return _names_of(user_agent[:_LONGEST_USER_AGENT])


@lru_cache(maxsize=256)
def _names_of(user_agent: str) -> tuple[str, str]:
    return _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)


def _first(names: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for mark, name in names if mark in user_agent), "")
