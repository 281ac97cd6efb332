"""Who has to go: by priority, by shares, and what no preemption may do whoever chose it."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.domain.quota import QuotaNode, QuotaTree
from federation.planner.borrowing import Shares
from federation.planner.preemption import BorrowWithin, Contest, Policy, Reason, Running, TeamPolicy, Victim, fits
from federation.planner.preemption_classical import victims_by_priority
from federation.planner.preemption_fair import FairRules, Strategy, victims_by_share
from federation.planner.preemption_guard import measure, objection, unmet
from tests.planner.quota_builders import (
    CPU,
    GPU,
    TAKES_ANY,
    cohort,
    contest,
    random_contest,
    random_running,
    running,
    team,
)

BOTH = pytest.mark.parametrize("choose", [victims_by_priority, victims_by_share])
DICE = st.randoms(use_true_random=False)


def names(victims: tuple[Victim, ...]) -> list[str]:
    return [victim.workload.name for victim in victims]


def without(tree: QuotaTree, victims: tuple[Victim, ...]) -> QuotaTree:
    after = tree.copy()
    for victim in victims:
        after.remove(victim.workload.team, victim.workload.request)
    return after


@BOTH
def test_nobody_goes_for_a_workload_that_fits_or_never_could(choose):
    nodes, others = [team("a", cpu=4), team("b", cpu=4)], [running("w", "b", 6)]

    assert choose(contest(nodes, others, running("small", "a", 2))) == ()
    assert choose(contest(nodes, others, running("huge", "a", 9))) == ()
    assert choose(contest([*nodes, cohort("all", "all")], others, running("circle", "a", 4))) == ()


@BOTH
def test_the_nominal_quota_comes_back_from_a_borrower(choose):
    victims = choose(contest([team("a", cpu=4), team("b", cpu=4)], [running("w", "b", 6)], running("in", "a", 3)))

    assert victims == (Victim(running("w", "b", 6), Reason.RECLAMATION),)


@BOTH
def test_who_was_told_to_go_already_goes_first_then_the_lower_priority_then_the_newer(choose):
    nodes = [team("a", cpu=2), team("b", cpu=0)]
    gone, low = running("gone", "b", 1, evicted=1, priority=9), running("low", "b", 1, priority=-1)
    old, new = running("old", "b", 1, admitted=1), running("new", "b", 1, admitted=2)

    assert names(choose(contest(nodes, [old, gone], running("in", "a", 1)))) == ["gone"]
    assert names(choose(contest(nodes, [old, low], running("in", "a", 1)))) == ["low"]
    assert names(choose(contest(nodes, [old, new], running("in", "a", 1)))) == ["new"]


@BOTH
def test_a_victim_frees_something_that_is_short(choose):
    nodes = [
        QuotaNode(name=name, parent="all", quotas=team(name, cpu=2).quotas | {GPU: team("x", cpu=8).quotas[CPU]})
        for name in "ab"
    ]
    on_gpus = Running(name="gpus", team="b", request={GPU: 9}, priority=-5)

    victims = choose(contest(nodes, [on_gpus, running("cpus", "b", 4)], running("in", "a", 2)))

    assert names(victims) == ["cpus"]


@pytest.mark.parametrize(
    ("policy", "priority", "created", "allowed"),
    [
        (Policy.NEVER, 9, 0, False),
        (Policy.LOWER, 1, 9, True),
        (Policy.LOWER, 0, 0, False),
        (Policy.LOWER_OR_NEWER_EQUAL, 0, 4, True),
        (Policy.LOWER_OR_NEWER_EQUAL, 0, 5, False),
        (Policy.LOWER_OR_NEWER_EQUAL, -1, 0, False),
        (Policy.ANY, -9, 9, True),
    ],
)
@BOTH
def test_inside_a_team_its_policy_says_who_may_be_taken(choose, policy, priority, created, allowed):
    incoming = running("in", "a", 2, priority=priority, created=created)
    rules = {"a": TeamPolicy(within=policy)}

    victims = choose(contest([team("a", None, cpu=2)], [running("w", "a", 2, created=5)], incoming, rules))

    assert victims == ((Victim(running("w", "a", 2, created=5), Reason.IN_TEAM),) if allowed else ())


@pytest.mark.parametrize(("threshold", "taken"), [(None, True), (0, True), (-1, False)])
def test_a_team_that_would_borrow_takes_only_from_below_the_threshold(threshold, taken):
    policies = {"a": TeamPolicy(reclaim=Policy.ANY, borrow_within=BorrowWithin(max_priority=threshold))}
    nodes, other = [team("a", cpu=1), team("b", cpu=1), cohort("all", cpu=2)], running("w", "b", 3)

    victims = victims_by_priority(contest(nodes, [other], running("in", "a", 2, priority=1), policies))

    assert victims == ((Victim(other, Reason.WHILE_BORROWING),) if taken else ())


def test_without_leave_to_borrow_a_team_takes_from_others_only_up_to_its_nominal_quota():
    nodes, other = [team("a", cpu=2), team("b", cpu=0)], running("w", "b", 2)

    assert names(victims_by_priority(contest(nodes, [other], running("in", "a", 2)))) == ["w"]
    nodes[0] = team("a", cpu=1)
    nodes.append(cohort("all", cpu=1))
    assert victims_by_priority(contest(nodes, [other], running("in", "a", 2))) == ()


def test_the_second_strategy_takes_at_most_one_of_each_team():
    nodes = [team(name, cpu=2) for name in "abc"]
    others = [running(f"{of}{i}", of, size) for of in "bc" for i, size in enumerate((1, 2))]
    incoming = running("in", "a", 3)
    given_up = contest(nodes, others, incoming)

    both = victims_by_share(given_up)
    only_first = victims_by_share(given_up, FairRules(strategies=(Strategy.FINAL_SHARE,)))

    assert only_first == ()
    assert {victim.workload.team for victim in both} <= {"b", "c"}
    assert len({victim.workload.team for victim in both}) == len(both)


def test_inside_nominal_a_team_takes_whatever_its_share_unless_told_to_compare():
    nodes = [team("a", cpu=3), team("b", cpu=3)]
    others = [running("a0", "a", 0), running("b0", "b", 6)]

    assert victims_by_share(contest(nodes, others, running("in", "a", 1)))[0].reason is Reason.RECLAMATION
    by_shares = victims_by_share(contest(nodes, others, running("in", "a", 1)), FairRules(nominal_first=False))
    assert by_shares == (Victim(others[1], Reason.FAIR_SHARING),)


def test_between_a_cohort_and_a_team_with_equal_shares_the_cohort_gives_first():
    nodes = [
        cohort("root", cpu=4),
        cohort("inner", "root"),
        team("a", "root", cpu=2),
        team("b", "inner", cpu=0),
        team("c", "root", cpu=0),
    ]

    victims = victims_by_share(contest(nodes, [running("b0", "b", 3), running("c0", "c", 3)], running("in", "a", 2)))

    assert names(victims) == ["b0"]


def test_each_victim_is_taken_from_whoever_has_most_by_then():
    nodes = [team("a", cpu=8), team("b"), team("c")]
    others = [running(f"{of}{i}", of, 1) for of, size in (("b", 4), ("c", 3)) for i in range(size)]

    assert names(victims_by_share(contest(nodes, others, running("in", "a", 4)))) == ["b0", "b1", "c0"]
    assert names(victims_by_share(contest(nodes, others, running("in", "a", 6)))) == ["b0", "b1", "b2", "c0", "c1"]


def test_a_cohort_within_its_quota_shields_its_borrowers_from_outsiders():
    nodes = [cohort("root"), cohort("ours", "root", cpu=2), cohort("theirs", "root", cpu=2)]
    nodes += [team("q", "ours"), team("same", "ours"), team("other", "theirs")]
    low = [running(f"low{i}", "other", 1, priority=-9) for i in range(2)]
    equal = running("equal", "same", 2)

    assert victims_by_priority(contest(nodes, [*low, equal], running("in", "q", 2))) == ()
    assert victims_by_share(contest(nodes, [*low, equal], running("in", "q", 2))) == ()


def test_a_cohort_back_within_its_quota_is_shielded_from_the_next_victim_on():
    nodes = [cohort("root"), cohort("ours", "root", cpu=6), cohort("theirs", "root", cpu=2), team("beside", "root")]
    nodes += [team("q", "ours"), team("other", "theirs")]
    inside = [running(f"i{i}", "other", 2, priority=i) for i in range(2)]
    beside = [running(f"z{i}", "beside", 2, priority=5 + i) for i in range(2)]

    assert names(victims_by_priority(contest(nodes, [*inside, *beside], running("in", "q", 4)))) == ["i0", "z0"]


def test_who_sits_inside_the_subtree_that_owns_the_quota_takes_it_back_whatever_the_priorities():
    nodes = [cohort("root"), cohort("ours", "root", cpu=2), team("q", "ours"), team("guest", "root")]
    guest, own = running("guest", "guest", 1, priority=9), running("own", "q", 1, priority=-2)

    victims = victims_by_priority(contest(nodes, [guest, own], running("in", "q", 1)))

    assert victims == (Victim(guest, Reason.RECLAMATION),)


@BOTH
@given(dice=DICE)
def test_after_its_victims_a_workload_fits_and_would_not_with_any_of_them_back(choose, dice):
    given_up = random_contest(dice)
    untouched = QuotaTree(
        given_up.tree.nodes,
        {n.name: given_up.tree.used(n.name) for n in given_up.tree.nodes if given_up.tree.used(n.name)},
    )

    victims = choose(given_up)

    assert given_up.tree.columns[CPU] == untouched.columns[CPU]
    if victims:
        assert fits(without(given_up.tree, victims), given_up.incoming, borrow=True)
        assert all(given_up.is_candidate(victim.workload, [CPU]) for victim in victims)
    for victim in victims if choose is victims_by_share else ():
        others = tuple(other for other in victims if other is not victim)
        assert not fits(without(given_up.tree, others), given_up.incoming, borrow=True)


@BOTH
@given(dice=DICE)
def test_the_same_snapshot_in_any_order_has_the_same_victims(choose, dice):
    given_up = random_contest(dice)
    nodes, workloads = list(given_up.tree.nodes), list(given_up.running)

    expected = choose(given_up)
    dice.shuffle(nodes)
    dice.shuffle(workloads)

    assert choose(contest(nodes, workloads, given_up.incoming, given_up.policies)) == expected


@BOTH
@given(dice=DICE)
def test_nobody_loses_who_is_in_a_team_within_its_quota(choose, dice):
    given_up = random_contest(dice)

    for victim in choose(given_up):
        if victim.workload.team != given_up.incoming.team:
            assert given_up.tree.borrowing(victim.workload.team, CPU) > 0


@given(dice=DICE)
def test_by_the_first_strategy_no_victim_ends_below_whom_it_makes_room_for(dice):
    given_up = random_contest(dice)
    rules = FairRules(strategies=(Strategy.FINAL_SHARE,), nominal_first=False)

    victims = [v for v in victims_by_share(given_up, rules) if v.reason is Reason.FAIR_SHARING]

    after = without(given_up.tree, tuple(victims_by_share(given_up, rules)))
    after.add(given_up.incoming.team, given_up.incoming.request)
    for victim in victims:
        if (
            after.nodes[after.index[victim.workload.team]].parent
            == after.nodes[after.index[given_up.incoming.team]].parent
        ):
            mine, theirs = after.index[given_up.incoming.team], after.index[victim.workload.team]
            assert Shares(after).of(mine).rank <= Shares(after).of(theirs).rank


@BOTH
@given(dice=DICE)
def test_what_the_guard_lets_pass_lowers_the_measure_and_takes_no_entitlement_for_a_borrower(choose, dice):
    given_up = random_contest(dice)
    pending = [random_running(dice, f"p{i}", 2) for i in range(dice.randrange(3))]
    victims = choose(given_up)
    if not victims or objection(given_up, victims, pending):
        return

    after = without(given_up.tree, victims)
    after.add(given_up.incoming.team, given_up.incoming.request)

    gone = [victim.workload for victim in victims]
    assert measure(after, [*pending, *gone]) < measure(given_up.tree, [*pending, given_up.incoming])
    if after.borrowing(given_up.incoming.team, CPU):
        for workload in gone:
            if workload.team != given_up.incoming.team:
                assert after.usage(workload.team, CPU) + workload.request[CPU] > after.subtree(workload.team, CPU)


def test_a_borrower_may_not_take_what_runs_inside_nominal():
    nodes = [team("a", cpu=3), team("b", cpu=1)]
    both = [running("big", "b", 3), running("small", "b", 1)]
    given_up = contest(nodes, both, running("in", "a", 4))
    victims = victims_by_share(given_up)

    reason = objection(given_up, victims)

    assert names(victims) == ["big", "small"]
    assert reason == "small runs inside the nominal quota of b, and a borrows"


def test_demand_is_guaranteed_only_as_far_as_it_fits_whole_into_nominal():
    tree = QuotaTree([team("a", cpu=5), team("b", cpu=1)], {"a": {CPU: 2}})

    assert unmet(tree, [running("x", "a", 2), running("y", "a", 2), running("z", "b", 2), running("v", "b", 1)]) == 3


def settle(
    nodes: list[QuotaNode], pending: list[Running], *, guarded: bool, rounds: int = 40
) -> tuple[bool, list[str]]:
    """Plain cycles, oldest first: admit what fits, else preempt by share. Whether they come to rest, and who was taken."""
    tree, placed, waiting, taken = QuotaTree(nodes), list[Running](), list(pending), list[str]()
    for _ in range(rounds):
        at_rest = True
        for workload in sorted(waiting, key=lambda w: (w.created, w.name)):
            given_up = Contest(
                tree=tree, running=placed, incoming=workload, policies={n.name: TAKES_ANY for n in nodes}
            )
            victims = victims_by_share(given_up)
            others = [other for other in waiting if other is not workload]
            refused = guarded and victims and objection(given_up, victims, others)
            if refused or not (victims or tree.fits(workload.team, workload.request)):
                continue
            gone = [victim.workload for victim in victims]
            tree = without(tree, victims)
            tree.add(workload.team, workload.request)
            placed = [other for other in placed if other not in gone] + [workload]
            waiting, at_rest = [*others, *gone], False
            taken += [other.name for other in gone]
        if at_rest:
            return True, taken
    return False, taken


def test_the_loop_of_three_workloads_comes_to_rest_and_the_entitled_one_keeps_its_place():
    nodes = [team("q0", cpu=1), team("q1", cpu=3)]
    pending = [running("w0", "q0", 3, created=0), running("w1", "q1", 4, created=1), running("w2", "q0", 1, created=2)]

    alone, _ = settle(nodes, pending, guarded=False)
    at_rest, taken = settle(nodes, pending, guarded=True)

    assert not alone
    assert at_rest
    assert "w2" not in taken
    assert all(taken.count(workload.name) <= 3 for workload in pending)


def test_a_place_that_a_bigger_borrower_would_fill_is_not_made():
    nodes = [team("q0", cpu=0), team("q1", cpu=3), team("q2", cpu=4)]
    sizes = [("q1", 5), ("q2", 7), ("q0", 1), ("q0", 3), ("q2", 2), ("q0", 5)]
    pending = [running(f"w{i}", of, size, created=i) for i, (of, size) in enumerate(sizes)]

    alone, _ = settle(nodes, pending, guarded=False)
    at_rest, _ = settle(nodes, pending, guarded=True)

    assert not alone
    assert at_rest


@settings(max_examples=200, deadline=None)
@given(dice=DICE)
def test_with_inputs_frozen_guarded_cycles_come_to_rest(dice: random.Random):
    teams = [team(f"t{i}", cpu=dice.randrange(6)) for i in range(dice.randint(2, 4))]
    pending = [replace(random_running(dice, f"w{i}", len(teams)), priority=0, created=i) for i in range(7)]

    at_rest, taken = settle(teams, pending, guarded=True)

    assert at_rest
    assert all(taken.count(workload.name) <= 3 for workload in pending)
