"""No vector may be dropped in silence."""

from collections import Counter

from tests.wechat import (
    test_callback,
    test_crypto,
    test_messages,
    test_replies,
    test_signature,
    test_xml,
    vectors,
)

# Imported so that their vectors are noted, also when this file is run alone.
_RUNNERS = (test_callback, test_crypto, test_messages, test_replies, test_signature, test_xml)


def test_every_vector_of_an_official_account_is_run_or_listed_with_its_reason() -> None:
    official = {vector.id for vector in vectors.ALL if vector.official}
    elsewhere = {vector.id for vector in vectors.ALL if vector.kind in vectors.COVERED_IN_TEST_API}
    run = vectors.run & official
    listed = set(vectors.NOT_APPLICABLE)

    assert not run & listed, "listed as not applicable, and yet run"
    assert not listed & elsewhere
    assert official - run - listed - elsewhere == set(), "neither run nor listed"
    assert listed <= official, "listed, but there is no such vector"
    assert all(vectors.NOT_APPLICABLE.values())


def test_the_file_is_whole() -> None:
    counts = vectors.META["counts"]
    assert len({vector.id for vector in vectors.ALL}) == len(vectors.ALL) == counts["total"] == 211
    assert Counter(vector.family for vector in vectors.ALL) == {"mp": 188, "wecom": 20, "component": 3}
    assert Counter(vector.kind for vector in vectors.ALL) == counts["by_kind"]


def test_only_vectors_off_the_letter_of_the_protocol_are_optional() -> None:
    assert [vector.id for vector in vectors.ALL if vector.optional] == ["wego-reply-2"]
