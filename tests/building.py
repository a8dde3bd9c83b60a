"""What is built once for all runs of tests and benchmarks: by one process at a time."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotBuilt(Exception):
    """There is no Go here, or the program could not be built; the text says what is missing."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Whoever else builds there waits; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built_by_go(sources: Path, builds: Path) -> Path:
    """The program of the Go module in `sources`, which names it. Raises NotBuilt.

    It is built from these very sources and kept in `builds`: anew when they change.
    """
    with alone(builds):
        digest = hashlib.sha256()
        for file in sorted([*sources.glob("go.*"), *sources.glob("*.go")]):
            digest.update(file.read_bytes())
        program = builds / digest.hexdigest()[:16] / sources.name
        if not program.exists():
            _build(sources, program, builds)
        return program


def _build(sources: Path, program: Path, builds: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise NotBuilt(f"Go (to build {sources.name}) is not on PATH")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=builds) as folder:
        fresh = Path(folder) / program.name
        build = subprocess.run(
            [go, "build", "-trimpath", "-o", str(fresh), "."], cwd=sources, capture_output=True, text=True
        )
        if build.returncode:
            raise NotBuilt(f"{sources.name} could not be built: {build.stderr[-500:]}")
        fresh.replace(program)
    for former in builds.iterdir():
        if former.is_dir() and former != program.parent and (former / program.name).exists():
            shutil.rmtree(former, ignore_errors=True)
