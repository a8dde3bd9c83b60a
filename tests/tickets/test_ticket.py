import hashlib
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from errors import TicketUnknown, TransitionRefused
from tests.tickets.expectations import (
    ANNA,
    ANNA_OF_THE_APP,
    BORIS,
    BY_PHONE,
    EXPECTED,
    NOW,
    PAIRS,
    waiting,
)
from tickets import Event, Scanner, State, Ticket, advance, confirm_by_number, hash_secret

OTHERS = [BORIS, ANNA_OF_THE_APP, Scanner("wechat", ""), Scanner("wechat", "oanna")]
SCANNED_STATES = [State.SCANNED, State.CONFIRMED, State.CONSUMED, State.CANCELLED]


def after(*events: Event, now: float = NOW, expires_at: float = NOW + 300) -> Ticket:
    """A ticket that these events happened to, all at once, the person being Anna."""
    ticket = waiting(expires_at)
    for event in events:
        ticket = step(ticket, event, now)
    return ticket


def step(ticket: Ticket, event: Event, now: float = NOW, scanner: Scanner = ANNA) -> Ticket:
    return advance(ticket, event, now, scanner=scanner if event in BY_PHONE else None, user_id="user-1")


def in_state(state: State) -> Ticket:
    match state:
        case State.WAITING:
            return after()
        case State.SCANNED:
            return after(Event.SCAN)
        case State.CONFIRMED:
            return after(Event.SCAN, Event.CONFIRM)
        case State.CONSUMED:
            return after(Event.SCAN, Event.CONFIRM, Event.EXCHANGE)
        case State.CANCELLED:
            return after(Event.SCAN, Event.CANCEL)
        case State.INVALID:  # no ticket is ever stored so
            return replace(after(), state=State.INVALID)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_of_state_and_event(state: State, event: Event) -> None:
    ticket, cell = in_state(state), EXPECTED[state, event]
    assert ticket.state is state
    if cell == "-":
        with pytest.raises(TransitionRefused):
            step(ticket, event)
    elif cell == "=":
        assert step(ticket, event) is ticket
    else:
        changed = step(ticket, event)
        assert changed.state is State(cell)
        assert step(changed, event) is changed
        assert ticket == in_state(state), "the ticket that went in is as it was"


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("event", sorted(BY_PHONE))
@pytest.mark.parametrize("state", SCANNED_STATES)
def test_another_person_is_refused_whatever_happens(state: State, event: Event, other: Scanner) -> None:
    ticket = in_state(state)
    with pytest.raises(TransitionRefused):
        step(ticket, event, scanner=other)
    assert ticket.scanner == ANNA


@pytest.mark.parametrize("event", sorted(BY_PHONE))
@pytest.mark.parametrize("state", State)
def test_an_event_of_the_phone_needs_its_person(state: State, event: Event) -> None:
    with pytest.raises(ValueError, match="identity"):
        advance(in_state(state), event, NOW)


@pytest.mark.parametrize("event", [Event.EXCHANGE, Event.ABANDON, Event.REVOKE])
def test_other_events_need_none(event: Event) -> None:
    ticket = in_state(State.CONFIRMED)
    assert advance(ticket, event, NOW) == advance(ticket, event, NOW, scanner=BORIS)


def test_the_first_to_scan_is_kept_with_the_user() -> None:
    ticket = advance(waiting(), Event.SCAN, NOW, scanner=ANNA, user_id="user-1")
    assert (ticket.scanner, ticket.user_id) == (ANNA, "user-1")
    again = advance(ticket, Event.SCAN, NOW, scanner=ANNA, user_id="user-2")
    assert again is ticket
    confirmed = advance(ticket, Event.CONFIRM, NOW, scanner=ANNA, user_id="user-2")
    assert (confirmed.scanner, confirmed.user_id) == (ANNA, "user-1")


@pytest.mark.parametrize("event", [Event.ABANDON, Event.REVOKE])
def test_a_no_repeats_a_no_of_any_kind(event: Event) -> None:
    ticket = after(Event.SCAN, event)
    for no in (Event.CANCEL, Event.ABANDON, Event.REVOKE):
        assert step(ticket, no) is ticket


