"""From an outcome of the planner to rows: placements with their new versions, and the orders that carry them out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from federation.domain.manifest import surge_of
from federation.domain.placement import UNNAMED, Ask, AskKind, Placement
from federation.domain.records import OutboxRow
from federation.domain.resources import parse_needed
from federation.domain.workload import Component, Workload, WorkloadKind, WorkloadPhase, WorkloadSpec
from federation.planner.plan import Allotment
from federation.ports import Ids

WANTED = "federation.placement.wanted.v1"
UNWANTED = "federation.placement.unwanted.v1"


@dataclass(frozen=True, slots=True)
class Moment:
    """When and under which decision rows are made."""

    now_ms: int
    decision: str
    ids: Ids


def request_of(component: Component) -> dict[str, int]:
    """What one replica takes, in base units."""
    return parse_needed(component.requests)


def carried(
    workload: Workload, before: Placement | None, allotment: Allotment, moment: Moment
) -> tuple[Placement | None, OutboxRow | None]:
    """The placement after *allotment*, and its order; (None, None) when nothing changes.

    Versions that were never sent are taken back first: the caller drops their outbox rows with `cancel_waiting`.
    """
    spec = workload.spec
    if allotment.replicas == 0:
        is_open = before is not None and before.floor_is_open and workload.phase is not WorkloadPhase.DELETING
        return (None, None) if is_open else _ended(spec, before, moment)
    if before is not None and not _differs(spec, before, allotment):
        return None, None
    placement = before.recalled() if before is not None else _new(workload, allotment.cluster, moment)
    ask = _ask(spec, placement, allotment)
    after = placement.deployed_by_caller(ask) if spec.kind is WorkloadKind.CALLER else placement.asking(ask)
    after = after.holding(allotment.holds, moment.now_ms, before.held if before is not None else 0)
    return after, None if spec.kind is WorkloadKind.CALLER else _wanted(workload, after, ask, moment)


def withdrawn(workload: Workload, before: Placement, moment: Moment) -> tuple[Placement, OutboxRow] | None:
    """The placement shrunk to what is bound (3.5); None where it must stay whole: it has pods and may not lose some.

    Where an object stands even "none bound" is asked for as a floor: pods may have bound since. What is left of it
    decides whether the placement ends.
    """
    whole = workload.spec.single or workload.spec.kind is not WorkloadKind.DEPLOYMENT
    if before.bound == 0 and (whole or not before.seen.version or before.emptied):
        after, row = _ended(workload.spec, before, moment)
        return (after, row) if after is not None and row is not None else None
    if whole:
        return None
    last = before.asks[-1]
    ask = Ask(before.version + 1, before.bound, AskKind.FLOOR, 0, last.surge, last.revision, last.requests)
    after = before.recalled().asking(ask)
    return after.settled(UNNAMED, moment.now_ms), _wanted(workload, after, ask, moment)


def completions_shared(total: int, replicas: Mapping[str, int]) -> dict[str, int]:
    """A Job's completions divided once, pro rata to *replicas*, by largest remainder; ties by name (3.6)."""
    parties = sum(replicas.values())
    shares = {cluster: total * count // parties for cluster, count in replicas.items()}
    rest = total - sum(shares.values())
    by_remainder = sorted(replicas, key=lambda cluster: (-(total * replicas[cluster] % parties), cluster))
    for cluster in by_remainder[:rest]:
        shares[cluster] += 1
    return shares


def _new(workload: Workload, cluster: str, moment: Moment) -> Placement:
    return Placement(
        id=moment.ids.new(),
        workload=workload.id,
        team=workload.spec.team,
        cluster=cluster,
        component=workload.spec.components[0].name,
        created_ms=moment.now_ms,
    )


def _differs(spec: WorkloadSpec, before: Placement, allotment: Allotment) -> bool:
    if before.ended or before.found or not before.asks:
        return True
    last = before.asks[-1]
    asked = (last.replicas, last.revision, last.requests)
    return asked != (allotment.replicas, spec.revision, request_of(spec.components[0]))


def _ask(spec: WorkloadSpec, placement: Placement, allotment: Allotment) -> Ask:
    request = request_of(spec.components[0])
    version, own = placement.version + 1, _own_surge(spec, allotment.replicas)
    surge = own if _takes_back_an_end(spec, placement) else min(allotment.surge, own)
    return Ask(version, allotment.replicas, AskKind.WANTED, 0, surge, spec.revision, request)


def _takes_back_an_end(spec: WorkloadSpec, placement: Placement) -> bool:
    """Whether what was planned as new is a rollout: an end that was not sent yet leaves the old revision standing."""
    last = placement.asks[-1] if placement.ended and placement.asks else None
    return last is not None and last.kind is not AskKind.GONE and last.revision != spec.revision


def _own_surge(spec: WorkloadSpec, replicas: int) -> int:
    """How many pods the member would add by itself to *replicas* in a rollout; percentages are of one cluster's part."""
    return surge_of(spec.manifest, replicas) if spec.manifest else 0


def _ended(spec: WorkloadSpec, before: Placement | None, moment: Moment) -> tuple[Placement | None, OutboxRow | None]:
    if before is None or before.ended:
        return None, None
    if spec.kind is WorkloadKind.CALLER:
        return before.left_by_caller().settled(UNNAMED, moment.now_ms), None
    placement = before.recalled()
    gone = Ask(before.version + 1, 0, AskKind.GONE)
    if not placement.asks and not placement.seen.live and not placement.bound:
        unsent = replace(placement, version=gone.version, ended=True, released=True, holds={})
        return unsent, None
    doc = {"placement": before.id, "version": gone.version}
    row = _row(before, gone.version, (UNWANTED, doc), moment)
    return placement.asking(gone).settled(UNNAMED, moment.now_ms), row


def _wanted(workload: Workload, placement: Placement, ask: Ask, moment: Moment) -> OutboxRow:
    spec = workload.spec
    doc = {
        "placement": placement.id,
        "version": ask.version,
        "workload": spec.name,
        "team": spec.team,
        "namespace": spec.team,
        "name": spec.name,
        "revision": ask.revision or spec.revision,
        "replicas": ask.replicas,
        "floorAtBound": ask.kind is AskKind.FLOOR,
        "manifest": _manifest(spec, placement, ask),
    }
    return _row(placement, ask.version, (WANTED, doc), moment)


def _manifest(spec: WorkloadSpec, placement: Placement, ask: Ask) -> dict[str, Any]:
    """The caller's manifest with what is the cluster's own: its share of a Job, no more surge than is claimed."""
    manifest = dict(spec.manifest or {})
    own = dict(manifest.get("spec", {}))
    if placement.completions is not None:
        own["completions"] = placement.completions
    if 0 < ask.surge < _own_surge(spec, ask.replicas):
        strategy = own.get("strategy") or {}
        rolling = {**(strategy.get("rollingUpdate") or {}), "maxSurge": ask.surge}
        own["strategy"] = {**strategy, "type": "RollingUpdate", "rollingUpdate": rolling}
    return {**manifest, "spec": own} if manifest else {}


def _row(placement: Placement, version: int, order: tuple[str, dict[str, Any]], moment: Moment) -> OutboxRow:
    kind, doc = order
    return OutboxRow(
        cluster=placement.cluster,
        placement=placement.id,
        version=version,
        type=kind,
        doc=doc,
        decision=moment.decision,
        created_ms=moment.now_ms,
    )


def with_completions(
    spec: WorkloadSpec, changed: Iterable[Placement], before: Iterable[Placement], now_ms: int
) -> tuple[Placement, ...]:
    """*changed* placements of a Job with their share of its completions; what was dealt out once stays (3.6)."""
    placements = tuple(changed)
    if spec.completions is None:
        return placements
    fresh = {each.cluster: each.wanted for each in placements if each.completions is None and each.wanted}
    if not fresh:
        return placements
    dealt = sum(_dealt(each) for each in {each.id: each for each in (*before, *placements)}.values())
    shares = completions_shared(max(0, spec.completions - dealt), fresh)
    return tuple(_with_share(each, shares.get(each.cluster, each.completions), now_ms) for each in placements)


def _dealt(placement: Placement) -> int:
    """Completions that need not be dealt out again: of an ended placement those that it has brought."""
    if placement.completions is None:
        return 0
    return min(placement.completions, placement.seen.succeeded) if placement.ended else placement.completions


def _with_share(placement: Placement, share: int | None, now_ms: int) -> Placement:
    """A share may be smaller than the replicas, and lessens the claim then."""
    return replace(placement, completions=share).settled(UNNAMED, now_ms)
