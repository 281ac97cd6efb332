"""What a preemption must leave true, whoever chose it: nobody loses its entitlement to a borrower, and things get better.

These are what stops chains of preemptions: a plan that fails is dropped, with the reason.
"""

from collections.abc import Iterable, Mapping, Sequence

from federation.domain.quota import Pair, QuotaTree
from federation.planner.borrowing import Shares
from federation.planner.preemption import Contest, Running, Victim

Measure = tuple[int, tuple[tuple[bool, int], ...]]


def objection(contest: Contest, victims: Sequence[Victim], pending: Iterable[Running] = ()) -> str | None:
    """Against preempting *victims* while others are *pending*; None lets it pass."""
    after, others = contest.tree.copy(), [*pending]
    for victim in victims:
        after.remove(victim.workload.team, victim.workload.request)
    if loser := _loser(contest, after, victims):
        return f"{loser.name} runs inside the nominal quota of {loser.team}, and {contest.incoming.team} borrows"
    after.add(contest.incoming.team, contest.incoming.request)
    gone = [victim.workload for victim in victims]
    if measure(after, [*others, *gone]) >= measure(contest.tree, [*others, contest.incoming]):
        return f"it serves no more guaranteed demand, and lowers no share, to let {contest.incoming.name} in"
    return None


def measure(tree: QuotaTree, pending: Iterable[Running]) -> Measure:
    """What every preemption lowers: guaranteed demand that is not met, then the shares, the highest first.

    Taken once whoever fits has come in: what a victim leaves behind is filled again, and often by a borrower.
    """
    settled, waiting = tree.copy(), []
    for workload in sorted(pending, key=_turn):
        if settled.fits(workload.team, workload.request):
            settled.add(workload.team, workload.request)
        else:
            waiting.append(workload)
    shares = Shares(settled).all()
    ranks = [share.rank for share, node in zip(shares, settled.nodes, strict=True) if not node.cohort]
    return unmet(settled, waiting), tuple(sorted(ranks, reverse=True))


def unmet(tree: QuotaTree, pending: Iterable[Running]) -> int:
    """The amounts of pending workloads that would fit, whole and beside what runs, into their team's nominal quota."""
    trial, total = tree.copy(), 0
    for workload in sorted(pending, key=_turn):
        if not _above_nominal(trial, workload.team, workload.request, workload.request):
            trial.add(workload.team, workload.request)
            total += sum(workload.request.values())
    return total


def _loser(contest: Contest, after: QuotaTree, victims: Sequence[Victim]) -> Running | None:
    """One whom a borrower takes what it is entitled to. Who stands half inside and cannot be divided may be taken."""
    pairs, incoming = contest.contested(), contest.incoming
    if not _above_nominal(after, incoming.team, incoming.request, pairs):
        return None
    for victim in victims:
        workload = victim.workload
        if workload.team != incoming.team and not _above_nominal(after, workload.team, workload.request, pairs):
            return workload
    return None


def _turn(workload: Running) -> tuple[int, int, str]:
    return -workload.priority, workload.created, workload.name


def _above_nominal(tree: QuotaTree, team: str, more: Mapping[Pair, int], pairs: Iterable[Pair]) -> bool:
    return any(tree.usage(team, pair) + more.get(pair, 0) > tree.subtree(team, pair) for pair in pairs)
