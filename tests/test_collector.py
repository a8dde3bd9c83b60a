"""What a full collection has found alive is not looked at again."""

from __future__ import annotations

import subprocess
import sys

from tests.harness import ROOT

PROGRAM = """
import gc, collector

class Node:
    def __init__(self): self.itself = self

class Told:
    gone = 0
    def __init__(self): self.itself = self
    def __del__(self): Told.gone += 1

collector.install()
assert gc.get_threshold() == collector.THRESHOLDS
kept = [Node() for _ in range(1000)]
gc.collect()
aside = gc.get_freeze_count()
assert aside >= 1000, aside                 # what lived through a full collection is set aside
assert len(gc.get_objects()) < 500, len(gc.get_objects())
cycle = Told(); del cycle
gc.collect()
assert Told.gone == 1                       # what is new is collected as ever
late = Told()
gc.collect()                                # sets it aside
del late
gc.collect()
assert Told.gone == 1                       # not looked at any more
collector.look_at_all()
gc.collect()
assert Told.gone == 2
del kept[:]                                 # cycles set aside go the same way
print("fine")
"""


def test_survivors_are_set_aside_until_all_is_looked_at():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr
