"""The short form of `make soak`, and what its verdict is worth."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak.run import Soak
from tests.soak.samples import Sample, Used, growth, kept, slope

SECONDS, RATE = 6.0, 12.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_all_are_answered_rightly_and_descriptors_come_back(tmp_path: Path):
    """`pytest -s` prints the figures. Of growth so short a time says nothing."""
    report = await Soak(tmp_path, rate=RATE, pause=1.0).run(SECONDS, judges_growth=False)
    print(f"\n{report}")
    assert not report.wrong, report.wrong
    assert report.logins > 0
    assert report.told > 0


# --- The verdict.


def hour(**grown: float) -> list[Sample]:
    """Flat but for what is named, which grows by so much over it; it takes half of its memory at once."""
    flat = {"resident": 90.0, "own": 80.0, "descriptors": 40, "threads": 6, "database": 1.0}
    return [
        Sample(
            seconds=minute * 60.0,
            processor=minute * 6.0,
            waiting=30,
            connections=30,
            log=4.0,
            **{
                name: type(level)(level * min(1.0, 0.5 + minute / 10) + grown.get(name, 0.0) * minute / 60)
                for name, level in flat.items()
            },
        )
        for minute in range(60)
    ]


def test_what_is_flat_after_a_while_is_well():
    assert growth(hour()) == []
    assert growth(hour(database=100.0)) == []
    leap = hour()
    leap[45] = hour(resident=500.0, own=500.0, descriptors=900)[45]
    assert growth(leap) == []


@pytest.mark.parametrize("what", ["resident", "own"])
def test_memory_that_grows_is_found(what):
    assert growth(hour(**{what: 2.0})) == []
    assert len(growth(hour(**{what: 6.0}))) == 1


@pytest.mark.parametrize(("what", "number"), [("descriptors", 40.0), ("threads", 10.0)])
def test_what_is_not_given_back_is_found(what, number):
    assert len(growth(hour(**{what: number}))) == 1


def test_what_a_visit_leaves_is_found():
    before = Used(visits=3000, blocks=400_000, bytes=20_000_000)
    assert kept(before, Used(visits=6000, blocks=401_000, bytes=20_200_000)) == []
    assert len(kept(before, Used(visits=6000, blocks=403_000, bytes=20_000_000))) == 1
    assert len(kept(before, Used(visits=6000, blocks=400_000, bytes=20_600_000))) == 1


def test_a_slope_is_that_of_most():
    assert slope([(0, 0), (1, 2), (2, 4), (3, 600), (4, 8)]) == pytest.approx(2, abs=0.5)
    assert slope([(0, 1)]) == 0
