"""Division over quota and shrinking: what is deserved is safe, whole units, and as much as there is to give."""

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from federation.planner.over_quota import Queue, fair_shares
from federation.planner.quota_shrink import Holding, given_back, rounded_down

DICE = st.randoms(use_true_random=False)


def queue(name: str, request: int, deserved: int | None = 0, **changes: int) -> Queue:
    return Queue(
        name=name,
        request=request,
        deserved=deserved,
        most=changes.get("most"),
        weight=changes.get("weight", 1),
        priority=changes.get("priority", 0),
        used=Fraction(changes.get("used_percent", 0), 100),
    )


def random_tree(dice: random.Random) -> list[Holding]:
    tree = [Holding(name="n0", parent="root", allocated=dice.randrange(30), guaranteed=dice.randrange(9))]
    for i in range(1, dice.randint(2, 12)):
        parent = dice.choice(["root", *(holding.name for holding in tree)])
        tree.append(Holding(name=f"n{i}", parent=parent, allocated=dice.randrange(30), guaranteed=dice.randrange(9)))
    return tree


def test_what_is_deserved_is_given_first_even_beyond_what_there_is():
    assert fair_shares(3, [queue("a", 5, 2), queue("b", 1, 2), queue("c", 9, 2)]) == {"a": 2, "b": 1, "c": 2}
    assert fair_shares(6, [queue("a", 9, None), queue("b", 3)]) == {"a": 6, "b": 0}


def test_a_higher_priority_takes_all_it_wants_before_a_lower_one_whatever_the_weights():
    queues = [queue("low", 9, weight=100, priority=1), queue("high", 4, priority=2)]

    assert fair_shares(6, queues) == {"high": 4, "low": 2}
    assert fair_shares(3, queues) == {"high": 3, "low": 0}


def test_what_one_does_not_want_goes_to_the_others_and_the_odd_units_to_the_largest_rests():
    assert fair_shares(10, [queue("a", 2), queue("b", 9), queue("c", 9)]) == {"a": 2, "b": 4, "c": 4}
    assert fair_shares(11, [queue("a", 9, most=3), queue("b", 9, weight=2), queue("c", 9)]) == {"a": 3, "b": 5, "c": 3}
    assert fair_shares(5, [queue("a", 9, weight=0), queue("b", 3)]) == {"a": 0, "b": 3}


def test_who_used_more_than_its_weight_lately_weighs_less_if_history_counts():
    queues = [queue("heavy", 9, used_percent=90), queue("light", 9, used_percent=10)]

    assert fair_shares(8, queues) == {"heavy": 4, "light": 4}
    assert fair_shares(8, queues, history=Fraction(1, 2)) == {"heavy": 2, "light": 6}
    assert fair_shares(8, queues, history=2) == {"heavy": 0, "light": 8}


@given(dice=DICE, total=st.integers(0, 80))
def test_nobody_has_more_than_it_wants_nor_less_than_deserved_and_nothing_idles(dice, total):
    queues = [
        queue(f"q{i}", dice.randrange(30), dice.randrange(8), weight=dice.randint(1, 4), priority=dice.randrange(3))
        for i in range(dice.randint(1, 6))
    ]

    shares = fair_shares(total, queues)

    for each in queues:
        assert min(each.deserved or 0, each.wanted) <= shares[each.name] <= each.wanted
    deserved = sum(min(each.deserved or 0, each.wanted) for each in queues)
    assert sum(shares.values()) == max(deserved, min(total, sum(each.wanted for each in queues)))
    dice.shuffle(queues)
    assert fair_shares(total, queues) == shares


@given(dice=DICE, amount=st.integers(0, 90))
def test_no_leaf_gives_more_than_it_has_above_its_guarantee_and_no_more_is_given_than_asked(dice, amount):
    tree = random_tree(dice)
    by_name = {holding.name: holding for holding in tree}

    given_up = given_back(amount, tree)

    assert sum(given_up.values()) <= amount
    assert all(part <= by_name[name].excess for name, part in given_up.items())
    dice.shuffle(tree)
    assert given_back(amount, tree) == given_up


def test_siblings_give_in_proportion_and_nothing_is_lost_by_rounding():
    tree = [
        Holding(name="a", parent="root", allocated=30, guaranteed=10),
        Holding(name="b", parent="root", allocated=10),
        Holding(name="idle", parent="root", allocated=5, guaranteed=5),
    ]

    assert given_back(20, tree) == {"a": 13, "b": 7}
    assert given_back(20, tree, rounded_down) == {"a": 13, "b": 6}
    assert given_back(99, tree) == {"a": 20, "b": 10}
