"""The checker itself: a history that may be passes, and of each rule one that breaks it is found out."""

from __future__ import annotations

import pytest

from tests.order.history import Operation
from tests.order.rules import RULES, violations


def op(kind: str, actor: str, ticket: str = "wechat", /, **more: object) -> Operation:
    """Answered with yes unless told otherwise."""
    return Operation(kind, actor, ticket, **{"ok": True, **more})  # type: ignore[arg-type]


ISSUE, SCAN = op("issue", "own"), op("scan", "Anna")


def exchange(token: str = "t1", actor: str = "own", ticket: str = "wechat", **more: object) -> Operation:
    return op("exchange", actor, ticket, token=token, **{"person": "Anna", **more})


def who(token: str = "t1", **more: object) -> Operation:
    return op("who", token, "", token=token, **{"person": "Anna", **more})


def look(said: str, **more: object) -> Operation:
    return op("look", "own", said=said, **more)


def found(*operations: Operation) -> set[str]:
    """The rules that are broken by these, one after the other; those with a `began` keep their places."""
    for place, operation in enumerate(operations):
        if not operation.began:
            operation.began, operation.ended = 10 * place + 1, 10 * place + 2
    return {text.partition(":")[0] for text in violations(operations)}


@pytest.fixture(autouse=True)
def _afresh():
    for operation in (ISSUE, SCAN):
        operation.began, operation.ended = 0, None


GOOD = {
    "a login": lambda: [ISSUE, look("WAITING"), SCAN, look("CONFIRMED", person="Anna"), exchange(), who()],
    "a repeat": lambda: [
        ISSUE,
        SCAN,
        exchange("t1"),
        exchange("t2"),
        who("t1", ok=False, person=""),
        who("t2"),
    ],
    "refused to a stranger": lambda: [
        *(ISSUE, SCAN, exchange("", actor="other", ok=False, person="")),
        *(op("look", "other", said="INVALID"), exchange(), who()),
    ],
    "not me": lambda: [ISSUE, SCAN, exchange(), who(), op("not_me", "Anna"), who(ok=False, person="")],
    "a scan and an unfollow at once": lambda: [
        ISSUE,
        op("unfollow", "Anna", "", said="wechat", began=11, ended=18),
        op("scan", "Anna", began=12, ended=15),
        exchange(began=20, ended=21),
    ],
    "given up": lambda: [
        ISSUE,
        SCAN,
        op("abandon", "own"),
        exchange("", ok=False, person=""),
        look("CANCELLED"),
    ],
}
BAD = {
    "only_the_holder": lambda: [ISSUE, SCAN, exchange(actor="other")],
    "the_first_scanner_only": lambda: [ISSUE, SCAN, op("scan", "Bert")],
    "the_scanners_login": lambda: [ISSUE, SCAN, exchange(person="Bert")],
    "states_go_forward": lambda: [ISSUE, look("CONFIRMED"), look("WAITING")],
    "nothing_after_a_no": lambda: [ISSUE, SCAN, op("abandon", "own"), exchange()],
    "one_session": lambda: [ISSUE, SCAN, exchange("t1"), exchange("t2"), who("t1")],
    "no_session_of_nobody": lambda: [ISSUE, SCAN, op("listed", "Anna", "", said="app,wechat")],
    "repeats_in_time": lambda: [
        *(ISSUE, SCAN, exchange("t1", began_at=0, ended_at=1)),
        exchange("t2", began_at=61, ended_at=61),
    ],
    "in_time": lambda: [ISSUE, op("scan", "Anna", began_at=300)],
    "what_was_ended_stays_ended": lambda: [ISSUE, SCAN, exchange(), op("not_me", "Anna"), who()],
    "former_sessions_end": lambda: [
        *(ISSUE, SCAN, exchange("t1"), op("issue", "own", "app"), op("scan", "Anna", "app")),
        *(op("confirm", "Anna", "app"), exchange("t2", ticket="app", former=("t1",)), who("t1")),
    ],
    "nothing_is_lost": lambda: [ISSUE, SCAN, exchange("", ok=False, person="")],
}
MORE_BAD = [
    ("only_the_holder", lambda: [ISSUE, op("look", "other", said="WAITING")]),
    ("the_first_scanner_only", lambda: [op("issue", "own", "app"), op("confirm", "Bert", "app")]),
    (
        "the_scanners_login",
        lambda: [op("issue", "own", "app"), op("scan", "Anna", "app"), exchange(ticket="app")],
    ),
    ("the_scanners_login", lambda: [ISSUE, SCAN, exchange(), who(person="Bert")]),
    ("the_scanners_login", lambda: [ISSUE, SCAN, look("CONFIRMED", person="Bert")]),
    ("states_go_forward", lambda: [ISSUE, look("CANCELLED"), look("CONSUMED")]),
    ("nothing_after_a_no", lambda: [ISSUE, op("abandon", "own"), SCAN]),
    (
        "one_session",
        lambda: [
            *(ISSUE, SCAN, exchange("t1", began=30, ended=34), exchange("t2", began=31, ended=35)),
            *(who("t1"), who("t2")),
        ],
    ),
    ("what_was_ended_stays_ended", lambda: [ISSUE, SCAN, op("block", "Anna", "", said="wechat"), exchange()]),
    (
        "what_was_ended_stays_ended",
        lambda: [ISSUE, SCAN, op("unfollow", "Anna", "", said="wechat"), exchange()],
    ),
    ("nothing_is_lost", lambda: [ISSUE, SCAN, exchange(), who(ok=False, person="")]),
]


@pytest.mark.parametrize("name", GOOD)
def test_what_may_be(name):
    assert found(*GOOD[name]()) == set()


@pytest.mark.parametrize(("rule", "history"), [*BAD.items(), *MORE_BAD])
def test_what_may_not_be(rule, history):
    assert rule in found(*history())


def test_every_rule_is_broken_here():
    assert set(BAD) == {rule.__name__ for rule in RULES}
