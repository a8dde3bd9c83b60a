"""The tables of docs/security-rules.md and docs/asvs.md: each rule is there, and each test that they name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = range(1, 28)


def rows() -> dict[int, tuple[list[str], str]]:
    """The named tests and what is open, by rule."""
    found = {}
    for line in (ROOT / "docs" / "security-rules.md").read_text("utf-8").splitlines():
        if re.match(r"\| \d+ \|", line):
            number, _, tests, still_open = (cell.strip() for cell in line.strip("|").split("|"))
            assert int(number) not in found
            found[int(number)] = (re.findall(r"`([^`]+)`", tests), still_open)
    return found


def exists(name: str) -> bool:
    path, _, test = name.partition("::")
    file = ROOT / path
    if not path.startswith("tests/") or not test.startswith("test_") or not file.is_file():
        return False
    tree = ast.parse(file.read_text("utf-8"))
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == test for node in tree.body
    )


def test_every_rule_is_there_with_a_test_or_as_open():
    table = rows()
    assert list(table) == list(RULES)
    assert [number for number, (tests, still_open) in table.items() if not tests and not still_open] == []


def test_every_named_test_exists():
    names = [name for tests, _ in rows().values() for name in tests]
    assert len(names) == len(set(names))
    assert [name for name in names if not exists(name)] == []


def test_every_file_and_test_that_asvs_names_exists():
    text = (ROOT / "docs" / "asvs.md").read_text("utf-8")
    names = re.findall(r"`(\w[\w.-]*/[\w./-]+(?:::\w+)?)`", text)
    assert len(names) > 100
    missing = [name for name in names if not (exists(name) if "::" in name else (ROOT / name).is_file())]
    assert missing == []


@pytest.mark.parametrize(
    "name",
    [
        "tests/handlers/test_admin.py::test_that_there_is_not",
        "tests/test_none.py::test_it",
        "tests/test_security_table.py",
        "tests/test_security_table.py::rows",
        "server.py::main",
    ],
)
def test_a_name_of_none_is_found_out(name):
    assert not exists(name)


@pytest.mark.parametrize(
    ("file", "words"),
    [("SECURITY.md", ("live relay", "never")), ("SECURITY.zh-CN.md", ("实时转", "never"))],
)
def test_a_live_relay_is_said_not_to_be_defended(file, words):
    _, _, undefended = (
        (ROOT / file)
        .read_text("utf-8")
        .partition("## What is not defended" if file == "SECURITY.md" else "## 防不住的")
    )
    assert all(word in undefended for word in words)
