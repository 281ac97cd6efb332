"""Fair shares, turns by them, and the history that breaks their ties."""

import random
from collections.abc import Iterable
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.domain.quota import UNLIMITED, Pair, Quota, QuotaNode, QuotaTree, Verdict
from federation.planner.borrowing import Shares, shares_of
from federation.planner.history import MILLIONTHS, admitted, fade, sampled
from federation.planner.tournament import Head, TournamentRules, reserved, run_cycle
from tests.planner.quota_builders import CPU, cohort, team

DICE = st.randoms(use_true_random=False)
PAIRS: tuple[Pair, ...] = (("east", "cpu"), ("west", "cpu"), ("east", "gpu"))


def head(name: str, of: str, cpu: int, **changes: int) -> Head:
    return Head(
        name=name,
        team=of,
        request={CPU: cpu},
        priority=changes.get("priority", 0),
        created=changes.get("created", 0),
        waiting=bool(changes.get("waiting", 0)),
    )


def order(tree: QuotaTree, heads: Iterable[Head], rules: TournamentRules | None = None) -> list[str]:
    return [outcome.head.name for outcome in run_cycle(tree, heads, rules)]


def random_tree(dice: random.Random, largest: int = 9) -> QuotaTree:
    def quotas() -> dict[Pair, Quota]:
        return {
            pair: Quota(nominal=dice.randint(0, largest), lending_limit=dice.choice((None, 0, 3)))
            for pair in dice.sample(PAIRS, dice.randint(0, 3))
        }

    cohorts = [QuotaNode(name="root", cohort=True, quotas=quotas())]
    for i in range(dice.randrange(4)):
        parent, weight = dice.choice(cohorts).name, Fraction(dice.randrange(4), 2)
        cohorts.append(QuotaNode(name=f"c{i}", cohort=True, parent=parent, quotas=quotas(), weight=weight))
    teams = [
        QuotaNode(
            name=f"t{i}", parent=dice.choice(cohorts).name, quotas=quotas(), weight=Fraction(dice.randrange(4), 3)
        )
        for i in range(dice.randint(1, 5))
    ]
    usage = {node.name: {pair: dice.randint(0, 2 * largest) for pair in PAIRS} for node in teams}
    return QuotaTree([*cohorts, *teams], usage)


def share_in_fractions(tree: QuotaTree, name: str) -> tuple[Fraction, str]:
    node = tree.nodes[tree.index[name]]
    if node.parent is None:
        return Fraction(0), ""
    ratios: dict[str, Fraction] = {}
    for resource in ("cpu", "gpu"):
        pairs = [pair for pair in PAIRS if pair[1] == resource]
        lendable = sum(tree.potential(node.parent, pair) for pair in pairs)
        if lendable:
            ratios[resource] = Fraction(1000 * sum(tree.borrowing(name, pair) for pair in pairs), lendable)
    best = max(ratios.values(), default=Fraction(0))
    return best, next((resource for resource in sorted(ratios) if best and ratios[resource] == best), "")


@given(dice=DICE)
def test_a_share_is_the_largest_part_of_the_lendable_by_weight_rounded_up(dice):
    tree = random_tree(dice)

    shares = shares_of(tree)

    for node in tree.nodes:
        ratio, dominant = share_in_fractions(tree, node.name)
        borrows = node.parent is not None and any(tree.borrowing(node.name, pair) for pair in PAIRS)
        expected = UNLIMITED if borrows and not node.weight else ceil(ratio / (node.weight or 1))
        found = shares[node.name]
        assert (found.value, found.dominant, found.borrowing) == (expected, dominant, borrows)


@given(dice=DICE, largest=st.sampled_from((9, 2**61)))
def test_shares_in_columns_are_the_shares_one_by_one(dice, largest):
    shares = Shares(random_tree(dice, largest))

    assert shares.all() == [shares.of(i) for i in range(len(shares.tree.nodes))]


@given(dice=DICE)
def test_a_share_that_is_kept_is_forgotten_when_use_below_it_changes(dice):
    tree = random_tree(dice)
    shares, teams = Shares(tree), [node.name for node in tree.nodes if not node.cohort]
    shares.all()
    for i in range(len(tree.nodes)):
        shares.of(i)

    for name in teams:
        shares.add(name, {pair: dice.randint(0, 9) for pair in PAIRS})
        shares.remove(name, {pair: dice.randint(0, tree.usage(name, pair)) for pair in PAIRS})

    assert [shares.of(i) for i in range(len(tree.nodes))] == Shares(tree).all()


