"""The quota tree: two independent ways to say what fits must agree, and what may not be lost is not."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.domain.errors import Invalid
from federation.domain.quota import (
    UNLIMITED,
    Pair,
    Quota,
    QuotaNode,
    QuotaTree,
    Verdict,
    cycle_from,
    refuse_cycles,
)

CPU: Pair = ("east", "cpu")
GPU: Pair = ("east", "nvidia.com/gpu")


def quota(nominal: int = 0, borrow: int | None = None, lend: int | None = None) -> Quota:
    return Quota(nominal=nominal, borrowing_limit=borrow, lending_limit=lend)


def team(name: str, parent: str | None = None, cpu: Quota | None = None) -> QuotaNode:
    return QuotaNode(name=name, parent=parent, quotas={CPU: cpu} if cpu else {})


def cohort(name: str, parent: str | None = None, cpu: Quota | None = None) -> QuotaNode:
    return QuotaNode(name=name, parent=parent, cohort=True, quotas={CPU: cpu} if cpu else {})


def random_nodes(seed: random.Random) -> list[QuotaNode]:
    def limit() -> int | None:
        return seed.choice((None, 0, seed.randrange(8)))

    def some_quota() -> Quota:
        return quota(seed.randrange(12), limit(), limit())

    cohorts = [cohort("c0", None, some_quota())]
    for i in range(1, seed.randint(1, 5)):
        cohorts.append(cohort(f"c{i}", f"c{seed.randrange(i)}", some_quota()))
    parents = [node.name for node in cohorts]
    return cohorts + [team(f"t{i}", seed.choice(parents), some_quota()) for i in range(seed.randint(1, 6))]


def tokens(tree: QuotaTree, used: dict[str, int], name: str) -> int:
    """KEP-79's T: what a node may still give away; negative is what it borrows."""
    node = tree.nodes[tree.index[name]]
    total = node.quotas.get(CPU, Quota()).nominal - used.get(name, 0)
    for i in tree.children[tree.index[name]]:
        child = tree.nodes[i]
        given_up, limit = tokens(tree, used, child.name), child.quotas.get(CPU, Quota()).lending_limit
        total += given_up if limit is None else min(limit, given_up)
    return total


def fits_by_tokens(tree: QuotaTree, used: dict[str, int], name: str, wanted: int) -> bool:
    after = used | {name: used.get(name, 0) + wanted}
    for i in tree.chains[tree.index[name]]:
        node = tree.nodes[i]
        floor = node.quotas.get(CPU, Quota()).borrowing_limit if node.parent else 0
        if floor is not None and tokens(tree, after, node.name) < -floor:
            return False
    return True


def assert_oracles_agree(trees: int, seed: int) -> None:
    """Where nothing above a team is in debt; with debt above, the tokens admit nothing, and Kueue what is kept inside."""
    dice, settled = random.Random(seed), 0
    for _ in range(trees):
        tree, used = QuotaTree(random_nodes(dice)), dict[str, int]()
        teams = [node.name for node in tree.nodes if not node.cohort]
        for name in teams:
            used[name] = dice.randrange(9)
            tree.add(name, {CPU: used[name]})
        for name in teams:
            room = tree.available(name, CPU)
            if fits_by_tokens(tree, used, name, 0):
                assert [fits_by_tokens(tree, used, name, v) for v in (room, room + 1, room + 9)] == [True, False, False]
                settled += 1
            else:
                assert not fits_by_tokens(tree, used, name, 1)
    assert settled > trees


def test_available_and_the_tokens_of_kep_79_agree_on_ten_thousand_random_trees():
    assert_oracles_agree(10_000, seed=79)


@pytest.mark.slow
def test_available_and_the_tokens_of_kep_79_agree_on_a_hundred_thousand_random_trees():
    assert_oracles_agree(100_000, seed=1)


