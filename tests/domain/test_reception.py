"""How an agent's numbered events come in: epochs, doubles, gaps, and what makes a cluster stale."""

from hypothesis import given
from hypothesis import strategies as st

from federation.domain.cluster import Reception
from federation.domain.events import Stamp
from federation.domain.reception import (
    WINDOW_EVENTS,
    WINDOW_MS,
    Standing,
    receive,
    resync_finished,
    resync_started,
    told,
    unsound,
)

SOUND = Reception(uids=("a",), term=1, epoch=3, next=10, unsound="")


def counted(reception: Reception, *sequences: int, at_ms: int = 0) -> Reception:
    for sequence in sequences:
        reception, standing = receive(reception, Stamp("a", 3, sequence), opens=False, at_ms=at_ms)
        assert standing is Standing.CURRENT
    return reception


def test_events_in_order_leave_nothing_to_remember():
    reception = counted(SOUND, 10, 11, 12)

    assert (reception.next, reception.beyond, reception.unsound) == (13, (), "")


def test_events_that_change_places_within_the_window_close_up_without_a_gap():
    reception = counted(SOUND, 12, 11, 14, 13, 10)

    assert (reception.next, reception.beyond, reception.unsound) == (15, (), "")


def test_an_event_delivered_again_counts_once():
    reception = counted(SOUND, 10, 10, 12, 12, 11, 11, 10)

    assert (reception.next, reception.beyond) == (13, ())


def test_a_sequence_that_is_missing_behind_the_whole_window_is_a_gap():
    almost = counted(SOUND, *range(11, 10 + WINDOW_EVENTS))
    past = counted(almost, 10 + WINDOW_EVENTS)

    assert almost.unsound == ""
    assert "event 10 of epoch 3 is missing" in past.unsound
    assert (past.next, past.beyond) == (11 + WINDOW_EVENTS, ())


def test_a_sequence_that_is_missing_for_longer_than_the_window_is_a_gap():
    waiting = counted(SOUND, 11, at_ms=1_000)
    in_time = counted(waiting, 12, at_ms=1_000 + WINDOW_MS)
    too_late = counted(waiting, 12, at_ms=1_001 + WINDOW_MS)

    assert in_time.unsound == ""
    assert "event 10" in too_late.unsound
    assert too_late.next == 13


def test_two_gaps_are_both_noted_and_passed_over():
    reception = counted(SOUND, 11, 13, at_ms=0)
    reception = counted(reception, 14, at_ms=WINDOW_MS + 1)
    reception = counted(reception, 15, at_ms=2 * WINDOW_MS + 2)

    assert "event 12" in reception.unsound
    assert (reception.next, reception.beyond) == (16, ())


def test_a_jump_of_any_size_is_remembered_in_bounded_space():
    reception = counted(SOUND, 2**53, 2**53 - 7)

    assert "event 10" in reception.unsound
    assert len(reception.beyond) <= WINDOW_EVENTS


@given(st.permutations(range(10, 30)))
def test_any_order_within_the_window_is_no_gap(sequences: list[int]):
    reception = counted(SOUND, *sequences)

    assert (reception.next, reception.beyond, reception.unsound) == (30, (), "")


@given(st.lists(st.integers(1, 400), max_size=300))
def test_what_is_remembered_of_the_order_stays_within_the_window(sequences: list[int]):
    reception = counted(SOUND, *sequences)

    assert len(reception.beyond) <= WINDOW_EVENTS
    assert all(sequence > reception.next for sequence in reception.beyond)


def test_a_new_transition_of_the_same_lease_takes_over_by_its_opening_only():
    early, standing = receive(SOUND, Stamp("a", 4, 2), opens=False, at_ms=0)
    opened, opening = receive(early, Stamp("a", 4, 1), opens=True, at_ms=0)

    assert standing is Standing.UNKNOWN
    assert "epoch 4 was not opened" in early.unsound
    assert opening is Standing.CURRENT
    assert (opened.term, opened.epoch, opened.next) == (1, 4, 2)


def test_an_older_transition_of_the_same_lease_is_over_even_with_an_opening():
    reception, standing = receive(SOUND, Stamp("a", 2, 1), opens=True, at_ms=0)

    assert standing is Standing.OLD
    assert reception == SOUND


def test_a_resync_that_began_after_the_trouble_mends_it_and_no_other():
    running = resync_started(unsound(SOUND, "lost"), "r-1", (1, 3, 20))
    troubled = unsound(running, "lost again")

    assert resync_finished(running, (1, 3, 30), ()).unsound == ""
    assert resync_finished(troubled, (1, 3, 30), ()).unsound == "lost again"


def test_what_a_resync_listed_and_did_not_tell_is_missing_until_it_is_told():
    running = resync_started(SOUND, "r-1", (1, 3, 20))
    finished = resync_finished(running, (1, 3, 30), ("nodes/a", "nodes/b"))
    again = resync_started(finished, "r-2", (1, 3, 40))

    assert finished.missing == ("nodes/a", "nodes/b")
    assert told(finished, "nodes/a").missing == ("nodes/b",)
    assert again.missing == ("nodes/a", "nodes/b")


def test_a_list_too_long_to_remember_keeps_the_cluster_stale_by_itself():
    names = tuple(f"nodes/{index}" for index in range(10_001))
    finished = resync_finished(resync_started(SOUND, "r-1", (1, 3, 20)), (1, 3, 30), names)

    assert len(finished.missing) == 10_000
    assert "10001 listed objects were not seen" in finished.unsound
