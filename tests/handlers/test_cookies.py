"""Names of our cookies."""

from __future__ import annotations

import pytest

from handlers.cookies import MAX_TICKETS, CookieNames


@pytest.mark.parametrize(("secure", "prefix"), [(True, "__Host-"), (False, "")])
def test_names(secure: bool, prefix: str) -> None:
    names = CookieNames(secure)
    shown = [names.session, names.xsrf, names.ticket("abc")]
    assert shown == [f"{prefix}saoma-session", f"{prefix}saoma-xsrf", f"{prefix}saoma-ticket-abc"]
    assert len(set(shown)) == 3


def test_tickets_are_found_in_the_browsers_order() -> None:
    names = CookieNames(secure=True)
    given = ["other", names.ticket("b"), names.session, names.ticket("a"), names.ticket("c")]
    assert names.ticket_ids(given) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "name",
    [
        "saoma-ticket-",
        "saoma-ticket-a b",
        "saoma-ticket-" + "x" * 65,
        "saoma-ticket-é",
        "saoma-ticket-a\n",
        "Saoma-ticket-a",
        "xsaoma-ticket-a",
        "",
    ],
)
def test_what_is_no_ticket_of_ours(name: str) -> None:
    assert CookieNames(secure=False).ticket_ids([name]) == []


def test_on_https_a_cookie_that_another_host_could_have_set_is_not_read() -> None:
    assert CookieNames(secure=True).ticket_ids(["saoma-ticket-a", "__Secure-saoma-ticket-a"]) == []


def test_eight_at_most() -> None:
    assert MAX_TICKETS == 8
