"""Runtime quota and dominant resource fairness: all of what there is, to whom it is due, and never twice."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.planner.drf import User, fill
from federation.planner.runtime_quota import Child, by_weight, propagated, runtime_of_leaf, runtimes, scaled

DICE = st.randoms(use_true_random=False)


def child(name: str, request: int, least: int = 0, **changes: int) -> Child:
    return Child(
        name=name,
        request=request,
        min=least,
        max=changes.get("most"),
        weight=changes.get("weight", 1),
        guarantee=changes.get("guarantee", 0),
        lends=bool(changes.get("lends", 1)),
        scalable=bool(changes.get("scalable", 1)),
    )


def random_children(dice: random.Random) -> list[Child]:
    return [
        Child(
            name=f"c{i}",
            request=dice.randrange(40),
            min=dice.randrange(20),
            max=dice.choice((None, 20 + dice.randrange(20))),
            weight=dice.randrange(5),
            guarantee=dice.choice((0, dice.randrange(20))),
            lends=dice.random() < 0.7,
            scalable=dice.random() < 0.7,
        )
        for i in range(dice.randint(1, 6))
    ]


@given(dice=DICE, total=st.integers(0, 150))
def test_each_gets_between_its_floor_and_its_request_and_together_no_more_than_there_is(dice, total):
    children = random_children(dice)

    runtime = runtimes(total, children)

    floors = {c.name: (min(c.limited, c.floor) if c.lends else c.floor) for c in children}
    for c in children:
        assert floors[c.name] <= runtime[c.name] <= max(floors[c.name], c.limited)
    assert sum(runtime.values()) <= max(total, sum(floors.values()))


@given(dice=DICE, total=st.integers(0, 150))
def test_nothing_is_left_while_someone_with_weight_wants_more(dice, total):
    children = random_children(dice)

    runtime = runtimes(total, children)

    wanting = [c for c in children if c.limited > c.floor and runtime[c.name] < c.limited and c.share > 0]
    assert not wanting or sum(runtime.values()) >= total
    dice.shuffle(children)
    assert runtimes(total, children) == runtime


@given(dice=DICE, more=st.integers(1, 9), total=st.integers(0, 150))
def test_more_to_divide_leaves_nobody_worse_by_more_than_the_odd_unit(dice, more, total):
    children = random_children(dice)

    before, after = runtimes(total, children), runtimes(total + more, children)

    assert all(after[name] >= before[name] - 1 for name in before)


def test_who_does_not_lend_keeps_its_idle_minimum_and_who_lends_gives_it():
    assert runtimes(100, [child("a", 120, 60), child("b", 0, 40, lends=0)]) == {"a": 60, "b": 40}
    assert runtimes(100, [child("a", 120, 60), child("b", 0, 40)]) == {"a": 100, "b": 0}


def test_what_is_guaranteed_counts_as_minimum_and_weight_zero_gets_no_surplus():
    assert runtimes(50, [child("a", 40, 5, guarantee=30), child("b", 40, 5)]) == {"a": 38, "b": 12}
    assert runtimes(50, [child("a", 40, 5, weight=0), child("b", 20, 5)]) == {"a": 5, "b": 20}


def test_the_weight_is_the_maximum_where_none_is_given():
    children = [Child(name="a", request=90, max=30), Child(name="b", request=90, max=60)]

    assert runtimes(45, children) == {"a": 15, "b": 30}


def test_minima_are_served_beyond_the_total_unless_they_are_scaled():
    children = [child("a", 60, 60), child("b", 60, 60, scalable=0), child("c", 60, 30)]

    assert sum(runtimes(100, children).values()) == 180 - 30
    assert [c.min for c in scaled(100, children)] == [26, 60, 13]
    assert [c.min for c in scaled(50, children)] == [0, 60, 0]
    assert scaled(150, children) == children


@given(dice=DICE, total=st.integers(0, 60))
def test_scaled_minima_fit_once_those_that_may_not_be_scaled_do(dice, total):
    children = random_children(dice)

    minima = scaled(total, children)

    fixed = sum(c.min for c in children if not c.scalable)
    assert sum(c.min for c in minima) <= max(total, fixed)
    assert all(after.min <= before.min for after, before in zip(minima, children, strict=True))


def test_each_level_asks_for_no_more_than_the_one_below_may_have():
    chain = propagated(
        [child("top", 0, most=300), child("mid", 0, 60, most=200, lends=0), child("leaf", 0, most=500)], 20
    )

    assert [(c.name, c.request) for c in chain] == [("top", 60), ("mid", 20), ("leaf", 20)]
    assert runtime_of_leaf(1000, chain) == 20
    assert runtime_of_leaf(1000, propagated(chain, 800)) == 200
    assert runtime_of_leaf(15, propagated(chain, 800)) == 60


@given(st.integers(0, 2**62), st.lists(st.integers(0, 2**62), min_size=1).filter(any))
def test_by_weight_gives_all_of_it_each_within_one_unit_of_its_part(amount, weights):
    parts = by_weight(amount, weights)

    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(Fraction(amount * weight, sum(weights)) - part) < 1


def test_the_odd_units_go_to_the_largest_remainders_then_to_the_first():
    assert by_weight(7, [1, 4]) == [1, 6]
    assert by_weight(8, [1, 1, 1]) == [3, 3, 2]
    assert by_weight(5, [0, 3, 3]) == [0, 3, 2]


@given(dice=DICE)
def test_the_fair_filling_leaves_no_task_that_fits_and_nobody_envies(dice):
    capacity = {"cpu": dice.randint(1, 60), "memory": dice.randint(1, 60)}
    users = [User(name=f"u{i}", demand={"cpu": dice.randint(0, 6), "memory": dice.randint(1, 6)}) for i in range(4)]

    filled = fill(capacity, users)

    used = {r: sum(filled[u.name].tasks * u.demand[r] for u in users) for r in capacity}
    assert all(used[r] <= capacity[r] for r in capacity)
    for user in users:
        assert any(used[r] + user.demand[r] > capacity[r] for r in capacity)
        shares = {r: Fraction(filled[user.name].tasks * user.demand[r], capacity[r]) for r in capacity}
        assert filled[user.name].share == max(shares.values())
    dice.shuffle(users)
    assert fill(capacity, users) == filled


@pytest.mark.parametrize(("weight", "tasks"), [(1, {"a": 5, "b": 5}), (4, {"a": 8, "b": 2})])
def test_weights_move_the_shares(weight, tasks):
    users = [User(name="a", demand={"cpu": 1}, weight=Fraction(weight)), User(name="b", demand={"cpu": 1})]

    assert {name: user.tasks for name, user in fill({"cpu": 10}, users).items()} == tasks


def test_whoever_wants_no_more_or_nothing_leaves_the_rest_to_others():
    users = [
        User(name="a", demand={"cpu": 1}, tasks=2),
        User(name="b", demand={"cpu": 1}),
        User(name="idle", demand={}),
        User(name="never", demand={"gpu": 1}),
    ]

    filled = fill({"cpu": 10}, users)

    assert {name: user.tasks for name, user in filled.items()} == {"a": 2, "b": 8, "idle": 0, "never": 0}
    assert (filled["a"].share, filled["a"].dominant) == (Fraction(1, 5), "cpu")
