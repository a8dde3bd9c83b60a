"""Each benchmark once, as short as can be: that it runs and gets right answers. No time is judged."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as command
from benchmarks import event, forward_auth, measuring, servers
from benchmarks.measuring import Load, Plan
from benchmarks.results import Goal, Row, of_bare, table
from benchmarks.servers import Process, WrongAnswers

SHORTEST = Plan(1, 0.1)
RUN = ("page", "event", "login", "forward_auth")  # the makers of codes are tested in tests/codes


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    missing = [name for name in ("go", "redis-server") if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI must run the benchmarks: {missing}")
    if missing:
        pytest.skip(f"not on PATH: {missing}")


@pytest.fixture(scope="module")
def bare() -> Iterator[Process]:
    with servers.bare() as process:
        yield process


@pytest.mark.parametrize("name", RUN)
def test_a_benchmark_runs(name):
    rows = importlib.import_module(f"benchmarks.{name}").run(SHORTEST)
    assert rows
    for row in rows:
        assert "saoma" in row.loads
        for load in row.loads.values():
            assert load.operations > 0
            assert load.cpu_microseconds > 0
            assert 0 < load.p50 <= load.p99 <= load.max


def requests(folder: Path, number: int) -> Path:
    asked = [servers.request("GET", f"/page?number={n}") for n in range(number)]
    return measuring.write_requests(folder / "requests", asked)


def test_each_request_is_sent_once(bare, tmp_path):
    file = requests(tmp_path, 101)
    assert measuring.load(bare, "replay", requests=file, callers=7).operations == 101


def test_a_wrong_answer_is_no_figure(bare, tmp_path):
    file = requests(tmp_path, 3)
    with pytest.raises(WrongAnswers, match="status 200"):
        measuring.load(bare, "replay", requests=file, status=201)
    mixed = [servers.request("GET", path) for path in ("/page", "/nothing", "/page")]
    file = measuring.write_requests(tmp_path / "mixed", mixed)
    with pytest.raises(WrongAnswers, match="an answer without"):
        measuring.load(bare, "replay", requests=file, contains="WAITING")
    with pytest.raises(WrongAnswers, match="status 200 in the place of WAITING"):
        measuring.load(bare, "login", origin=servers.BASE_URL, seconds=0.01)


def test_an_event_without_its_effect_is_found(tmp_path):
    scenes = ["s" * 24]
    with (
        pytest.raises(WrongAnswers, match="a ticket is WAITING after its event"),
        servers.saoma({}, before=event.waiting(scenes), after=event.confirmed(scenes)),
    ):
        pass


def load(per_second: float, cpu: float) -> Load:
    return Load(100, per_second, cpu, 1, 2, 3, 4, 0.1, 50)


def test_sides_take_turns_and_the_first_round_does_not_count():
    asked = []

    def side(name: str, speeds: list[float]):
        def run() -> Load:
            asked.append(name)
            return load(speeds.pop(0), 1)

        return run

    found = measuring.interleaved({"a": side("a", [1e9, 1, 5, 3]), "b": side("b", [1e9, 2, 2, 2])}, 3)
    assert "".join(asked) == "baabbaab"
    assert (found["a"].per_second, found["b"].per_second) == (3, 2)


def test_the_table_says_which_goals_are_met():
    loads = {"bare": load(1000, 100), "saoma": load(550, 200)}
    row = Row("work", loads, (of_bare(loads, 0.6), Goal("p99, ms", 3, 15, at_least=False)), {"kB each": 15.2})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table([row], judge=True)]
    assert ["work", "1,000/s", "550/s", "0.55", "0.50", "of bare ≥ 0.6", "NO (0.55)"] in lines
    assert ["", "", "", "", "", "p99, ms ≤ 15", "yes (3)"] in lines
    assert ["work", "kB each", "15.2"] in lines
    assert "NO" not in "".join(table([row], judge=False))


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    loads = {"bare": load(1000, 100), "saoma": load(550, 200)}
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(forward_auth, "run", lambda plan: [Row("<work>", loads)])
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    assert command.main(["--short", "--only", "forward_auth"]) == 0
    assert "| <work> | 1,000/s | 550/s | 0.55" in capsys.readouterr().out
    written = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    assert written["rows"][0]["loads"]["saoma"]["per_second"] == 550
    assert (written["rows"][0]["ratio"], written["rows"][0]["ratio_by_cpu"]) == (0.55, 0.5)
    texts = {text.text for text in ElementTree.fromstring((tmp_path / "latest.svg").read_text()).iter()}
    assert {"<work>", "bare", "saoma", "1,000/s", "550/s"} <= texts
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing"])
