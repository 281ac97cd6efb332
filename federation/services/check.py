"""Prove the invariants on a live database: promises, sums, orders and decisions against the rows that they come from.

Each cluster is looked at under its lock, so that what is told is true of one moment. What the world took is debt: told,
and nobody's fault.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation.domain.adoption import ADOPTED_ORDER
from federation.domain.cluster import Cluster, ClusterPhase, Node
from federation.domain.errors import NotFound
from federation.domain.folding import counted, with_change
from federation.domain.placement import AskKind, Placement
from federation.domain.records import OutboxRow
from federation.domain.resources import format_amount
from federation.domain.workload import Workload, WorkloadPhase
from federation.planner.explain import merge, recompute
from federation.ports import Clock, Reader, Store, Transaction, WorkloadQuery

OK: Final = "ok"
DEBT: Final = "debt"
WRONG: Final = "wrong"
MOST_ROWS: Final = 10_000
PAGE: Final = 1_000
MOST_TOLD: Final = 20
AHEAD_MS: Final = 3_600_000
_RESYNC: Final = "federation.resync.requested.v1"
_UNWANTED: Final = "federation.placement.unwanted.v1"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: what was looked at, and what was found."""

    verdict: str
    about: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} {self.about}" + (f": {self.text}" if self.text else "")


@dataclass(frozen=True, slots=True)
class Rows:
    """One cluster's rows, read under its lock."""

    cluster: Cluster
    nodes: Mapping[str, Node]
    placements: Sequence[Placement]
    outbox: Sequence[OutboxRow]
    generation: int


async def check(store: Store, clock: Clock, *, sample: int = 100) -> list[Line]:
    """All invariants, a line for each of a cluster or of the whole; the newest *sample* decisions are computed again."""
    async with store.reader() as reader:
        names = [cluster.name for cluster in await reader.clusters()]
    lines = []
    for name in names:
        async with store.transaction() as transaction:
            lines += await _check_cluster(transaction, name)
    async with store.reader() as reader:
        lines += _judged("positions", await _wrong_positions(reader, clock.now_ms()))
        lines += _judged("workloads", await _wrong_workloads(reader))
        lines += _judged("decisions", await _wrong_decisions(reader, sample))
    return lines


def _judged(about: str, troubles: Sequence[str]) -> list[Line]:
    """One line when all is well, else one for each trouble."""
    if not troubles:
        return [Line(OK, about)]
    more = len(troubles) - MOST_TOLD
    lines = [Line(WRONG, about, trouble) for trouble in troubles[:MOST_TOLD]]
    return [*lines, Line(WRONG, about, f"and {more} more")] if more > 0 else lines


# --- clusters --------------------------------------------------------------------------------------------------------


async def _check_cluster(transaction: Transaction, name: str) -> list[Line]:
    rows = await rows_of(transaction, name)
    reader = transaction.reader()
    homeless = await _homeless(reader, rows)
    untraced = await _untraced(reader, rows)
    return [
        *_judged(f"sums of {name}", list(_wrong_sums(rows))),
        *_judged(f"placements of {name}", [*_wrong_placements(rows), *homeless]),
        *_judged(f"orders of {name}", [*_wrong_orders(rows), *untraced]),
        *_debts(rows.cluster),
    ]


async def rows_of(transaction: Transaction, name: str) -> Rows:
    found = await transaction.lock_clusters([name])
    if name not in found:
        raise NotFound(f"no cluster named {name!r}")
    return Rows(
        cluster=found[name],
        nodes=await transaction.node_places(name),
        placements=await transaction.placements_in(name, living=False),
        outbox=await transaction.rows_after(name, 0, MOST_ROWS),
        generation=await transaction.generation(),
    )