def test_a_page_that_gave_up_has_nobodys_no() -> None:
    ticket = after(Event.ABANDON)
    for event in BY_PHONE:
        with pytest.raises(TransitionRefused):
            step(ticket, event)
    assert step(ticket, Event.ABANDON) is ticket
    assert ticket.scanner is None


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_a_ticket_ends_exactly_at_its_expiry(state: State, event: Event) -> None:
    ticket = in_state(state)
    last = ticket.expires_at - 0.001
    assert not ticket.expired(last)
    assert ticket.expired(ticket.expires_at)
    for now in (ticket.expires_at, ticket.expires_at + 0.001, ticket.expires_at + 1e9):
        for scanner in (ANNA, BORIS):
            with pytest.raises(TicketUnknown):
                step(ticket, event, now, scanner)
    # One that is past its time tells nobody who scanned it, or how far it came.
    if state is State.WAITING and event is Event.SCAN:
        assert step(ticket, event, last).state is State.SCANNED


@pytest.mark.parametrize(("before", "event"), [((), Event.SCAN), ((Event.SCAN,), Event.CONFIRM)])
@pytest.mark.parametrize(
    ("left", "leaves"), [(0.001, 60.0), (1.0, 60.0), (59.9, 60.0), (60.0, 60.0), (60.1, 60.1), (300.0, 300.0)]
)
def test_a_scan_and_a_confirm_leave_a_minute_or_more(
    before: tuple[Event, ...], event: Event, left: float, leaves: float
) -> None:
    ticket = replace(after(*before), expires_at=NOW + left)
    assert step(ticket, event).expires_at == NOW + leaves


@pytest.mark.parametrize("event", [Event.SCAN, Event.CONFIRM])
def test_a_repeat_extends_nothing(event: Event) -> None:
    ticket = replace(in_state(State.CONFIRMED), expires_at=NOW + 10)
    assert step(ticket, event).expires_at == NOW + 10


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (State.WAITING, Event.ABANDON),
        (State.SCANNED, Event.CANCEL),
        (State.SCANNED, Event.REVOKE),
        (State.CONFIRMED, Event.ABANDON),
        (State.CONFIRMED, Event.REVOKE),
    ],
)
def test_an_end_changes_nothing_but_the_state(state: State, event: Event) -> None:
    ticket = in_state(state)
    assert step(ticket, event) == replace(ticket, state=State.CANCELLED)


def test_the_times_are_noted() -> None:
    ticket = after(Event.SCAN)
    assert (ticket.confirmed_at, ticket.consumed_at) == (0.0, 0.0)
    ticket = step(ticket, Event.CONFIRM, NOW + 7)
    assert (ticket.confirmed_at, ticket.consumed_at) == (NOW + 7, 0.0)
    ticket = step(ticket, Event.EXCHANGE, NOW + 9)
    assert (ticket.confirmed_at, ticket.consumed_at) == (NOW + 7, NOW + 9)
    assert step(ticket, Event.EXCHANGE, NOW + 20).consumed_at == NOW + 9


@pytest.mark.parametrize("later", [0.0, 30.0, 59.999])
def test_a_lost_answer_may_be_asked_for_again_for_a_minute(later: float) -> None:
    for lifetime in (0.001, 300.0):  # a ticket that would have ended before the minute, and one that goes on
        ticket = after(Event.SCAN, Event.CONFIRM)
        ticket = step(replace(ticket, expires_at=NOW + lifetime), Event.EXCHANGE)
        assert step(ticket, Event.EXCHANGE, NOW + later) is ticket


@pytest.mark.parametrize("later", [60.0, 60.001, 200.0])
def test_after_that_minute_it_is_refused(later: float) -> None:
    ticket = in_state(State.CONSUMED)
    assert ticket.expires_at == NOW + 300
    with pytest.raises(TransitionRefused):
        step(ticket, Event.EXCHANGE, NOW + later)


def test_a_ticket_that_was_collected_late_ends_with_that_minute() -> None:
    ticket = step(replace(in_state(State.CONFIRMED), expires_at=NOW + 1), Event.EXCHANGE)
    assert ticket.expires_at == NOW + 60
    with pytest.raises(TicketUnknown):
        step(ticket, Event.EXCHANGE, NOW + 60)


