"""What `deploy/` says is done: the Dockerfile's commands by hand, as no engine is here; systemd's opinion.

Not shown: that the base images are there, that `useradd` and `install -d -o` do in them what they do in
Debian, how an engine mounts the volume and reads `.dockerignore` (its few rules are followed by hand below).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.harness import ROOT
from tests.ports import free_port

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
UNIT = ROOT / "deploy" / "saoma.service"
NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def instructions() -> list[tuple[str, str]]:
    lines = DOCKERFILE.read_text("utf-8").splitlines()
    words = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, rest in words]


def said(word: str) -> list[str]:
    return [rest for known, rest in instructions() if known == word]


def in_the_image() -> list[str]:
    """The tracked files that `.dockerignore` lets through: it forbids all, then names what may go."""
    rules = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"
    ]
    assert rules[0] == "*"
    assert rules[-1] == "**/__pycache__"
    named = [rule.removeprefix("!") for rule in rules[1:-1]]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        path
        for path in tracked.stdout.splitlines()
        if any(Path(path.split("/")[0]).match(name) for name in named) and (ROOT / path).exists()
    ]


@dataclass
class Image:
    """The folders of an image below a scratch folder, for an ordinary user."""

    root: Path
    port: int

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def here(self, command: str) -> str:
        """The command with the image's folders and port put where they are."""
        for folder in ("/opt/saoma", "/etc/saoma", "/var/lib/saoma"):
            command = command.replace(folder, str(self.place(folder)))
        return command.replace(":8888/", f":{self.port}/")

    @property
    def environment(self) -> dict[str, str]:
        (given,) = said("ENV")
        own = dict(pair.split("=", 1) for pair in shlex.split(self.here(given)))
        return {
            "PATH": f"{self.place('/bin')}:/usr/bin:/bin",
            "HOME": str(self.root),
            **own,
            "SAOMA_SERVER_ADDRESS": "127.0.0.1",  # tests listen on loopback alone
            "SAOMA_SERVER_PORT": str(self.port),
            "SAOMA_METRICS_PORT": "0",
        }

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.here(part) for part in command],
            cwd=self.place("/opt/saoma"),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **NOBODY,
        )


def python_for_everybody() -> Path:
    """One that an ordinary user may run: ours may lie in root's own folder."""
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        try:
            program = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
            if (
                subprocess.run([python, "-c", program], capture_output=True, cwd="/", **NOBODY).returncode
                == 0
            ):
                return python
        except OSError:
            continue
    pytest.skip("there is no Python that an ordinary user may run")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    python = python_for_everybody()
    folder = Path(tempfile.mkdtemp(prefix="saoma-image-"))
    made = Image(folder, free_port())
    for path in ("/opt/saoma", "/etc/saoma", "/var/lib/saoma"):
        made.place(path).mkdir(parents=True)
    made.place("/bin").mkdir()
    made.place("/bin/python").symlink_to(python)
    for path in in_the_image():
        to = made.place(f"/opt/saoma/{path}")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, to)
    made.place("/etc/saoma/settings.yaml").write_text(
        f"app: {{issuer: https://app.example.com, key: {'k' * 32}}}\n", "utf-8"
    )
    if NOBODY:
        subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    made.place("/var/lib/saoma").chmod(0o700)
    try:
        installing, _ = said("RUN")
        assert "--require-hashes" in installing
        done = made.start(["sh", "-c", installing])
        output, _ = done.communicate(timeout=240)
        assert done.returncode == 0, output
        for path in ("/opt/saoma", "/etc/saoma"):  # from here on only the volume is written
            subprocess.run(["chmod", "-R", "a-w", str(made.place(path))], check=True)
        yield made
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def health(image: Image) -> int:
    (check,) = said("HEALTHCHECK")
    asking = image.start(json.loads(check[check.index("[") :]))
    asking.communicate(timeout=20)
    return asking.returncode


def test_its_install_health_and_stop(image):
    """As an ordinary user who can write nowhere but in the volume."""
    assert health(image) != 0, "nobody serves yet"
    (command,), (stop,) = said("CMD"), said("STOPSIGNAL")
    serving = image.start(json.loads(command))
    try:
        deadline = time.monotonic() + 30
        while health(image) != 0:
            assert serving.poll() is None, serving.communicate()[0]
            assert time.monotonic() < deadline
        ask = build_opener(ProxyHandler({})).open
        with ask(f"http://127.0.0.1:{image.port}/login") as page:
            assert b"data-ticket" in page.read()
        with ask(f"http://127.0.0.1:{image.port}/static/login.js") as script:
            assert script.status == 200
        assert {path.name for path in image.place("/var/lib/saoma").iterdir()} >= {"saoma.db", "secret.key"}
    finally:
        serving.send_signal(signal.Signals[stop])
        output, _ = serving.communicate(timeout=20)
    assert serving.returncode == 0, output
    if NOBODY:
        assert image.place("/var/lib/saoma/saoma.db").stat().st_uid == NOBODY["user"]


def test_nobody_is_root_in_it_and_nothing_secret_goes_in():
    assert instructions()[0][0] == "FROM"
    assert {image.split(" ")[0] for image in said("FROM")} == {"python:3.11-slim"}
    assert said("USER") == ["saoma"]
    assert said("VOLUME") == ["/var/lib/saoma"]
    assert not said("ARG")
    assert not said("ADD")
    assert not re.search(r"(?i)password|secret|token|key", " ".join(said("ENV")))
    roots = {path.split("/")[0] for path in in_the_image()}
    assert not roots & {"tests", "settings.yaml", "data", ".git", "examples", "deploy", "docs"}
    order = [word for word, _ in instructions()]
    assert order.index("USER") < order.index("CMD")


# --- The systemd unit.

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and os.environ.get("CI") != "true",
    reason="there is no systemd-analyze",
)


@analyze
def test_systemd_thinks_it_safe(tmp_path):
    """1.1 of 10; what is left is the network and Unix sockets, which it needs."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=12", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level for saoma.service" in done.stdout
    loose = tmp_path / "saoma.service"
    loose.write_text(re.sub(r"(?m)^(Protect|Private|Restrict|Capab).*\n", "", UNIT.read_text("utf-8")))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=12", "--no-pager", str(loose)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0, "it would find no unit unsafe"


@analyze
@pytest.mark.parametrize("credential", [False, True])
def test_systemd_understands_it(tmp_path, credential):
    unit = UNIT.read_text("utf-8").replace("/opt/saoma/.venv/bin/python", sys.executable)
    unit = unit.replace("/opt/saoma", str(ROOT))
    if credential:
        unit = re.sub(r"(?m)^#(LoadCredential|Environment)=", r"\1=", unit)
        assert "\nLoadCredential=" in unit
    (tmp_path / "saoma.service").write_text(unit, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "saoma.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    of_ours = [line for line in done.stderr.splitlines() if "saoma.service" in line]
    assert of_ours == []
