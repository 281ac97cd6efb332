"""Builders of quota trees and of workloads that contend in them."""

import random
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from federation.domain.quota import Pair, Quota, QuotaNode, QuotaTree
from federation.planner.preemption import BorrowWithin, Contest, Policy, Running, TeamPolicy

CPU: Final[Pair] = ("east", "cpu")
GPU: Final[Pair] = ("east", "gpu")

TAKES_ANY: Final = TeamPolicy(within=Policy.LOWER, reclaim=Policy.ANY)


def team(name: str, parent: str | None = "all", *, cpu: int = 0, weight: int | str = 1, **limits: int) -> QuotaNode:
    quota = Quota(nominal=cpu, borrowing_limit=limits.get("borrow"), lending_limit=limits.get("lend"))
    return QuotaNode(name=name, parent=parent, quotas={CPU: quota}, weight=Fraction(weight))


def cohort(name: str, parent: str | None = None, *, cpu: int = 0, weight: int | str = 1) -> QuotaNode:
    return QuotaNode(name=name, parent=parent, cohort=True, quotas={CPU: Quota(nominal=cpu)}, weight=Fraction(weight))


def running(name: str, of: str, cpu: int, **changes: int) -> Running:
    return Running(
        name=name,
        team=of,
        request={CPU: cpu},
        priority=changes.get("priority", 0),
        created=changes.get("created", 0),
        admitted=changes.get("admitted", 0),
        evicted=bool(changes.get("evicted", 0)),
    )


def contest(
    nodes: Iterable[QuotaNode],
    workloads: Sequence[Running],
    incoming: Running,
    policies: Mapping[str, TeamPolicy] | None = None,
) -> Contest:
    tree = QuotaTree(nodes)
    for workload in workloads:
        tree.add(workload.team, workload.request)
    given = {node.name: TAKES_ANY for node in tree.nodes} if policies is None else policies
    return Contest(tree=tree, running=workloads, incoming=incoming, policies=given)


def random_contest(dice: random.Random) -> Contest:
    """Teams under a few cohorts, as full as comes; the incoming workload often fits nowhere."""
    cohorts = [cohort("root", cpu=dice.randrange(4))]
    for i in range(dice.randrange(3)):
        cohorts.append(cohort(f"c{i}", dice.choice(cohorts).name, cpu=dice.randrange(4), weight=dice.randint(1, 2)))
    teams = [
        team(f"t{i}", dice.choice(cohorts).name, cpu=dice.randrange(6), weight=dice.choice((0, 1, 1, 2)))
        for i in range(dice.randint(2, 5))
    ]
    workloads = []
    tree = QuotaTree([*cohorts, *teams])
    for i in range(dice.randint(1, 14)):
        workload = random_running(dice, f"w{i}", len(teams))
        if tree.fits(workload.team, workload.request):
            tree.add(workload.team, workload.request)
            workloads.append(workload)
    policies = {
        node.name: TeamPolicy(
            within=dice.choice(list(Policy)),
            reclaim=dice.choice(list(Policy)),
            borrow_within=dice.choice((None, BorrowWithin(), BorrowWithin(max_priority=0))),
        )
        for node in teams
    }
    return contest([*cohorts, *teams], workloads, random_running(dice, "in", len(teams)), policies)


def random_running(dice: random.Random, name: str, teams: int) -> Running:
    changes = {"priority": dice.randint(-1, 2), "created": dice.randrange(5), "admitted": dice.randrange(5)}
    return running(name, f"t{dice.randrange(teams)}", dice.randint(1, 5), **changes)
