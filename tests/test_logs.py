"""A log line is one line, whatever a stranger put into a value."""

from __future__ import annotations

import logging
import sys
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import logs


def record(message: str, *values: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("saoma.test", level, __file__, 1, message, values, None)


@given(st.text())
def test_whatever_is_logged_is_one_printable_line(value: str) -> None:
    line = logs.OneLine().format(record("told: %s", value))
    assert line.isprintable()
    line.encode("utf-8")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\n2026-01-01 INFO forged", "a\\r\\n2026-01-01 INFO forged"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eturned", "\\u202eturned"),
        ("\u2028line", "\\u2028line"),
        ("\ud800", "\\ud800"),
        ("扫码 🐼", "扫码 🐼"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_escaped(value: str, shown: str) -> None:
    assert logs.OneLine().format(record("%s", value)).endswith(f"saoma.test: {shown}")


def test_a_line_says_when_how_bad_and_where() -> None:
    line = logs.OneLine().format(record("words", level=logging.WARNING))
    at, words = line[:28], line[29:]
    assert words == "WARNING saoma.test: words"
    assert datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f%z").utcoffset() is not None


def test_an_exceptions_text_forges_no_line() -> None:
    try:
        raise ValueError("inside\n2026-01-01 INFO forged\x1b[31m")
    except ValueError:
        failed = record("failed", level=logging.ERROR)
        failed.exc_info = sys.exc_info()
    lines = logs.OneLine().format(failed).split("\n")
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])


def test_a_traceback_stays_readable() -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        failed = record("failed", level=logging.ERROR)
        failed.exc_info = sys.exc_info()
    text = logs.OneLine().format(failed)
    assert text.splitlines()[0].endswith("saoma.test: failed")
    assert text.splitlines()[-1] == "    ValueError: inside"
    assert len(text.splitlines()) > 3


def test_lines_go_to_standard_error(monkeypatch, capsys) -> None:
    root, ours = logging.getLogger(), logging.getLogger("saoma")
    before, level, our_level = root.handlers[:], root.level, ours.level
    root.handlers = []
    ours.setLevel(logging.NOTSET)  # the canaries look at more than is shown
    try:
        logs.set_up(logging.WARNING)
        logging.getLogger("saoma").warning("one\ntwo")
        logging.getLogger("saoma").info("nothing")
    finally:
        root.handlers = before
        root.setLevel(level)
        ours.setLevel(our_level)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("WARNING saoma: one\\ntwo\n")
    assert shown.err.count("\n") == 1
