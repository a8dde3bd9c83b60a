"""Fuzzes each target for a while and keeps what it found: `python -m tests.fuzz [SECONDS [TARGET…]]`.

Needs what `make fuzz` installs. An input that breaks a promise stays in .cache/fuzz/ and is told of.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".cache" / "fuzz"
LIMITS = ("-max_len=2048", "-timeout=10", "-rss_limit_mb=1500", "-close_fd_mask=0")


def fuzz(target: str, seconds: int) -> bool:
    """Whether nothing was found."""
    found, kept = WORK / target, WORK / f"{target}.kept"
    for folder in (found, kept):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for number, data in enumerate(corpus.load(target)):
        (kept / str(number)).write_bytes(data)
    dictionary = Path(__file__).parent / "dictionaries" / f"{target}.txt"
    words = (f"-dict={dictionary}",) if dictionary.exists() else ()
    output = _atheris(target, f"-max_total_time={seconds}", *words, str(found), str(kept))
    print(f"{target}: {_figures(output)}", flush=True)
    if "\nDone " not in output:
        print(output[-4000:])
        return False
    _atheris(target, "-merge=1", str(kept), str(found))  # adds what goes further than what was kept
    corpus.save(target, [file.read_bytes() for file in kept.iterdir()])
    return True


def _atheris(target: str, *arguments: str) -> str:
    prefix = f"-artifact_prefix={WORK / target}-found-"
    command = (sys.executable, "-m", "tests.fuzz.one", target, prefix, *LIMITS, *arguments)
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return (finished.stdout + finished.stderr).decode("utf-8", "replace")


def _figures(output: str) -> str:
    """The last line of progress that libFuzzer printed, shortened."""
    progress = re.findall(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", output, re.MULTILINE)
    if not progress:
        return "did not run"
    runs, edges, _, size = progress[-1]
    done = re.search(r"Done (\d+) runs in (\d+) second", output)
    return f"{done[1] if done else runs} runs in {done[2] if done else '?'} s, {edges} edges, {size} inputs"


def main(arguments: list[str]) -> None:
    seconds = int(arguments[0]) if arguments else 60
    clean = [fuzz(target, seconds) for target in arguments[1:] or TARGETS]
    sys.exit(0 if all(clean) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