@given(st.randoms(use_true_random=False), st.lists(st.tuples(st.integers(0, 5), st.integers(-6, 9)), max_size=25))
def test_usage_that_moves_step_by_step_is_what_it_would_be_when_summed_anew(dice, steps):
    nodes = random_nodes(dice)
    tree = QuotaTree(nodes)
    teams = [node.name for node in tree.nodes if not node.cohort]

    for which, change in steps:
        name = teams[which % len(teams)]
        if change >= 0:
            tree.add(name, {CPU: change})
        else:
            tree.remove(name, {CPU: min(-change, tree.usage(name, CPU))})

    anew = QuotaTree(nodes, {name: tree.used(name) for name in teams})
    assert tree.columns[CPU] == anew.columns[CPU]


@given(st.randoms(use_true_random=False))
def test_what_is_admitted_when_it_fits_respects_every_limit(dice):
    tree = QuotaTree(random_nodes(dice))
    teams = [node.name for node in tree.nodes if not node.cohort]
    for _ in range(20):
        name, wanted = dice.choice(teams), {CPU: dice.randrange(6)}
        if tree.fits(name, wanted):
            tree.add(name, wanted)

    column = tree.columns[CPU]
    for i, node in enumerate(tree.nodes):
        mine = node.quotas.get(CPU, Quota())
        inside, lent_out = column.local[i], max(0, column.subtree[i] - max(column.usage[i], column.local[i]))
        if node.parent and mine.borrowing_limit is not None:
            assert column.usage[i] - column.subtree[i] <= mine.borrowing_limit
        if mine.lending_limit is not None:
            assert lent_out <= mine.lending_limit
            assert inside == max(0, column.subtree[i] - mine.lending_limit)
    assert column.usage[0] <= column.subtree[0]


@given(st.randoms(use_true_random=False))
def test_no_use_leaves_what_is_potentially_available_and_use_never_more(dice):
    tree = QuotaTree(random_nodes(dice))
    for node in tree.nodes:
        assert tree.available(node.name, CPU) == tree.potential(node.name, CPU)

    busy = tree.copy()
    for node in tree.nodes:
        if not node.cohort:
            busy.add(node.name, {CPU: dice.randrange(14)})

    assert all(busy.available(node.name, CPU) <= tree.potential(node.name, CPU) for node in tree.nodes)
    assert all(tree.used(node.name) == {} for node in tree.nodes)


def test_what_a_lender_keeps_inside_is_used_first_and_given_back_last():
    tree = QuotaTree([team("a", "all", quota(10, lend=4)), team("b", "all", quota(10))])

    tree.add("a", {CPU: 8})
    assert tree.usage("all", CPU) == 2
    tree.remove("a", {CPU: 1})
    assert tree.usage("all", CPU) == 1
    tree.remove("a", {CPU: 4})

    assert tree.usage("all", CPU) == 0
    assert tree.available("b", CPU) == 14


def test_a_sibling_in_debt_takes_from_one_that_neither_lends_nor_borrows():
    tree = QuotaTree([team("a", "all", quota(10, borrow=0)), team("b", "all", quota(5))], {"b": {CPU: 9}})

    assert tree.available("a", CPU) == 6
    assert tree.headroom("b", CPU) == 6


def test_debt_is_seen_with_its_sign_inside_and_as_nothing_by_the_team():
    tree = QuotaTree([team("a", "all", quota(2)), team("b", "all", quota(3, lend=1))], {"a": {CPU: 7}})

    assert tree.headroom("a", CPU) == -4
    assert tree.available("a", CPU) == 0
    assert tree.available("b", CPU) == 0
    assert tree.borrowing("a", CPU) == 5


def test_what_could_never_fit_is_told_from_what_must_wait_with_the_limit_that_binds():
    tree = QuotaTree(
        [cohort("root", None, quota(10)), team("a", "root", quota(2, borrow=3)), team("b", "root", quota(4))],
        {"b": {CPU: 13}},
    )

    never, pending = tree.why_not("a", {CPU: 6}), tree.why_not("a", {CPU: 4})

    assert never is not None
    assert (never.verdict, never.node, never.limit, never.room) == (Verdict.NEVER, "a", "borrowing limit", 5)
    assert str(never) == "cpu in east: 6 wanted, at most 5 by the borrowing limit of a"
    assert pending is not None
    assert (pending.verdict, pending.node, pending.limit, pending.room) == (Verdict.PENDING, "root", "quota", 3)
    assert tree.why_not("a", {CPU: 3, GPU: 0}) is None


