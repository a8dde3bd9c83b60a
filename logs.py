"""How log lines look: one line each, whatever a stranger put into a value."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

# Of the request that is being answered, "" outside of one: each has a context of its own.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class OneLine(logging.Formatter):
    """Escapes control characters, so that nobody can write a line of their own; tracebacks stay readable."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._second, self._shown, self._offset = 0, "", ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Local time with its offset from UTC; worked out once a second."""
        second = int(record.created)
        if second != self._second:
            local = time.localtime(second)
            self._second, self._shown = second, time.strftime(self.default_time_format, local)
            self._offset = time.strftime("%z", local)
        return f"{self._shown},{int(record.msecs):03d}{self._offset}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        request = request_id.get()
        return _escaped(super().formatMessage(record) + (f" [{request}]" if request else ""))

    def formatException(self, info: Any) -> str:
        """Indented throughout: an exception's own text cannot look like a line of the log."""
        return "\n".join(f"    {_escaped(line)}" for line in super().formatException(info).split("\n"))


class Json(logging.Formatter):
    """One JSON object a line, for whoever collects logs."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := request_id.get():
            line["request"] = request
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)  # ASCII alone: nothing in it is a control character


def _escaped(text: str) -> str:
    if text.isprintable():  # nearly always, and looked at as a whole
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def set_up(level: int = logging.INFO, kind: str = "text") -> None:
    """Logs to standard error; `kind` is "text" or "json"."""
    # Of what no line of ours shows nothing is found out (Python's logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if kind == "json" else OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
