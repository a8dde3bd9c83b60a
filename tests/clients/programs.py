"""Other people's programs as processes on loopback, and the packages that they need."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.building import alone
from tests.cluster.processes import dies_with_us
from tests.missing import NotHere, find
from tests.ports import listens

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
APACHE_MODULES = Path("/usr/lib/apache2/modules")
START_SECONDS = 60.0  # the JVM, on a busy machine


def find_apache() -> str:
    """Apache with mod_auth_openidc. Raises NotHere."""
    program = find("apache2", "apache2")
    if not (APACHE_MODULES / "mod_auth_openidc.so").exists():
        raise NotHere("Apache has no mod_auth_openidc (Debian's libapache2-mod-auth-openidc)")
    return program


@asynccontextmanager
async def started(
    command: Sequence[str | Path],
    folder: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[str]:
    """The program, running in `folder` until the block ends, once it listens; its origin.

    What it says is in `program.log` of a folder of its own, and in the failure where it does not start.
    """
    with tempfile.TemporaryDirectory() as logs:
        log = Path(logs) / "program.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=dies_with_us(signal.SIGTERM),
            )
        try:
            await _comes_up(process, port)
            yield f"http://127.0.0.1:{port}"
        except Exception as failed:
            failed.add_note(f"{command[0]} said: {log.read_text(errors='replace')[-4000:]}")
            raise
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, START_SECONDS)


async def _comes_up(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not listens(port):
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, "it does not listen"
        await asyncio.sleep(0.02)


def npm_packages(folder: Path) -> Path:
    """`node_modules` with what the folder's lock names, installed once for each lock. Raises NotHere."""
    npm = find("npm", "npm")
    version = _run([find("node", "nodejs"), "-p", "process.versions.node"], folder)
    if int(version.partition(".")[0]) < 20:
        raise NotHere(f"openid-client needs Node 20 or newer, here is {version.strip()}")
    names = ("package.json", "package-lock.json", ".npmrc")

    def install(fresh: Path) -> None:
        for name in names:
            shutil.copy(folder / name, fresh)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], fresh)

    return _cached(folder, [folder / name for name in names], install) / "node_modules"


def go_program(folder: Path) -> Path:
    """The program of a folder with Go sources, built once for each content. Raises NotHere."""
    go = find("go", "golang-go")
    sources = [folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*.go"))]

    def build(fresh: Path) -> None:
        _run([go, "build", "-trimpath", "-o", str(fresh / "program"), "."], folder)

    return _cached(folder, sources, build) / "program"


def java_program(folder: Path) -> Path:
    """The jar of a folder with a pom.xml, built once for each content. Raises NotHere.

    Maven keeps what it downloads in `.cache/m2` beside our sources.
    """
    find("javac", "openjdk-17-jdk-headless")
    maven = find("mvn", "maven")
    sources = sorted(path for path in folder.rglob("*") if path.is_file() and "target" not in path.parts)

    def build(fresh: Path) -> None:
        for source in sources:
            (fresh / source.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, fresh / source.relative_to(folder))
        _run([maven, "-B", "-q", f"-Dmaven.repo.local={CACHE / 'm2'}", "package"], fresh)

    return next((_cached(folder, sources, build) / "target").glob("*.jar"))


def _cached(folder: Path, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """A place that `make` has filled from these sources of the folder; another one for each content."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(
            f"{source.relative_to(folder)} {source.stat().st_size}\n".encode() + source.read_bytes()
        )
    places = CACHE / "programs" / "-".join(folder.relative_to(ROOT).parts)
    place = places / digest.hexdigest()[:16]
    with alone(places):
        if place.exists():
            return place
        with tempfile.TemporaryDirectory(dir=places) as name:
            fresh = Path(name) / "fresh"
            fresh.mkdir()
            make(fresh)
            formers = [former for former in places.iterdir() if former != Path(name)]
            fresh.replace(place)
        for former in formers:
            if former.is_dir():
                shutil.rmtree(former, ignore_errors=True)
    return place


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{command[0]} could not get or build it: {(done.stdout + done.stderr)[-800:]}")
    return done.stdout
