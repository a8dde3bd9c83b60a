"""Every kept input of the fuzzers once more, as an ordinary test; `make fuzz` looks for new ones."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_inputs(target):
    inputs = corpus.load(target)
    taken = [TARGETS[target](data) for data in inputs]
    assert any(taken), "nothing gets past the door"
    assert target == "webhook" or not all(taken), "nothing is refused"


def test_no_corpus_without_a_target_and_none_is_big():
    files = {file.stem: file.stat().st_size for file in corpus.FOLDER.iterdir()}
    assert files.keys() == TARGETS.keys()
    assert sum(files.values()) < 1_000_000