def test_a_pair_that_no_quota_names_never_fits_and_its_use_is_debt():
    tree = QuotaTree([team("a", "all", quota(2))], {"a": {GPU: 3}})

    refusal = tree.why_not("a", {CPU: 1, GPU: 1})

    assert refusal is not None
    assert refusal.verdict is Verdict.NEVER
    assert tree.headroom("a", GPU) == -3
    assert not tree.fits("a", {("west", "cpu"): 1})
    assert tree.fits("a", {CPU: 1})


def test_what_has_no_limit_stays_without_through_sums_and_differences():
    nodes = [team("a", "all", quota(UNLIMITED, lend=7)), team("b", "all", quota(UNLIMITED)), team("c", "all", quota(1))]
    tree = QuotaTree(nodes, {"a": {CPU: 10**15}, "c": {CPU: 2**50}})

    assert tree.available("a", CPU) == UNLIMITED
    assert tree.potential("c", CPU) == UNLIMITED
    assert tree.available("c", CPU) == UNLIMITED
    finite = QuotaTree([team("a", "all", quota(5, lend=7)), team("b", "all", quota(3, borrow=UNLIMITED))])
    assert finite.potential("b", CPU) == 8


def test_a_cohort_that_moves_takes_its_quota_and_its_debt_along():
    nodes = [cohort("r1"), cohort("r2"), cohort("c", "r1", quota(10)), team("a", "c", quota(1))]
    tree = QuotaTree(nodes, {"a": {CPU: 4}})

    moved = tree.changed(cohort("c", "r2", quota(10)))

    assert (tree.potential("r1", CPU), tree.potential("r2", CPU)) == (11, 0)
    assert (moved.potential("r1", CPU), moved.potential("r2", CPU)) == (0, 11)
    assert moved.available("r2", CPU) == 7
    assert moved.changed(without=["a"]).available("c", CPU) == 10


def test_parents_in_a_circle_are_refused_by_name():
    with pytest.raises(Invalid, match="a > b > c > a"):
        refuse_cycles([cohort("a", "b"), cohort("b", "c"), cohort("c", "a")])
    refuse_cycles([cohort("a", "b"), cohort("b", "c"), cohort("c")])
    assert cycle_from({"a": "a"}, "a") == ("a", "a")


def test_a_circle_stops_admission_in_its_whole_tree_and_in_no_other():
    circle = [cohort("a", "b", quota(9)), cohort("b", "a"), team("in", "a", quota(5)), team("out", "free", quota(5))]
    tree = QuotaTree(circle, {"in": {CPU: 2}})

    refusal = tree.why_not("in", {CPU: 1})

    assert refusal is not None
    assert (refusal.verdict, str(refusal)) == (
        Verdict.DISABLED,
        "no admission: the parents form a circle, in > a > b > a",
    )
    assert not tree.fits("in", {CPU: 1})
    assert not tree.fits("in", {})
    assert tree.usage("in", CPU) == 2
    tree.remove("in", {CPU: 2})
    assert tree.fits("out", {CPU: 5})
    assert tree.changed(cohort("b")).available("in", CPU) == 14


def test_bad_definitions_and_impossible_use_are_refused():
    with pytest.raises(Invalid):
        quota(-1)
    with pytest.raises(Invalid):
        quota(1, lend=-1)
    with pytest.raises(Invalid, match="same name"):
        QuotaTree([team("a"), cohort("a")])
    with pytest.raises(Invalid, match="only a cohort"):
        QuotaTree([team("a"), team("b", "a")])
    tree = QuotaTree([team("a", "all", quota(4))], {"a": {CPU: 1}})
    for impossible in (
        lambda: tree.remove("a", {CPU: 2}),
        lambda: tree.add("a", {CPU: -1}),
        lambda: tree.add("all", {CPU: 1}),
        lambda: tree.remove("a", {CPU: 1, GPU: 1}),
    ):
        with pytest.raises(ValueError, match=r"use|negative"):
            impossible()
    assert tree.used("a") == {CPU: 1}
    assert tree.nodes[0].weight == Fraction(1)
