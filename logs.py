"""How log lines look: one line each, whatever a stranger put into a value."""

from __future__ import annotations

import logging
import sys
from typing import Any


class OneLine(logging.Formatter):
    """Escapes control characters, so that nobody can write a line of their own; tracebacks stay readable."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escaped(super().formatMessage(record))

    def formatException(self, info: Any) -> str:
        """Indented throughout: an exception's own text cannot look like a line of the log."""
        return "\n".join(f"    {_escaped(line)}" for line in super().formatException(info).split("\n"))


def _escaped(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def set_up(level: int = logging.INFO) -> None:
    """Logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
