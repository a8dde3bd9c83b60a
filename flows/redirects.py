"""Where a browser may be sent after its login (security rule 12). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from errors import BadRequest

HOME = "/"
MAX_LENGTH = 4096

_UNFIT = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff\\]")


def allowed(target: str, origins: Collection[str]) -> bool:
    """Whether `target` is a path of ours, or an address at exactly one of the `origins`.

    Refused: `//host`, a backslash (browsers read it as a slash), controls and blanks (browsers drop them),
    a user part, any other scheme, and half characters, which no store keeps.
    """
    if not target or len(target) > MAX_LENGTH:
        return False
    if _UNFIT.search(target):
        return False
    if target.startswith("/"):
        return not target.startswith("//")
    try:
        parts = urlsplit(target)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.netloc:
        return False
    return f"{parts.scheme}://{parts.netloc}".lower() in origins


def checked(target: str, origins: Collection[str]) -> str:
    """`target`, or HOME for "". Raises BadRequest."""
    if not target:
        return HOME
    if not allowed(target, origins):
        raise BadRequest("next leads to a place that is not allowed.")
    return target