def _wrong_sums(rows: Rows) -> Iterable[str]:
    cluster = rows.cluster
    known, used, held = summed(rows.nodes.values(), rows.placements)
    for what, told, right in (
        ("known", cluster.known, known),
        ("used", cluster.used, used),
        ("held", cluster.held, held),
    ):
        for resource in sorted({*told, *right}):
            has, is_right = told.get(resource, 0), right.get(resource, 0)
            if has != is_right:
                yield f"{what} {resource} is {_shown(resource, has)}, its rows say {_shown(resource, is_right)}"
    replicas = sum(placement.held for placement in rows.placements)
    if cluster.held_replicas != replicas:
        yield f"held replicas is {cluster.held_replicas}, its rows say {replicas}"
    standing = sum(not node.gone for node in rows.nodes.values())
    if cluster.nodes != standing:
        yield f"nodes is {cluster.nodes}, its rows say {standing}"


def summed(
    nodes: Iterable[Node], placements: Iterable[Placement]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Known, used and held of a cluster, counted from its rows."""
    known: dict[str, int] = {}
    used: dict[str, int] = {}
    held: dict[str, int] = {}
    for node in nodes:
        offered, requested = counted(node)
        known, used = with_change(known, {}, offered), with_change(used, {}, requested)
    for placement in placements:
        held = with_change(held, {}, placement.held_amounts())
    return known, used, held


def bound_of(nodes: Iterable[Node]) -> Counter[str]:
    """Replicas bound, by placement, counted from the nodes."""
    bound: Counter[str] = Counter()
    for node in nodes:
        for placement in node.bound:
            bound[placement] += node.bound_of(placement)
    return bound


def _wrong_placements(rows: Rows) -> Iterable[str]:
    bound = bound_of(rows.nodes.values())
    for placement in rows.placements:
        for trouble in _troubles(placement, bound[placement.id]):
            yield f"placement {placement.id} {trouble}"


def _troubles(placement: Placement, bound: int) -> Iterable[str]:
    if placement.bound != bound:
        yield f"has {placement.bound} bound, its nodes say {bound}"
    named = sum(placement.holds.values())
    if named != placement.held:
        yield f"holds {placement.held}, on nodes {named}"
    if any(count <= 0 for count in placement.holds.values()):
        yield "holds nothing or less on a node"
    versions = [ask.version for ask in placement.asks]
    if versions != sorted(set(versions)) or (versions and versions[-1] > placement.version):
        yield f"asks for versions {versions} at version {placement.version}"
    ends = bool(placement.asks) and placement.asks[-1].kind in (AskKind.GONE, AskKind.LEFT)
    if not placement.released and placement.ended != ends:
        yield "is ended, its last version is not" if placement.ended else "is not ended, its last version is"
    if placement.released and placement.held:
        yield f"is released and holds {placement.held}"


async def _homeless(reader: Reader, rows: Rows) -> list[str]:
    """Placements whose workload is not there, or is another team's: nobody would ever end them."""
    living = [placement for placement in rows.placements if not placement.released]
    wanted = sorted({placement.workload for placement in living})
    workloads: dict[str, Workload] = {}
    for start in range(0, len(wanted), PAGE):
        workloads |= {each.id: each for each in await reader.workloads_by_id(wanted[start : start + PAGE])}
    troubles = []
    for placement in living:
        workload = workloads.get(placement.workload)
        if workload is None:
            troubles.append(
                f"placement {placement.id} claims {placement.claim} for workload {placement.workload}, which is gone"
            )
        elif workload.spec.team != placement.team:
            troubles.append(
                f"placement {placement.id} is of team {placement.team}, its workload of {workload.spec.team}"
            )
    return troubles


def _debts(cluster: Cluster) -> list[Line]:
    excess = sorted(cluster.excess().items())
    text = ", ".join(f"{resource} {_shown(resource, amount)} more than is known" for resource, amount in excess)
    return [Line(DEBT, cluster.name, text)] if excess else []


# --- orders ----------------------------------------------------------------------------------------------------------


def _wrong_orders(rows: Rows) -> Iterable[str]:
    cluster = rows.cluster
    if cluster.generation > rows.generation:
        yield (
            f"its agent obeys generation {cluster.generation}, the hub is at {rows.generation}: "
            "run `federation migrate --restored`"
        )
    if cluster.generation == rows.generation and cluster.done >= cluster.next_order:
        yield f"order {cluster.done} is done, the next to be given is {cluster.next_order}"
    yield from _wrong_numbers(rows)
    if cluster.awaits or cluster.phase is ClusterPhase.LEFT:
        return
    given: Counter[int] = Counter()
    for placement in rows.placements:
        given.update(ask.order for ask in placement.asks if ask.order > ADOPTED_ORDER)
    yield from (f"order {order} was given to {times} versions" for order, times in sorted(given.items()) if times > 1)
    beyond = [order for order in sorted(given) if order >= cluster.next_order]
    yield from (f"order {order} stands on a placement, the next is {cluster.next_order}" for order in beyond)


def _wrong_numbers(rows: Rows) -> Iterable[str]:
    numbers = Counter((row.generation, row.number) for row in rows.outbox)
    for (generation, number), times in sorted(numbers.items()):
        if times > 1:
            yield f"order {number} of generation {generation} is {times} orders"
        if generation != rows.generation:
            yield f"order {number} is of generation {generation}, not {rows.generation}"
        elif number >= rows.cluster.next_order:
            yield f"order {number} is on its way, the next to be given is {rows.cluster.next_order}"


async def _untraced(reader: Reader, rows: Rows) -> list[str]:
    """Orders that come from no decision, and are neither a resync nor the answer to what was seen of an ended placement."""
    placements = {placement.id: placement for placement in rows.placements}
    decided = sorted({row.decision for row in rows.outbox if row.decision})
    known = await reader.decisions_known(decided)
    troubles = []
    for row in rows.outbox:
        if row.type == _RESYNC:
            continue
        placement = placements.get(row.placement)
        if placement is None or placement.version < row.version:
            troubles.append(
                f"order {row.number} is for version {row.version} of placement {row.placement}, which is not there"
            )
        elif row.decision not in known and not (row.type == _UNWANTED and not row.decision):
            troubles.append(f"order {row.number} traces to no decision ({row.decision or 'none is named'})")
    return troubles


# --- the whole -------------------------------------------------------------------------------------------------------


async def _wrong_positions(reader: Reader, now_ms: int) -> list[str]:
    partitions = await reader.partitions()
    troubles = [f"{each.source} stands at {each.position}" for each in partitions.values() if each.position < -1]
    for each in partitions.values():
        if each.caught_up_ms > now_ms + AHEAD_MS:
            troubles.append(f"{each.source} was at its end in {(each.caught_up_ms - now_ms) // 1000} s from now")
    for cluster in await reader.clusters():
        if cluster.source and cluster.source not in partitions:
            troubles.append(f"{cluster.name} is told by {cluster.source}, of which no position is stored")
    return troubles


async def _wrong_workloads(reader: Reader) -> list[str]:
    troubles = []
    for phase in WorkloadPhase:
        after, more = "", True
        while more:
            found = await reader.workloads(WorkloadQuery(phase=phase.value, after=after, limit=PAGE))
            troubles += [f"workload {each.id} {why}" for each in found for why in _why_wrong(each, phase)]
            after, more = (found[-1].id if found else after), bool(found)
    return troubles


def _why_wrong(workload: Workload, phase: WorkloadPhase) -> Iterable[str]:
    if workload.phase is not phase:
        yield f"is filed under {phase}, and is {workload.phase}"
    if workload.decided > workload.version:
        yield f"was decided at version {workload.decided}, and is at {workload.version}"
    decides = (WorkloadPhase.PLACED, WorkloadPhase.DEGRADED, WorkloadPhase.WAITING)
    if workload.phase in decides and not workload.decision:
        yield f"is {workload.phase} without a decision"


async def _wrong_decisions(reader: Reader, sample: int) -> list[str]:
    troubles = []
    for decision_id in await reader.decisions_latest(sample):
        found = await reader.decision(decision_id)
        if found is None:
            troubles.append(f"decision {decision_id} has no explanation")
            continue
        decision, explanation = found
        again = recompute(decision.spec, merge(decision, explanation))
        if again != decision.placed:
            troubles.append(
                f"decision {decision_id} placed {_split(decision.placed)}, computed again it is {_split(again)}"
            )
    return troubles


def _split(placed: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(placed.items())) or "nothing"


def _shown(resource: str, amount: int) -> str:
    return f"-{format_amount(resource, -amount)}" if amount < 0 else format_amount(resource, amount)
