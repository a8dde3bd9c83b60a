"""Imports point one way: cores, drivers, flows, handlers, composition.py (docs/architecture.md).

The arrows are read from the sources, those inside functions and `if TYPE_CHECKING` too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Drivers of the outside world that happen to live in a package of cores.
DRIVERS = ("storage", "broker", "wechat.client", "wechat.account_check", "app.keys", "outbound")
CORES = ("tickets", "wechat", "app", "codes", "oidc", "webhooks")
CONCRETE = ("storage.sqlite", "storage.mongodb", "storage.redis", "broker.local", "broker.redis")
OURS = (
    "config",
    "tickets",
    "wechat",
    "app",
    "codes",
    "oidc",
    "webhooks",
    "storage",
    "broker",
    "flows",
    "handlers",
    "emulator",
    "server",
    "composition",
    "check",
    "demo",
    "draining",
    "outbound",
    "control",
    "notices",
    "admin_link",
    "backup",
)

# The command line and what it starts; of these one room picks drivers, and one asks Redis about itself.
STARTING = ("server", "composition", "check", "demo", "control", "notices", "admin_link", "backup")
PICKING = ("composition", "check")

# What brings time, chance, processes or the network with it.
IMPURE = (
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "threading",
    "time",
    "urllib.request",
)
DATABASES = ("bson", "motor", "pymongo", "redis", "sqlite3")
FRAMEWORK = ("tornado",)


def under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def concrete(module: str) -> bool:
    """Also the drivers' further parts: storage.sqlite_writer."""
    return module.startswith(CONCRETE)


def imports_of(source: str, module: str, *, package: bool = False) -> set[str]:
    """All that a module imports, by full name: `from a import b` counts as a and as a.b."""
    found: set[str] = set()
    here = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=origin, names=names, level=level):
                start = (
                    ".".join([*here[: len(here) - level + 1], *filter(None, [origin])]) if level else origin
                )
                found |= {str(start)} | {f"{start}.{name.name}" for name in names}
            case ast.Call(func=ast.Name(id="__import__")):
                found.add("__import__")
            case ast.Call(func=ast.Attribute(attr="import_module")):
                found.add("importlib")
    return found


def faults(module: str, imported: set[str]) -> Iterator[str]:
    """What of `imported` this module may not have."""
    for name in sorted(imported):
        if wrong(module, name):
            yield f"{module} imports {name}"


def wrong(module: str, name: str) -> bool:
    if name in ("__import__", "importlib"):
        return True  # arrows that nobody can read
    if under(name, "tests"):
        return True
    if under(name, "motor", "pymongo", "bson") and not module.startswith("storage.mongodb"):
        return True
    if module in STARTING:
        return concrete(name) and module not in PICKING
    if under(name, *STARTING):
        return not module.startswith("emulator.")  # emulator.server is called by its full name
    if under(name, "emulator"):
        return not under(module, "emulator")
    if under(module, "emulator"):
        return under(name, *DRIVERS, "flows", "handlers", "config", "errors") or under(name, *DATABASES)
    if under(module, *DRIVERS):
        return under(name, "flows", "handlers", "config")
    if under(module, *CORES):
        return under(name, *IMPURE, *DATABASES, *FRAMEWORK, *DRIVERS, "flows", "handlers", "config", "logs")
    if under(module, "flows"):
        return under(name, "handlers", *DATABASES) or concrete(name)
    if under(module, "handlers"):
        return concrete(name) or under(name, *DATABASES)
    return under(name, "flows", "handlers", *DRIVERS)  # config, errors.py, logs.py, translations.py


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in [*root.glob("*.py"), *(file for name in OURS for file in (root / name).rglob("*.py"))]:
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def all_faults(root: Path) -> list[str]:
    return [
        fault
        for module, path in modules(root)
        for fault in faults(
            module, imports_of(path.read_text("utf-8"), module, package=path.name == "__init__.py")
        )
    ]


def test_imports_point_one_way():
    assert all_faults(ROOT) == []


def test_the_walk_sees_the_code():
    known = {module for module, _ in modules(ROOT)}
    expected = {
        "server",
        "config",
        "tickets.ticket",
        "wechat.api",
        "storage.sqlite",
        "flows.watch",
        "handlers",
    }
    assert expected <= known
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= set(OURS), "a package that the rules do not know"


