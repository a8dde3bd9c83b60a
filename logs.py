"""How log lines look: one line each, whatever a stranger put into a value."""

from __future__ import annotations

import logging
import sys


class OneLine(logging.Formatter):
    """Escapes control characters, so that nobody can write a line of their own; tracebacks stay readable."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in super().formatMessage(record)
        )


def set_up(level: int = logging.INFO) -> None:
    """Logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
