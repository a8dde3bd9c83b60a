"""Real processes on loopback: `server.py serve` as a child, and Debian's nginx with deploy/nginx.conf."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.canaries import CANARIES
from tests.certificate import self_signed
from tests.ports import free_port, listens

ROOT = Path(__file__).parents[2]
START_SECONDS = 20.0
PR_SET_PDEATHSIG = 1


def dies_with_us(how: signal.Signals) -> Callable[[], None]:
    """For children of tests that are killed: the kernel sends them the signal."""
    library = ctypes.CDLL(None, use_errno=True)
    return lambda: library.prctl(PR_SET_PDEATHSIG, int(how))


class Node:
    """One saoma process. Its log is one file, however often it is started."""

    PROGRAM: tuple[str, ...] = ("server.py",)

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.settings = folder / "settings.yaml"
        self.settings.write_text(yaml.safe_dump(dict(settings), allow_unicode=True))
        self.change_server(port=self.port)
        self.log = folder / "server.log"
        CANARIES.listen(self._logged)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _logged(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def change_server(self, **values: Any) -> None:
        """Puts these into the settings' `server` section."""
        document = yaml.safe_load(self.settings.read_text())
        document["server"] |= values
        self.settings.write_text(yaml.safe_dump(document, allow_unicode=True))

    def begin(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAOMA_")}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self.PROGRAM, "serve", "--settings", str(self.settings)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=dies_with_us(signal.SIGKILL),
            )

    async def ready(self) -> None:
        """Returns when it takes logins."""
        deadline = time.monotonic() + START_SECONDS
        while not await self._says_ready():
            assert self._process is not None
            assert self._process.poll() is None, f"no start: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"not ready: {self.log.read_text()}"
            await asyncio.sleep(0.05)

    async def start(self) -> None:
        self.begin()
        await self.ready()

    async def end(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Returns how many seconds it took to go."""
        if self._process is None:
            return 0.0
        process, self._process = self._process, None
        since = time.monotonic()
        process.send_signal(how)
        try:
            code = await asyncio.to_thread(process.wait, START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert how is signal.SIGKILL or code == 0, f"ended with {code}: {self.log.read_text()}"
        return time.monotonic() - since

    async def _says_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in await asyncio.wait_for(reader.readline(), 5)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()


class Nginx:
    """nginx with a file of deploy/, in which ports and paths alone are others."""

    FILE = "nginx.conf"
    CERTIFICATES = "/etc/ssl/saoma/"

    def __init__(self, program: str, folder: Path, nodes: Sequence[int]) -> None:
        """`nodes` are ports."""
        self._program = program
        self._folder = folder
        self.port, self.plain_port = free_port(), free_port()
        folder.mkdir(parents=True)
        self_signed(self._folder)
        (folder / "saoma.conf").write_text(self._site(nodes))
        (folder / "nginx.conf").write_text(self._main())
        CANARIES.listen(lambda: self.logged)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def logged(self) -> str:
        """All that nginx has written of the site."""
        return "".join(log.read_text() for log in sorted(self._folder.glob("saoma*.log")))

    def _site(self, nodes: Sequence[int]) -> str:
        text = (ROOT / "deploy" / self.FILE).read_text()
        for here, ours in self._changes(text, nodes).items():
            assert here in text, f"deploy/{self.FILE} has no longer: {here}"
            text = text.replace(here, ours)
        return text

    def _changes(self, text: str, nodes: Sequence[int]) -> dict[str, str]:
        """What stands there, and what is to stand there here."""
        node = re.search(r"^ *server 127\.0\.0\.1:8888 (.+?);.*$", text, re.MULTILINE)
        assert node is not None
        return {
            node[0]: "\n".join(f"server 127.0.0.1:{port} {node[1]};" for port in nodes),
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen [::]:80;": "",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen [::]:443 ssl http2;": "",
            self.CERTIFICATES: f"{self._folder}/",
            "/var/log/nginx/": f"{self._folder}/",
        }

    def _main(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "\n".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        return f"""
            {"user root;" if os.geteuid() == 0 else ""}
            daemon off;
            worker_processes 2;
            pid {self._folder}/nginx.pid;
            error_log {self._folder}/main.log;
            events {{ worker_connections 4096; }}
            http {{ access_log off; {places} include {self._folder}/saoma.conf; }}
        """

    async def start(self) -> None:
        main = self._folder / "main.log"
        with main.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(self._program, "-p", str(self._folder), "-e", str(main)),
                    *("-c", str(self._folder / "nginx.conf")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=dies_with_us(signal.SIGTERM),
            )
        deadline = time.monotonic() + START_SECONDS
        while not listens(self.port):
            assert self._process.poll() is None, f"no start: {main.read_text()}"
            assert time.monotonic() < deadline, f"does not listen: {main.read_text()}"
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            await asyncio.to_thread(process.wait, START_SECONDS)
