"""`server.py` that remembers few, and tells how much memory is in use: `python -m tests.soak.served`.

On SIGUSR1 it writes the figures into USED, beside its settings. What is remembered of thousands would grow
for half an hour until it is full; few are there before anything is judged.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path

import server
from app import token
from flows import session_memory
from storage import marks, rates, sqlite

USED = "used.json"
FEW = 64


class _Malloc(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def used() -> dict[str, int]:
    """After a collection: `blocks` of Python's own (512 bytes at most), and `bytes` of all larger ones."""
    gc.unfreeze()
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Malloc
    told = library.mallinfo2()
    return {"blocks": sys.getallocatedblocks(), "bytes": told.uordblks + told.hblkhd}


def main() -> int:
    settings = Path(sys.argv[sys.argv.index("--settings") + 1])

    def tell(*_: object) -> None:
        written = settings.with_name(f"{USED}.new")
        written.write_text(json.dumps(used()))
        os.replace(written, settings.with_name(USED))

    signal.signal(signal.SIGUSR1, tell)
    marks.BUCKETS = rates.MAX_KEYS = FEW
    session_memory.MAX_REMEMBERED = sqlite.MAX_KNOWN_TICKETS = token.MAX_REMEMBERED = FEW
    return server.main()


if __name__ == "__main__":
    sys.exit(main())
