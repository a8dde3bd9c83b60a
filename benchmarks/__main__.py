"""`make bench`: runs all (`--only page,event`: these), prints one table, writes JSON and a picture."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.chart import chart
from benchmarks.measuring import FULL, SHORT, machine
from benchmarks.results import Row, table
from benchmarks.servers import OTHER_CORE

RESULTS = Path(__file__).parent / "results"
ALL = ("page", "event", "push", "login", "forward_auth", "codes", "memory", "expiry", "growth", "nodes")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="What saoma does beside bare Tornado.")
    parser.add_argument("--short", action="store_true", help="shows that all runs; judges no times")
    parser.add_argument(
        "--only",
        type=lambda given: given.split(","),
        default=list(ALL),
        metavar="NAMES",
        help=f"of {','.join(ALL)}",
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.only) - set(ALL):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    os.sched_setaffinity(0, {OTHER_CORE})  # for all that is started here and is not measured
    plan, rows = SHORT if given.short else FULL, list[Row]()
    for name in given.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run(plan)
    print("\n".join(table(rows, judge=not given.short)))
    RESULTS.mkdir(exist_ok=True)
    found = {
        "machine": machine(),
        "plan": asdict(plan),
        "rows": [{**asdict(row), "ratio": row.ratio, "ratio_by_cpu": row.ratio_by_cpu} for row in rows],
    }
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (RESULTS / "latest.svg").write_text(chart(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
