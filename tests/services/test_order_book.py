"""Which orders may begin, and up to where all are done: the bookkeeping of protocol 4.1."""

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.domain.events import PlacementUnwanted, PlacementWanted
from federation.domain.records import Orders
from federation.services.order_book import MAX_ORDERS, OrderBook, Outcome
from tests.services.agents import wanted

APPLIED = Outcome(word="applied")


def make_order(number: int, placement: str = "p1", generation: int = 1) -> PlacementUnwanted:
    return PlacementUnwanted(order=number, generation=generation, placement=placement, version=number)


def make_wanted(number: int, placement: str) -> PlacementWanted:
    return wanted(number, placement=placement)


def make_book(*orders: PlacementUnwanted, done: int = 0) -> OrderBook:
    book = OrderBook(Orders(1, done))
    for order in orders:
        book.receive(order, 100)
    return book


def test_4_1_what_is_at_or_below_done_is_skipped():
    book = make_book(done=5)

    received = [book.receive(make_order(number), 100) for number in (4, 5, 6, 6)]

    assert received == [False, False, True, False]


def test_4_1_a_missing_number_blocks_those_above_it():
    book = make_book(make_order(2), make_order(3))

    before = book.begin(8)
    book.receive(make_order(1, "p0"), 100)
    after = [order.order for order in book.begin(8)]

    assert (before, after) == ([], [1, 2])


def test_4_1_an_order_begins_only_when_the_one_before_it_for_the_same_placement_is_stored():
    book = make_book(make_order(1, "p1"), make_order(2, "p2"), make_order(3, "p1"))

    first = book.begin(8)
    for order in first:
        book.end(order, APPLIED)
    ended_only = book.begin(8)
    book.stored(Orders(1, book.done()))
    after = book.begin(8)

    assert [order.order for order in first] == [1, 2]
    assert ended_only == []
    assert [order.order for order in after] == [3]


def test_what_is_wanted_waits_for_the_deletions_before_it_which_may_free_its_name():
    book = OrderBook(Orders(1, 0))
    book.receive(make_order(1, "p1"), 100)
    book.receive(make_wanted(2, "p2"), 100)

    first = book.begin(8)
    book.end(first[0], APPLIED)
    second = book.begin(8)

    assert ([order.order for order in first], [order.order for order in second]) == ([1], [2])


def test_two_placements_of_one_name_are_never_worked_on_side_by_side():
    book = OrderBook(Orders(1, 0))
    book.receive(make_wanted(1, "p1"), 100)
    book.receive(make_wanted(2, "p2"), 100)

    begun = book.begin(8)

    assert [order.order for order in begun] == [1]


def test_4_1_done_stops_before_the_first_order_that_has_not_ended():
    book = make_book(make_order(1, "p1"), make_order(2, "p2"))
    begun = book.begin(8)

    book.end(begun[1], APPLIED)
    before = book.done()
    book.end(begun[0], APPLIED)

    assert (before, book.done()) == (0, 2)


def test_a_newer_generation_drops_what_waits_and_counts_from_one():
    book = make_book(make_order(1), make_order(2))

    book.receive(make_order(1, "p9", generation=2), 100)
    blocked = book.begin(8)
    book.stored(Orders(2, 0))
    begun = book.begin(8)
    old = book.receive(make_order(3), 100)

    assert (blocked, [order.placement for order in begun], old) == ([], ["p9"], False)


def test_an_order_of_the_old_generation_that_ends_late_counts_for_nothing():
    book = make_book(make_order(1))
    (old,) = book.begin(8)
    book.receive(make_order(1, "p9", generation=2), 100)

    book.end(old, APPLIED)
    ended = book.stored(Orders(1, 1))
    book.stored(Orders(2, 0))

    assert ended == []
    assert [order.placement for order in book.begin(8)] == ["p9"]


def test_orders_too_far_ahead_are_left_for_the_hub_to_send_again():
    book = make_book(*(make_order(number, f"p{number}") for number in range(2, MAX_ORDERS + 2)))

    far = book.receive(make_order(MAX_ORDERS + 2, "far"), 100)
    gap = book.receive(make_order(1, "p1"), 100)

    assert (far, gap) == (False, True)
    assert book.has_room is False
    assert len(book.begin(8)) == 8


@given(
    st.permutations(range(1, 9)), st.lists(st.sampled_from(["p1", "p2", "p3"]), min_size=8, max_size=8), st.randoms()
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_order_of_arrival_each_placement_sees_its_orders_one_by_one_in_number_order(
    arrival, placements, random
):
    orders = {number: make_order(number, placements[number - 1]) for number in range(1, 9)}
    book, running, begun, arriving = OrderBook(Orders(1, 0)), [], [], list(arrival)

    while book.orders.done < 8:
        if arriving and random.random() < 0.5:
            number = arriving.pop()
            book.receive(orders[number], 100)
            book.receive(orders[number], 100)
        started = book.begin(3)
        assert all(order.placement not in {other.placement for other in running} for order in started)
        running += started
        begun += [order.order for order in started]
        if running and random.random() < 0.5:
            book.end(running.pop(random.randrange(len(running))), APPLIED)
        book.stored(Orders(1, book.done()))

    for placement in ("p1", "p2", "p3"):
        own = [number for number in begun if placements[number - 1] == placement]
        assert own == sorted(own)
    assert sorted(begun) == list(range(1, 9))
