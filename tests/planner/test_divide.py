"""Dividing replicas: the reference's values, and the properties that make them safe."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.planner.divide import (
    Division,
    divide_aggregated,
    divide_counts,
    divide_duplicated,
    divide_dynamic,
    divide_static,
    divide_tiers,
    largest_fitting,
    webster,
    webster_counts,
)

STRATEGIES = (divide_dynamic, divide_aggregated)


def make_division(
    total: int, allocatable: Sequence[int], previous: Sequence[int] = (), *, fresh: bool = False
) -> Division:
    """Clusters c1, c2, … with these numbers in turn."""
    return Division(total=total, allocatable=named(allocatable), previous=named(previous), fresh=fresh)


def named(counts: Sequence[int]) -> dict[str, int]:
    return {f"c{at + 1}": count for at, count in enumerate(counts)}


def seat_by_seat(seats: int, votes: Sequence[int], initial: Sequence[int]) -> list[int]:
    """The rule itself, one seat at a time in exact fractions."""
    counts = list(initial)
    for _ in range(seats):
        best = min(range(len(votes)), key=lambda i: (-Fraction(votes[i], 2 * counts[i] + 1), counts[i], i))
        counts[best] += 1
    return counts


@pytest.mark.parametrize(
    ("division", "dynamic", "aggregated"),
    [
        (make_division(12, [6, 8, 10]), [3, 4, 5], [0, 5, 7]),
        (make_division(24, [4, 6, 8], [4, 8]), [7, 12, 5], [7, 12, 5]),
        (make_division(24, [6, 6, 20], [4, 8]), [6, 10, 8], [10, 14, 0]),
        (make_division(6, [1, 1, 1], [2, 4, 6]), [1, 2, 3], [0, 0, 6]),
        (make_division(6, [1, 1, 1], [4, 8]), [2, 4, 0], [0, 6, 0]),
        (make_division(12, [0, 0, 0], [4, 8]), [4, 8, 0], [4, 8, 0]),
        (make_division(0, [5, 5, 5], [4, 8]), [0, 0, 0], [0, 0, 0]),
    ],
)
def test_worked_values_are_met(division: Division, dynamic: list[int], aggregated: list[int]):
    assert divide_dynamic(division) == {name: count for name, count in named(dynamic).items() if count}
    assert divide_aggregated(division) == {name: count for name, count in named(aggregated).items() if count}


def test_replicas_of_a_cluster_that_is_no_candidate_are_placed_anew():
    division = Division(total=24, allocatable={"c1": 4, "c3": 8, "c4": 12}, previous={"c1": 4, "c2": 8})

    assert divide_aggregated(division) == {"c1": 7, "c3": 7, "c4": 10}


def test_a_fresh_division_forgets_who_held_what():
    allocatable, previous = [8, 2, 6], [0, 9, 0]

    assert divide_dynamic(make_division(9, allocatable, previous)) == {"c2": 9}
    assert divide_dynamic(make_division(9, allocatable, previous, fresh=True)) == {"c1": 3, "c2": 4, "c3": 2}
    assert divide_aggregated(make_division(9, allocatable, previous, fresh=True)) == {"c2": 9}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_does_not_fit_changes_nothing(strategy):
    assert strategy(make_division(24, [1, 1, 1], [2, 4, 6])) is None
    assert strategy(make_division(16, [1, 1, 1], [2, 4, 6], fresh=True)) is None
    assert strategy(make_division(1, [])) is None
    assert strategy(make_division(1, [-5, 0])) is None


def test_nothing_to_place_is_placed_nowhere():
    assert divide_dynamic(make_division(0, [])) == {}
    assert divide_static(0, {"a": 1}) == divide_duplicated(0, ["a"]) == {}


def test_static_weights_take_the_whole_total():
    assert divide_static(13, {"c1": 3, "c2": 2, "c3": 1}) == {"c1": 7, "c2": 4, "c3": 2}
    assert divide_static(7, {"c1": 3, "c2": 0, "c3": 4}) == {"c1": 3, "c3": 4}


def test_without_any_weight_all_weigh_the_same():
    assert divide_static(5, {"c2": 0, "c1": 0}) == {"c1": 3, "c2": 2}


def test_duplicated_gives_each_cluster_the_whole():
    assert divide_duplicated(3, ["b", "a"]) == {"a": 3, "b": 3}


def test_ties_go_to_fewer_seats_and_then_to_the_name():
    assert webster(1, {"A": 3, "B": 1}, {"A": 1}) == {"A": 1, "B": 1}
    assert webster(1, {"b": 5, "a": 5}) == {"a": 1, "b": 0}


def test_a_party_without_votes_keeps_its_seats_and_gets_none():
    assert webster(3, {"a": 1, "b": 1}, {"gone": 2}) == {"a": 2, "b": 1, "gone": 2}


def test_votes_that_floats_cannot_tell_apart_are_told_apart():
    assert webster(1, {"a": 2**53, "b": 2**53 + 1}) == {"a": 0, "b": 1}
    assert webster(3, {"a": 3 * 2**60 + 3, "b": 2**60 + 1, "c": 2**60}) == {"a": 2, "b": 1, "c": 0}


@pytest.mark.parametrize("votes", [-1, 2**63])
def test_votes_out_of_bounds_are_refused(votes: int):
    with pytest.raises(ValueError, match="between 0 and 9223372036854775807"):
        webster(1, {"a": votes})


@st.composite
def elections(draw):
    size = draw(st.integers(1, 7))
    most = draw(st.sampled_from((1, 3, 40, 10**9, 2**52, 2**62)))
    votes = draw(st.lists(st.integers(0, most) | st.sampled_from((0, most)), min_size=size, max_size=size))
    initial = draw(st.lists(st.integers(0, 12), min_size=size, max_size=size) | st.just([0] * size))
    return draw(st.integers(0, 40)), votes, initial


@settings(max_examples=500)
@given(elections())
def test_all_seats_at_once_are_the_same_as_seat_by_seat(election):
    seats, votes, initial = election

    counts = webster_counts(seats, np.array(votes, np.int64), np.array(initial, np.int64))

    assert counts.tolist() == seat_by_seat(seats, votes, initial)


@pytest.mark.parametrize("most", [1, 50, 10**6, 2**62])
def test_many_parties_and_seats_are_the_same_as_seat_by_seat(most: int):
    random = np.random.default_rng(most)
    votes = random.integers(0, most, 60, endpoint=True)
    initial = random.integers(0, 20, 60)

    counts = webster_counts(700, votes, initial)

    assert counts.tolist() == seat_by_seat(700, votes.tolist(), initial.tolist())


@given(elections())
def test_one_more_seat_never_takes_one_away(election):
    seats, votes, initial = election
    columns = np.array(votes, np.int64), np.array(initial, np.int64)

    before, after = webster_counts(seats, *columns), webster_counts(seats + 1, *columns)

    assert sorted((after - before).tolist()) == [0] * (len(votes) - 1) + [1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.data())
def test_no_cluster_exceeds_its_availability_where_all_of_it_suffices(votes, data):
    seats = data.draw(st.integers(0, sum(votes)))

    counts = webster_counts(seats, np.array(votes, np.int64))

    assert int(counts.sum()) == seats
    assert all(count <= most for count, most in zip(counts.tolist(), votes, strict=True))


def test_the_columns_given_stay_as_they_were():
    votes, initial = np.array([5, 3], np.int64), np.array([1, 0], np.int64)

    for seats in (1, 20):
        webster_counts(seats, votes, initial)

    assert (votes.tolist(), initial.tolist()) == ([5, 3], [1, 0])


@st.composite
def divisions(draw):
    size = draw(st.integers(1, 6))
    column = st.lists(st.integers(0, 9), min_size=size, max_size=size)
    return make_division(draw(st.integers(0, 50)), draw(column), draw(column), fresh=draw(st.booleans()))


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(division=divisions())
def test_a_division_places_all_or_nothing_within_what_fits(strategy, division: Division):
    counts = strategy(division)

    limit = {name: division.allocatable[name] + division.previous[name] for name in division.allocatable}
    if counts is None:
        assert division.total > sum(limit.values())
    else:
        assert sum(counts.values()) == division.total
        assert all(0 < count <= limit[name] for name, count in counts.items())


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(division=divisions())
def test_steady_growth_takes_nothing_away_and_shrinking_adds_nothing(strategy, division: Division):
    steady = Division(total=division.total, allocatable=division.allocatable, previous=division.previous)
    held = sum(steady.previous.values())

    counts = strategy(steady)

    changes = [] if counts is None else [counts.get(name, 0) - count for name, count in steady.previous.items()]
    if held <= division.total:
        assert all(change >= 0 for change in changes)
    if held >= division.total:
        assert counts is not None
        assert all(change <= 0 for change in changes)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(division=divisions())
def test_the_largest_total_that_fits_fits_and_one_more_does_not(strategy, division: Division):
    most = largest_fitting(division)

    def placed(total: int) -> dict[str, int] | None:
        return strategy(
            Division(total=total, allocatable=division.allocatable, previous=division.previous, fresh=division.fresh)
        )

    assert placed(most) is not None
    assert most == division.total or placed(most + 1) is None


@pytest.mark.parametrize("aggregated", [False, True])
def test_columns_and_mappings_give_the_same_division(aggregated: bool):
    allocatable, previous = np.array([4, 6, 8], np.int64), np.array([4, 8, 0], np.int64)

    counts = divide_counts(24, allocatable, previous, aggregated=aggregated)

    assert counts is not None
    assert counts.tolist() == [7, 12, 5]
    assert divide_counts(31, allocatable, previous, aggregated=aggregated) is None


def test_the_next_tier_takes_only_what_the_first_cannot():
    division = make_division(10, [4, 4, 9])

    assert divide_tiers(division, [["c1", "c2"], ["c3"]], divide_dynamic) == {"c1": 4, "c2": 4, "c3": 2}
    assert divide_tiers(division, [["c3"], ["c1", "c2"]], divide_aggregated) == {"c3": 9, "c1": 1}
    assert divide_tiers(division, [["c1"], ["c2"]], divide_dynamic) is None


def test_what_frees_in_the_first_tier_is_used_before_the_second():
    division = make_division(8, [5, 9], [3, 5])

    assert divide_tiers(division, [["c1"], ["c2"]], divide_dynamic) == {"c1": 8}
