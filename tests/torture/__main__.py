"""`make torture`: KILLS on SQLite, MONGODB_KILLS on MongoDB; SEED repeats the choices of a run."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.storage.servers import MongodbServer, find_command
from tests.torture.run import Report, Store, Torture, mongodb_store, sqlite_store

ANSWERS = 50  # of a server before it is killed, in the mean


def main() -> int:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        if kills := int(os.environ.get("KILLS") or 300):
            reports.append(_tortured(Path(folder) / "sqlite", sqlite_store, seed, kills, "SQLite"))
        if kills := int(os.environ.get("MONGODB_KILLS") or 100):
            mongodb = MongodbServer(find_command())
            try:
                mongodb.start()
                store = mongodb_store(f"{mongodb.url}/saoma")
                reports.append(_tortured(Path(folder) / "mongodb", lambda _: store, seed, kills, "MongoDB"))
            finally:
                mongodb.remove()
    return 1 if any(report.wrong for report in reports) else 0


def _tortured(folder: Path, store: Callable[[Path], Store], seed: int, kills: int, name: str) -> Report:
    folder.mkdir()
    print(f"{name}: {kills} kills, seed {seed}", flush=True)
    torture = Torture(folder, store(folder), seed, answers=ANSWERS, nursery=None)
    report = asyncio.run(torture.run(kills))
    for line in report.wrong[:50]:
        print(line)
    print(f"{name}: {report}", flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