@pytest.mark.parametrize("state", [State.SCANNED, State.CONFIRMED])
def test_what_was_taken_back_cannot_be_collected(state: State) -> None:
    ticket = step(in_state(state), Event.REVOKE)
    assert ticket.state is State.CANCELLED
    for event in (Event.CONFIRM, Event.EXCHANGE, Event.SCAN):
        with pytest.raises(TransitionRefused):
            step(ticket, event)


def test_what_is_waiting_or_collected_cannot_be_taken_back() -> None:
    for state in (State.WAITING, State.CONSUMED):
        with pytest.raises(TransitionRefused):
            step(in_state(state), Event.REVOKE)


def test_a_refusal_shows_nobody_by_name() -> None:
    with pytest.raises(TransitionRefused) as caught:
        step(in_state(State.SCANNED), Event.SCAN, scanner=BORIS)
    shown = caught.value.message
    assert "oANNA" not in shown
    assert "oBORIS" not in shown
    assert "ticket-1" not in shown


def test_a_ticket_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        waiting().state = State.CONSUMED  # type: ignore[misc]


def test_a_ticket_is_held_by_its_secret_alone() -> None:
    ticket = replace(waiting(), secret_hash=hashlib.sha256(b"secret").digest())
    assert hash_secret("secret") == ticket.secret_hash
    assert ticket.held_by("secret")
    for wrong in ("", "Secret", "secret ", "秘密", "\ud800", ticket.secret_hash.hex(), "secret" * 10_000):
        assert not ticket.held_by(wrong)


# The number that the browser shows.


def asked_for(number: int) -> Ticket:
    return advance(waiting(), Event.SCAN, NOW, scanner=ANNA, user_id="user-1", number=number)


def sends(ticket: Ticket, number: int | None, scanner: Scanner = ANNA) -> Ticket:
    return confirm_by_number(ticket, number, NOW + 1, scanner=scanner)


def test_the_number_on_the_page_confirms() -> None:
    for tries in range(3):
        ticket = asked_for(42)
        for _ in range(tries):
            ticket = sends(ticket, 41)
            assert ticket.state is State.SCANNED
        assert ticket.tries_left == 3 - tries
        confirmed = sends(ticket, 42)
        assert (confirmed.state, confirmed.confirmed_at) == (State.CONFIRMED, NOW + 1)
        for again in (42, 41, None):
            assert sends(confirmed, again) is confirmed, "it has had its effect"


@pytest.mark.parametrize("number", [0, -42, 43, 142, 4242])
def test_three_wrong_numbers_end_it(number: int) -> None:
    ticket = asked_for(42)
    for left in (2, 1, 0):
        assert ticket.state is State.SCANNED
        ticket = sends(ticket, number)
        assert ticket.tries_left == left
    assert ticket.state is State.CANCELLED
    for refused in (42, number, None):
        with pytest.raises(TransitionRefused):
            sends(ticket, refused)


def test_no_number_is_no_guess() -> None:
    ticket = asked_for(42)
    assert sends(ticket, None) is ticket


def test_where_none_is_asked_for_any_confirms() -> None:
    for number in (None, 0, 42):
        assert sends(asked_for(0), number).state is State.CONFIRMED


def test_a_number_is_refused_as_a_confirm_is() -> None:
    for state in (State.WAITING, State.CANCELLED):
        with pytest.raises(TransitionRefused):
            sends(in_state(state), 42)
    with pytest.raises(TransitionRefused):
        sends(asked_for(42), 42, BORIS)
    with pytest.raises(TicketUnknown):
        confirm_by_number(asked_for(42), 42, NOW + 300, scanner=ANNA)


def test_a_repeated_scan_asks_for_no_other_number() -> None:
    ticket = sends(asked_for(42), 41)
    again = advance(ticket, Event.SCAN, NOW + 2, scanner=ANNA, user_id="user-1", number=77)
    assert again is ticket


@pytest.mark.parametrize("state", State)
def test_the_number_is_shown_while_it_can_be_sent(state: State) -> None:
    ticket = replace(in_state(state), number=42)
    assert ticket.shown_number == (42 if state is State.SCANNED else 0)


