"""Logins in memory, in many orders of their single steps: no rule is ever broken.

By chance, or with SAOMA_ORDERS=all in every order that two things at once can have; SAOMA_WALKS says how many
longer programs there are. `make order` has all orders and a million programs.
"""

from __future__ import annotations

import itertools
import os

import pytest

from tests.order.rules import violations
from tests.order.site import Act
from tests.order.walks import Program, every_order, some_orders, walk

ALL = os.environ.get("SAOMA_ORDERS") == "all"
SOME = 8  # orders of each pair, where not all are asked for
WALKS = int(os.environ.get("SAOMA_WALKS", "6000"))

STAGES = ("WAITING", "SCANNED", "CONFIRMED", "CONSUMED")
WAYS = {  # what leads from one stage to the next
    "wechat": (Act("scan", "Anna", "wechat"), None, Act("exchange", "own", "wechat")),
    "asked": (Act("scan", "Anna", "asked"), Act("confirm", "Anna", "asked"), Act("exchange", "own", "asked")),
    "app": (Act("scan", "Anna", "app"), Act("confirm", "Anna", "app"), Act("exchange", "own", "app")),
}
ACTS = (
    *(("scan", "Anna"), ("scan", "Bert"), ("confirm", "Anna"), ("confirm", "Bert"), ("cancel", "Anna")),
    *(("exchange", "own"), ("exchange", "other"), ("abandon", "own"), ("look", "own"), ("unfollow", "Anna")),
    *(("block", "Anna"), ("sign_out", "Anna"), ("forget", "Anna"), ("not_me", "Anna")),
)


PLACES = [(ticket, stage) for ticket in WAYS for stage in STAGES if (ticket, stage) != ("wechat", "SCANNED")]


def programs(ticket: str, stage: str) -> list[Program]:
    """All pairs of acts at this stage of a login."""
    steps = [step for step in WAYS[ticket][: STAGES.index(stage)] if step is not None]
    before = [Act("issue", "own", ticket), *steps]
    acts = [Act(kind, actor, ticket) for kind, actor in ACTS]
    return [Program(before, pair) for pair in itertools.combinations_with_replacement(acts, 2)]


@pytest.mark.parametrize(("ticket", "stage"), PLACES)
def test_any_two_at_once(ticket, stage):
    count = 0
    for program in programs(ticket, stage):
        for path, site in every_order(program) if ALL else some_orders(program, SOME):
            count += 1
            assert not (wrong := violations(site.history.operations)), (program.at_once, path, wrong)
    print(f"{ticket}, {stage}: {count} orders")
    assert count > 800


def test_an_order_is_not_had_twice():
    program = Program([Act("issue", "own", "app")], [Act("look", "own", "app"), Act("abandon", "own", "app")])
    paths = [tuple(path) for path, _ in every_order(program)]
    assert len(paths) == len(set(paths)) == 10  # of the steps before, between and after one call and two


def test_not_me_wins_over_a_repeated_exchange():
    """In every order: a session that replaces the first one is not missed."""
    ticket = "wechat"
    before = [Act("issue", "own", ticket), Act("scan", "Anna", ticket), Act("exchange", "own", ticket)]
    program = Program(before, [Act("exchange", "own", ticket), Act("not_me", "Anna", ticket)])
    for path, site in every_order(program):
        alive = [op for op in site.history.operations if op.kind == "who" and op.ok]
        assert not alive, (path, *map(str, site.history.operations))


@pytest.mark.parametrize("act", ["not_me", "sign_out"])
def test_what_ends_a_login_wins_while_its_ticket_expires(act):
    """What is over by now is not taken back any more, and the exchange may have begun before."""
    ticket = "wechat"
    before = [Act("issue", "own", ticket), Act("scan", "Anna", ticket), Act("wait", "299.5")]
    program = Program(before, [Act("exchange", "own", ticket), Act(act, "Anna", ticket), Act("wait", "1")])
    for path, site in some_orders(program, 1000):
        assert not (wrong := violations(site.history.operations)), (path, wrong)


def test_many_orders_by_chance():
    for seed in range(WALKS):
        program, path, wrong = walk(seed)
        assert not wrong, (seed, program, path, wrong)
