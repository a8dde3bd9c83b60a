"""Python's collector of reference cycles, kept from stopping the loop.

Thousands of waiting pages are millions of objects, and a full collection looks at each of them while nobody
is served: a second and more. What one full collection has found alive is therefore set aside, so that the
next one looks only at what is new. Most objects go by their reference counts all the same; cycles among those
set aside are found after `look_at_all`, at a quiet time.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping

# Of the youngest objects, and how often the older ones are looked at. Python's own first number is 700: too
# few for one turn of a busy loop.
THRESHOLDS = (10_000, 10, 5)
FULL = 2


def install() -> None:
    """From now on, for the whole process; what is there already stays as long as the process."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_set_survivors_aside)


def look_at_all() -> None:
    """Lets the next full collection look at everything."""
    gc.unfreeze()


def _set_survivors_aside(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == FULL:
        gc.freeze()