def test_cores_take_the_standard_library_and_cryptography_alone():
    allowed = {"Crypto", "pyqrcode", "png", "joserfc", "errors"}
    for module, path in modules(ROOT):
        if under(module, *CORES) and not under(module, *DRIVERS):
            package = path.name == "__init__.py"
            roots = {
                name.split(".")[0] for name in imports_of(path.read_text("utf-8"), module, package=package)
            }
            assert roots <= allowed | set(CORES) | sys.stdlib_module_names, module


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tickets.ticket", "import time"),
        ("tickets.ticket", "import tornado.web"),
        ("tickets.ticket", "def now():\n    from time import time\n"),
        ("tickets.ticket", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import storage.base"),
        ("tickets.ticket", "from flows import scan"),
        ("tickets.ticket", "import errors, os.path"),
        ("wechat.crypto", "from secrets import token_bytes"),
        ("wechat.api", "from wechat.client import WechatClient"),
        ("wechat.api", "from wechat import client"),
        ("wechat.api", "from . import client"),
        ("wechat.api", "from .client import WechatClient"),
        ("wechat.callback", "import asyncio"),
        ("wechat.callback", "import config"),
        ("codes.draw", "import random as r"),
        ("codes.draw", "import importlib\nimportlib.import_module('time')"),
        ("codes.draw", "__import__('time')"),
        ("storage.sqlite", "from flows.context import Context"),
        ("storage.sqlite", "import pymongo"),
        ("storage.base", "from motor.motor_asyncio import AsyncIOMotorClient"),
        ("broker.local", "import handlers.base"),
        ("wechat.client", "from server import make_client"),
        ("outbound", "from config import Settings"),
        ("webhooks.signing", "import time"),
        ("webhooks.signing", "from outbound import Outbound"),
        ("flows.scan", "from handlers.base import BaseHandler"),
        ("flows.scan", "from storage.sqlite import open"),
        ("flows.scan", "from storage import mongodb"),
        ("flows.scan", "import storage.sqlite_writer"),
        ("flows.scan", "from broker.local import LocalBroker"),
        ("flows.scan", "import sqlite3"),
        ("flows.scan", "import server"),
        ("handlers.pages", "from storage import sqlite"),
        ("handlers.pages", "from broker import local"),
        ("handlers.pages", "from server import Server"),
        ("handlers.pages", "from emulator import Emulator"),
        ("emulator.app", "from flows import scan"),
        ("emulator.app", "from wechat.client import WechatClient"),
        ("emulator.app", "from storage import base"),
        ("config", "from flows import scan"),
        ("errors", "import storage.base"),
        ("composition", "import pymongo"),
        ("server", "from storage import sqlite"),
        ("demo", "from broker.local import LocalBroker"),
        ("notices", "from storage import sqlite"),
        ("flows.outbox", "import control"),
        ("handlers.pages", "from composition import Server"),
        ("flows.scan", "from tests.harness import Clock"),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert list(faults(module, imports_of(source, module)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tickets.ticket", "import hashlib, timeit\nfrom tickets.states import State"),
        ("tickets.ticket", "from .states import State"),
        ("wechat.client", "import asyncio, random\nfrom tornado.httpclient import AsyncHTTPClient"),
        ("storage.mongodb_people", "from pymongo import ReturnDocument"),
        ("storage.mongodb", "from motor.motor_asyncio import AsyncIOMotorClient"),
        ("flows.outbox", "from outbound import Outbound"),
        ("flows.profiles", "from wechat.client import WechatClient\nfrom storage.base import Storage"),
        ("handlers.base", "from flows import sessions\nfrom storage.records import User"),
        (
            "composition",
            "from emulator import Emulator\nfrom storage import sqlite\nfrom broker.local import LocalBroker",
        ),
        ("emulator.__main__", "from emulator.server import Emulator\nimport time, tornado.web"),
    ],
)
def test_a_right_arrow_is_not(module, source):
    assert list(faults(module, imports_of(source, module))) == []


def test_a_wrong_arrow_in_a_file_is_found(tmp_path):
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets" / "__init__.py").write_text("from . import inner")
    (tmp_path / "tickets" / "inner.py").write_text("def f():\n    import time\n    return time.time()\n")
    assert all_faults(tmp_path) == ["tickets.inner imports time"]
