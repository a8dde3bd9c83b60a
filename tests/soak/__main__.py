"""`make soak`: SECONDS of load, RATE visits a second."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.harness import ROOT
from tests.soak.run import Soak

DATA = ROOT / ".cache"  # on a disk, where that of the sources is one: /tmp may be memory


def main() -> int:
    seconds, rate = float(os.environ.get("SECONDS") or 3600), float(os.environ.get("RATE") or 12)
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=DATA) as folder:
        soak = Soak(Path(folder), rate=rate, pause=max(1.0, seconds / 600))
        report = asyncio.run(soak.run(seconds, judges_growth=True, says=lambda line: print(line, flush=True)))
    print(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