@given(dice=DICE)
def test_a_share_as_if_is_the_share_once_it_is_so(dice):
    tree = random_tree(dice)
    shares, name = Shares(tree), dice.choice([node.name for node in tree.nodes if not node.cohort])
    more = {pair: dice.randint(0, 9) for pair in PAIRS}
    less = {pair: dice.randint(0, tree.usage(name, pair)) for pair in PAIRS}

    with_more, without_less = shares.of_with(tree.index[name], more), shares.without(tree.index[name], name, less)

    up, down = tree.copy(), tree.copy()
    up.add(name, more)
    down.remove(name, less)
    assert with_more == shares_of(up)[name]
    assert without_less == shares_of(down)[name]
    assert shares_of(tree)[name] == Shares(tree).of(tree.index[name])


def test_weight_zero_that_borrows_is_above_everyone_and_among_its_like_by_what_it_borrows():
    nodes = [cohort("all", cpu=90), *(team(name, cpu=10, weight=0) for name in ("none", "little", "much")), team("a")]
    tree = QuotaTree(nodes, {"none": {CPU: 10}, "little": {CPU: 11}, "much": {CPU: 15}, "a": {CPU: 60}})

    shares = shares_of(tree)

    ranked = sorted(("none", "little", "much", "a"), key=lambda name: shares[name].rank)
    assert ranked == ["none", "a", "little", "much"]
    assert (shares["none"].value, shares["much"].value) == (0, UNLIMITED)


def test_an_empty_tree_has_no_shares_and_a_root_none():
    assert shares_of(QuotaTree([])) == {}
    assert not shares_of(QuotaTree([team("a", None, cpu=1)], {"a": {CPU: 3}}))["a"].borrowing
    assert not shares_of(QuotaTree([QuotaNode(name="bare", parent="all")]))["bare"].borrowing


def test_who_stays_inside_nominal_comes_before_who_borrows_less_and_waited_longer():
    nodes = [team("idle", cpu=10), team("small", cpu=2, weight=100), cohort("all", cpu=30)]
    heads = [head("borrows", "small", 3, created=1), head("owns", "idle", 9, created=2)]

    assert order(QuotaTree(nodes), heads) == ["owns", "borrows"]


def test_inside_nominal_is_judged_by_what_is_asked_for_and_not_by_what_is_borrowed_elsewhere():
    east = {PAIRS[0]: Quota(nominal=4), PAIRS[2]: Quota()}
    nodes = [
        QuotaNode(name="a", parent="all", quotas=east),
        QuotaNode(name="b", parent="all", quotas={PAIRS[2]: Quota(nominal=9)}),
    ]
    tree = QuotaTree(nodes, {"a": {PAIRS[2]: 8}})
    heads = [head("owns", "a", 1), head("borrows", "b", 1)]

    assert order(tree, heads) == ["owns", "borrows"]
    assert order(tree, heads, TournamentRules(nominal_first=False)) == ["borrows", "owns"]


def test_what_a_team_keeps_inside_does_not_count_against_its_cohort():
    nodes = [
        cohort("root", cpu=20),
        cohort("left", "root"),
        cohort("right", "root"),
        team("keeps", "left", cpu=8, lend=0),
        team("shares", "right", cpu=5),
    ]
    tree = QuotaTree(nodes, {"shares": {CPU: 5}})

    assert order(tree, [head("k", "keeps", 8), head("s", "shares", 1)]) == ["k", "s"]
    assert order(tree, [head("k", "keeps", 9, created=1), head("s", "shares", 2)]) == ["k", "s"]
    assert order(tree, [head("k", "keeps", 11), head("s", "shares", 2)]) == ["s", "k"]


def test_among_borrowers_the_lower_share_with_its_candidate_is_served_first():
    nodes = [team("a", cpu=2), team("b", cpu=2), cohort("all", cpu=20)]
    tree = QuotaTree(nodes, {"a": {CPU: 2}, "b": {CPU: 4}})

    assert order(tree, [head("small", "b", 1), head("large", "a", 4)]) == ["small", "large"]
    assert order(tree, [head("small", "b", 1), head("large", "a", 2)]) == ["large", "small"]


def test_shares_are_compared_where_two_teams_meet_and_not_between_the_teams():
    nodes = [
        cohort("root", cpu=40),
        cohort("busy", "root"),
        cohort("quiet", "root"),
        team("modest", "busy"),
        team("greedy", "busy"),
        team("lonely", "quiet"),
    ]
    tree = QuotaTree(nodes, {"greedy": {CPU: 20}, "lonely": {CPU: 5}})

    assert order(tree, [head("m", "modest", 1), head("l", "lonely", 9)]) == ["l", "m"]


