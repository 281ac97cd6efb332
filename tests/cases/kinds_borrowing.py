"""Kinds of cases about borrowing: quota trees, shares, preemption. Amounts are keyed "flavor/resource"; a flavor is a cluster of ours."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from federation.domain.quota import UNLIMITED, Pair, PairAmounts, Quota, QuotaNode, QuotaTree, cycle_from
from federation.planner.borrowing import shares_of
from federation.planner.preemption import BorrowWithin, Contest, Policy, Running, TeamPolicy, Victim
from federation.planner.preemption_classical import victims_by_priority
from federation.planner.preemption_fair import FairRules, Strategy, victims_by_share

Input = Mapping[str, Any]


def answer_available(given: Input) -> Any:
    tree = tree_of(given)
    names = [node.name for node in tree.nodes]
    return {
        "available": {name: {_text(p): tree.available(name, p) for p in tree.columns} for name in names},
        "potential_available": {name: {_text(p): tree.potential(name, p) for p in tree.columns} for name in names},
    }


def answer_usage(given: Input) -> Any:
    tree = tree_of(given)
    names = [node.name for node in tree.nodes]
    return {
        "cohort_usage": {name: {_text(p): tree.usage(name, p) for p in tree.columns} for name in names},
        "cohort_subtree_quota": {name: {_text(p): tree.subtree(name, p) for p in tree.columns} for name in names},
    }


def answer_lendable(given: Input) -> Any:
    tree, lendable = tree_of(given), dict[str, int]()
    for pair in tree.columns:
        lendable[pair[1]] = lendable.get(pair[1], 0) + tree.potential(given["node"], pair)
    return {"lendable": lendable}


def answer_cycle(given: Input) -> Any:
    """Edges stay as they were written down: what hangs below a circle is refused as well."""
    parents: dict[str, str | None] = {}
    accepted = []
    for name, parent in given["cohorts"]:
        parents[name] = parent
        accepted.append(not cycle_from(parents, name))
    return {"accepted": accepted}


def answer_reparent(given: Input) -> Any:
    before = QuotaTree([node_of(node) for node in given["before"]], usage_of(given))
    moved = next(node for node in given["before"] if node["name"] == given["move"]["node"])
    after = before.changed(node_of({**moved, "parent": given["move"]["to"]}))
    return {"before": _potentials(before), "after": _potentials(after)}


def answer_shares(given: Input) -> Any:
    """A hypothetical request is one of the team that uses something, else of the first."""
    tree = tree_of(given)
    if more := amounts_of(given.get("hypothetical_request")):
        teams = [node.name for node in tree.nodes if not node.cohort]
        tree.add(next((name for name in teams if tree.used(name)), teams[0]), more)
    return {
        "shares": {
            name: {"value": share.value, "dominant": share.dominant, "borrowing": share.borrowing}
            for name, share in shares_of(tree).items()
        }
    }


def answer_fair(given: Input) -> Any:
    strategies = tuple(Strategy(name) for name in given.get("strategies") or ("S2a", "S2b"))
    rules = FairRules(strategies=strategies, nominal_first=given.get("nominal_first", True))
    return _preempted(victims_by_share(contest_of(given), rules))


def answer_classical(given: Input) -> Any:
    return _preempted(victims_by_priority(contest_of(given)))


def contest_of(given: Input) -> Contest:
    running = [running_of(workload) for workload in given["admitted"]]
    tree = tree_of(given)
    for workload in running:
        tree.add(workload.team, workload.request)
    policies = {node["name"]: _policy(node.get("preemption") or {}) for node in given["nodes"]}
    return Contest(tree=tree, running=running, incoming=running_of(given["incoming"]), policies=policies)


def running_of(workload: Input) -> Running:
    return Running(
        name=workload["name"],
        team=workload["queue"],
        request=amounts_of(workload["req"]),
        priority=workload.get("priority", 0),
        created=workload.get("created", 0),
        admitted=workload.get("admitted_at", 0),
        evicted=bool(workload.get("evicted", False)),
    )


def tree_of(given: Input) -> QuotaTree:
    return QuotaTree([node_of(node) for node in given["nodes"]], usage_of(given))


def node_of(node: Input) -> QuotaNode:
    return QuotaNode(
        name=node["name"],
        parent=node.get("parent"),
        cohort=node.get("kind") == "cohort",
        quotas={pair_of(key): _quota(quota) for key, quota in (node.get("quotas") or {}).items()},
        weight=Fraction(str(node.get("weight", 1))),
    )


def usage_of(given: Input) -> dict[str, PairAmounts]:
    return {name: amounts_of(amounts) for name, amounts in (given.get("usage") or {}).items()}


def amounts_of(amounts: Mapping[str, int] | None) -> dict[Pair, int]:
    return {pair_of(key): amount for key, amount in (amounts or {}).items()}


def pair_of(key: str) -> Pair:
    flavor, _, resource = key.partition("/")
    return flavor, resource


def without_zeros_inside(answer: Any) -> Any:
    """Parties with zero are dropped, at any depth; unlimited is null; lists of names or pairs are sets."""
    if isinstance(answer, list):
        return sorted(answer) if all(isinstance(entry, (list, str)) for entry in answer) else answer
    if not isinstance(answer, Mapping):
        return None if answer == UNLIMITED else answer
    inner = {name: without_zeros_inside(value) for name, value in sorted(answer.items())}
    return {name: value for name, value in inner.items() if value != 0 and value != {}}


ANSWERS: Final = {
    "quota_tree.available": answer_available,
    "quota_tree.usage": answer_usage,
    "quota_tree.lendable": answer_lendable,
    "quota_tree.cycle": answer_cycle,
    "quota_tree.reparent": answer_reparent,
    "fair_share.drs": answer_shares,
    "preemption.fair": answer_fair,
    "preemption.classical": answer_classical,
}


def _quota(quota: Input) -> Quota:
    nominal = quota.get("nominal", 0)
    return Quota(
        nominal=UNLIMITED if nominal is None else nominal,
        borrowing_limit=quota.get("borrowing_limit"),
        lending_limit=quota.get("lending_limit"),
    )


def _policy(policy: Input) -> TeamPolicy:
    borrow = policy.get("borrow_within_cohort") or {}
    may_borrow = borrow.get("policy", "Never") != "Never"
    return TeamPolicy(
        within=_policy_named(policy.get("within_queue")),
        reclaim=_policy_named(policy.get("reclaim_within_cohort")),
        borrow_within=BorrowWithin(max_priority=borrow.get("max_priority_threshold")) if may_borrow else None,
    )


def _policy_named(name: str | None) -> Policy:
    return Policy.LOWER_OR_NEWER_EQUAL if name == "LowerOrNewerEqual" else Policy(name or "Never")


def _preempted(victims: tuple[Victim, ...]) -> Any:
    return {"preempted": [[victim.workload.name, str(victim.reason)] for victim in victims]}


def _potentials(tree: QuotaTree) -> dict[str, int]:
    """The cases of this kind have one resource each: its sum."""
    return {node.name: sum(tree.potential(node.name, pair) for pair in tree.columns) for node in tree.nodes}


def _text(pair: Pair) -> str:
    return "/".join(pair)