class Life(RuleBasedStateMachine):
    """Any interleaving of what people, the page and the server do, while time passes.

    Beside the ticket there is a model of it, kept by the table of expectations.
    """

    @initialize(lifetime=st.floats(1, 400))
    def issue(self, lifetime: float) -> None:
        self.now = NOW
        self.ticket = waiting(NOW + lifetime)
        self.model = State.WAITING
        self.scanned_by: Scanner | None = None
        self.collected_at: float | None = None
        self.past = [self.ticket]

    def expects(self, event: Event, person: Scanner | None) -> str:
        """The cell of the table, with what the table leaves out: other people, and the minute."""
        cell = EXPECTED[self.model, event]
        if event in BY_PHONE and self.scanned_by not in (None, person):
            return "-"
        if self.model is State.CANCELLED and event is Event.CANCEL and self.scanned_by is None:
            return "-"
        if cell == "=" and event is Event.EXCHANGE:
            assert self.collected_at is not None
            return "=" if self.now < self.collected_at + 60 else "-"
        return cell

    def apply(self, event: Event, person: Scanner | None) -> None:
        if self.now >= self.ticket.expires_at:
            with pytest.raises(TicketUnknown):
                advance(self.ticket, event, self.now, scanner=person, user_id="user")
            return
        expected = self.expects(event, person)
        if expected == "-":
            with pytest.raises(TransitionRefused):
                advance(self.ticket, event, self.now, scanner=person, user_id="user")
            return
        changed = advance(self.ticket, event, self.now, scanner=person, user_id="user")
        if expected == "=":
            assert changed is self.ticket
            return
        self.model = State(expected)
        if event is Event.SCAN:
            self.scanned_by = person
        if event is Event.EXCHANGE:
            self.collected_at = self.now
        if event in (Event.SCAN, Event.CONFIRM):
            assert changed.expires_at >= self.now + 60
        self.ticket = changed
        self.past.append(changed)

    @rule(event=st.sampled_from(sorted(BY_PHONE)), person=st.sampled_from([ANNA, BORIS, ANNA_OF_THE_APP]))
    def somebody_with_a_phone(self, event: Event, person: Scanner) -> None:
        self.apply(event, person)

    @rule(event=st.sampled_from([Event.SCAN, Event.CONFIRM, Event.EXCHANGE]))
    def the_usual_way(self, event: Event) -> None:
        self.apply(event, self.scanned_by or ANNA if event in BY_PHONE else None)

    @rule(event=st.sampled_from([Event.EXCHANGE, Event.ABANDON, Event.REVOKE]))
    def the_page_or_the_server(self, event: Event) -> None:
        self.apply(event, None)

    @rule(seconds=st.sampled_from([0.001, 1.0, 10.0, 59.999, 60.0]) | st.floats(0, 70))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_last_moment(self) -> None:
        self.now = max(self.now, self.ticket.expires_at - 0.001)

    @invariant()
    def is_what_the_model_is(self) -> None:
        assert self.ticket.state is self.model
        assert self.ticket.scanner == self.scanned_by

    @invariant()
    def the_scanner_never_changes_once_set(self) -> None:
        scanners = [ticket.scanner for ticket in self.past if ticket.scanner is not None]
        assert len(set(scanners)) <= 1
        if scanners:
            assert self.ticket.scanner == scanners[0]

    @invariant()
    def collected_once_and_only_after_a_yes(self) -> None:
        states = [ticket.state for ticket in self.past]
        assert states.count(State.CONSUMED) <= 1
        if State.CONSUMED in states:
            assert states == [State.WAITING, State.SCANNED, State.CONFIRMED, State.CONSUMED]
            assert NOW <= self.ticket.confirmed_at <= self.ticket.consumed_at <= self.now

    @invariant()
    def a_final_state_is_never_left(self) -> None:
        final = {State.CONSUMED, State.CANCELLED, State.INVALID}
        assert not any(ticket.state in final for ticket in self.past[:-1])
        assert State.INVALID not in {ticket.state for ticket in self.past}

    @invariant()
    def the_expiry_never_moves_back(self) -> None:
        ends = [ticket.expires_at for ticket in self.past]
        assert ends == sorted(ends)

    @invariant()
    def what_was_issued_stays(self) -> None:
        first, last = self.past[0], self.ticket
        for name in ("id", "secret_hash", "method", "client", "created_at", "code", "site", "next"):
            assert getattr(first, name) == getattr(last, name)


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