def test_each_admission_counts_before_the_next_turn():
    nodes = [team("a"), team("b"), cohort("all", cpu=10)]
    heads = [head(f"{of}{i}", of, 2, created=i) for of in "ab" for i in range(3)]

    outcomes = run_cycle(QuotaTree(nodes), heads)

    assert [outcome.head.name for outcome in outcomes] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [outcome.refusal is None for outcome in outcomes] == [True] * 5 + [False]
    assert outcomes[-1].refusal is not None
    assert outcomes[-1].refusal.verdict is Verdict.PENDING


def test_ties_go_by_history_then_age_and_by_priority_between_teams_only_if_asked():
    tree = QuotaTree([team("a"), team("b"), cohort("all", cpu=10)])
    heads = [head("old", "a", 1, created=1), head("urgent", "b", 1, created=2, priority=9)]

    assert order(tree, heads) == ["old", "urgent"]
    assert order(tree, heads, TournamentRules(priority_between_teams=True)) == ["urgent", "old"]
    assert order(tree, heads, TournamentRules(history={"a": 5, "b": 4})) == ["urgent", "old"]


def test_inside_a_team_the_higher_priority_goes_first_then_the_older_then_by_name():
    heads = [head("z", "a", 1), head("y", "a", 1), head("late", "a", 1, created=3), head("high", "a", 1, priority=1)]

    assert order(QuotaTree([team("a", cpu=9)]), heads) == ["high", "y", "z", "late"]


def test_who_waits_for_its_victims_comes_first_where_the_gate_says_so_and_keeps_its_room():
    tree = QuotaTree([team("a", cpu=4), team("b", cpu=0), cohort("all", cpu=4)], {"b": {CPU: 5}})
    waiting, other = head("waiting", "a", 4, waiting=1, created=9), head("other", "b", 3)

    kept = run_cycle(tree, [waiting, other])
    lost = run_cycle(tree, [head("waiting", "a", 4, created=9), other])

    assert [(outcome.head.name, outcome.refusal is None) for outcome in kept] == [("waiting", False), ("other", False)]
    assert [outcome.refusal is None for outcome in lost] == [False, True]
    full = QuotaTree([team("a"), team("b", cpu=9)])
    both = [head("waits", "a", 1, waiting=1), head("owns", "b", 1)]
    assert order(full, both) == ["owns", "waits"]
    assert order(full, both, TournamentRules(waiting_first=True)) == ["waits", "owns"]


@pytest.mark.parametrize(
    ("borrow", "used", "wanted", "kept"), [(None, 1, 9, 9), (3, 1, 9, 6), (3, 8, 2, 0), (0, 1, 2, 2)]
)
def test_what_is_kept_stays_inside_nominal_or_the_borrowing_limit(borrow, used, wanted, kept):
    quota = {CPU: Quota(nominal=4, borrowing_limit=borrow)}
    tree = QuotaTree([QuotaNode(name="a", parent="all", quotas=quota)], {"a": {CPU: used}})

    assert reserved(tree, head("h", "a", wanted)) == {CPU: kept}


@given(dice=DICE)
def test_the_same_heads_in_any_order_have_the_same_turns_and_use_what_there_is_once(dice):
    tree = random_tree(dice)
    teams = [node.name for node in tree.nodes if not node.cohort]
    heads = [head(f"h{i}", dice.choice(teams), dice.randint(1, 6), created=dice.randrange(3)) for i in range(9)]

    outcomes = run_cycle(tree, heads)
    dice.shuffle(heads)

    assert run_cycle(tree, heads) == outcomes
    after = tree.copy()
    for outcome in outcomes:
        assert (outcome.refusal is None) == after.fits(outcome.head.team, outcome.head.request)
        if outcome.refusal is None:
            after.add(outcome.head.team, outcome.head.request)
    assert sorted(outcome.head.name for outcome in outcomes) == sorted(h.name for h in heads)


def test_history_halves_in_a_half_life_and_follows_what_is_used():
    lost, use = fade(60, 60), {CPU: 8}

    history = sampled({CPU: 4 * MILLIONTHS}, {}, lost)

    assert history == {CPU: 2 * MILLIONTHS}
    assert sampled(history, use, lost) == {CPU: 5 * MILLIONTHS}
    assert sampled(history, use, fade(60, 0)) == {CPU: 8 * MILLIONTHS}
    assert sampled({CPU: 1}, {}, lost) == {}


def test_an_admission_is_charged_at_once_as_one_sample_of_it_would_be():
    lost = fade(10, 600)

    charged = admitted({}, {CPU: 100}, lost)

    assert charged == sampled({}, {CPU: 100}, lost)
    assert 0 < charged[CPU] < 100 * MILLIONTHS
