"""The servers that are measured, each in a process of its own on one core."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import config
from composition import open_storage
from emulator import Account
from storage.base import Transaction
from tests.cluster.processes import dies_with_us
from tests.ports import free_port
from wechat.callback import Mode

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".cache" / "benchmarks"  # on a disk, where that of the sources is one: /tmp may be memory
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORE = _CORES[0], _CORES[-1]
START_SECONDS = 60.0
LOOK_SECONDS, IDLE_SHARE = 0.2, 0.02
HOST = "login.example.com"  # what all requests ask for, as behind a proxy
BASE_URL = f"https://{HOST}"

Work = Callable[[Transaction], Awaitable[None]]


class WrongAnswers(Exception):
    """What a server did is not what was asked for."""


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """As it goes over the wire, the same for all servers."""
    lines = {"Host": HOST, **(headers or {})} | ({"Content-Length": str(len(body))} if body else {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def account(mode: Mode) -> Account:
    """An official account of the emulator's."""
    return Account(
        appid="wx0123456789abcdef",
        secret="0123456789abcdef0123456789abcdef",  # noqa: S106  # nobody's
        token="tokenOfBenchmarks",  # noqa: S106
        encoding_aes_key="" if mode is Mode.PLAIN else "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
        mode=mode,
        callback_url=f"{BASE_URL}/wechat/callback",
    )


def wechat(account: Account, **more: Any) -> dict[str, Any]:
    """The `wechat` section for that account."""
    return {
        "appid": account.appid,
        "secret": account.secret,
        "token": account.token,
        "encoding_aes_key": account.encoding_aes_key,
        "mode": account.mode.value,
        **more,
    }


def pinned(core: int) -> Callable[[], None]:
    """For a child: it stays on that core, and ends with us in any case."""
    dies = dies_with_us(signal.SIGKILL)

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        dies()

    return prepare


def cpu_seconds(pid: int) -> float:
    """Of all the process's threads, those that have ended too."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of clock_getcpuclockid(3)


class Process:
    """A server that listens on a port of loopback."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.pid = process.pid
        self.port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def send(self, what: signal.Signals) -> None:
        os.kill(self.pid, what)

    def settle(self) -> None:
        """Returns when it has nothing to do any more."""
        before, now = -1.0, self.cpu_seconds()
        while now - before > IDLE_SHARE * LOOK_SECONDS:
            time.sleep(LOOK_SECONDS)
            before, now = now, self.cpu_seconds()

    def memory(self) -> int:
        """Bytes that are its own."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return sum(1024 * int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))


@contextmanager
def on_core(core: int, command: Sequence[str], port: int, log: Path) -> Iterator[Process]:
    """The program until the block ends, from when it listens. Raises RuntimeError where it does not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAOMA_")}
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # ours
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=pinned(core),
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield Process(process, port)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it does not start: {log.read_text()[-4000:]}") from None
        time.sleep(0.02)


@contextmanager
def data_folder() -> Iterator[Path]:
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        yield Path(folder)


@contextmanager
def bare() -> Iterator[Process]:
    """Tornado with nothing of ours: `bare.py`."""
    port = free_port()
    with data_folder() as folder:
        command = [sys.executable, "-m", "benchmarks.bare", str(port)]
        with on_core(SERVER_CORE, command, port, folder / "server.log") as process:
            yield process


@contextmanager
def emulator(account: Account) -> Iterator[Process]:
    """WeChat's platform, beside the driver."""
    port = free_port()
    given = {
        "port": port,
        "callback-url": account.callback_url,
        "appid": account.appid,
        "secret": account.secret,
        "token": account.token,
        "encoding-aes-key": account.encoding_aes_key,
        "mode": account.mode,
    }
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    with data_folder() as folder:
        command = [sys.executable, "-m", "emulator", *options]
        with on_core(OTHER_CORE, command, port, folder / "server.log") as process:
            yield process


@contextmanager
def saoma(
    document: Mapping[str, Any],
    *,
    before: Iterable[Work] = (),
    after: Iterable[Work] = (),
    core: int = SERVER_CORE,
) -> Iterator[Process]:
    """`server.py serve` with the settings of `document`, without rates, on SQLite unless it says otherwise.

    `before` is done to its store before it starts and `after` once it has ended, which may raise. Raises
    WrongAnswers where it has logged a warning or an error that it does not give at each start.
    """
    port = free_port()
    with data_folder() as folder:
        server = {"port": port, "base_url": BASE_URL, **document.get("server", {})}
        wanted = {
            "storage": {"url": "sqlite:saoma.db"},
            "limits": {"enabled": False},
            "metrics": {"port": 0},
            **document,
            "server": server,
        }
        file, log = folder / "settings.yaml", folder / "server.log"
        file.write_text(yaml.safe_dump(wanted, allow_unicode=True), "utf-8")
        settings = config.load(file, {})
        asyncio.run(_work(settings, before))
        command = [sys.executable, "server.py", "serve", "--settings", str(file)]
        with on_core(core, command, port, log) as process:
            yield process
        asyncio.run(_work(settings, after))
        told = [line for line in log.read_text().splitlines() if re.search(r" (WARNING|ERROR) ", line)]
        unforeseen = [line for line in told if not any(warning in line for warning in settings.warnings)]
        if unforeseen:
            raise WrongAnswers(f"the server has logged: {unforeseen[:5]}")


async def _work(settings: config.Settings, works: Iterable[Work]) -> None:
    works = list(works)
    if works:
        storage = await open_storage(settings)
        try:
            for work in works:
                await storage.transact(work)
        finally:
            await storage.close()
