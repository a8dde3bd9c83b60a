import pytest

from tests.tickets.expectations import BY_PHONE, EXPECTED, PAIRS
from tickets.states import BY_SCANNER, FINAL, REPEATS, TRANSITIONS, Event, State


def test_the_expectations_have_every_pair() -> None:
    assert set(EXPECTED) == {(state, event) for state in State for event in Event}
    assert len(EXPECTED) == len(State) * len(Event) == 36


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_of_the_table(state: State, event: Event) -> None:
    cell = EXPECTED[state, event]
    assert TRANSITIONS.get((state, event)) == (None if cell in "-=" else State(cell))
    assert ((state, event) in REPEATS) == (cell == "=")


def test_nothing_leaves_a_final_state() -> None:
    assert {State.CONSUMED, State.CANCELLED, State.INVALID} == FINAL
    assert {source for source, _ in TRANSITIONS} == set(State) - FINAL


def test_invalid_is_an_answer_and_no_state_to_enter_or_leave() -> None:
    assert State.INVALID not in TRANSITIONS.values()
    assert State.INVALID not in {state for state, _ in TRANSITIONS} | {state for state, _ in REPEATS}


def test_only_an_exchange_of_a_confirmed_ticket_consumes_it() -> None:
    into = [step for step, target in TRANSITIONS.items() if target is State.CONSUMED]
    assert into == [(State.CONFIRMED, Event.EXCHANGE)]


def test_only_the_person_with_the_phone_confirms() -> None:
    assert BY_SCANNER == BY_PHONE
    assert {event for (_, event), target in TRANSITIONS.items() if target is State.CONFIRMED} <= BY_PHONE


def test_the_names_are_those_of_the_interface() -> None:
    assert [str(state) for state in State] == [
        "WAITING",
        "SCANNED",
        "CONFIRMED",
        "CONSUMED",
        "CANCELLED",
        "INVALID",
    ]
    assert [str(event) for event in Event] == ["scan", "confirm", "cancel", "exchange", "abandon", "revoke"]


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[State.WAITING, Event.EXCHANGE] = State.CONSUMED  # type: ignore[index]
    assert isinstance(REPEATS, frozenset)
    assert isinstance(FINAL, frozenset)
