"""One placement in a member cluster, counted: the same counting for what a watch told and for what the server listed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Final, TypeVar

from federation.domain.events import Autoscaler, PlacementObserved, Shortage
from federation.domain.member import MemberObject, MemberPod

K = TypeVar("K")

MAX_TEXT: Final = 1024


class CountedPod:
    """What of a pod is counted. *live*: neither terminal nor terminating."""

    __slots__ = ("live", "node", "placement", "ready", "revision", "terminal", "unschedulable")

    def __init__(self, pod: MemberPod) -> None:
        self.node = intern(pod.node)
        self.placement = intern(pod.placement)
        self.revision = intern(pod.revision)
        self.unschedulable = intern(pod.unschedulable)
        self.ready = pod.ready
        self.terminal = pod.terminal
        self.live = not pod.terminal and not pod.terminating


@dataclass(slots=True)
class Tally:
    """Pods of one placement. *pods* counts them all, the ended and the terminating included."""

    pods: int = 0
    live: int = 0
    bound: int = 0
    ready: int = 0
    bound_of: dict[str, int] = field(default_factory=dict)
    unschedulable: dict[str, int] = field(default_factory=dict)

    def count(self, pod: CountedPod, sign: int) -> None:
        """Add *pod*, or take it away again."""
        self.pods += sign
        if not pod.live:
            return
        self.live += sign
        self.ready += sign if pod.ready else 0
        if pod.node:
            self.bound += sign
            bump(self.bound_of, pod.revision, sign)
        elif pod.unschedulable:
            bump(self.unschedulable, pod.unschedulable, sign)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementView:
    """A placement's foremost object, if there is one, and its pods counted."""

    object: MemberObject | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def absent(self) -> bool:
        """Whether neither an object nor a pod, in whatever state, is there."""
        return self.object is None and not self.tally.pods

    @property
    def in_force(self) -> bool:
        """Whether the controllers have observed what stands on the object."""
        return self.object is not None and not self.object.terminating and self.object.observed

    @property
    def desired(self) -> int:
        """Replicas that the object asks for; none once it is terminating."""
        return 0 if self.object is None or self.object.terminating else self.object.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an observation says beside the counts: the orders stored as of the reading, and what was refused.

    *gone* and *settled* may be true only of what was listed from the server (protocol 3.1).
    """

    generation: int = 0
    done: int = 0
    gone: bool = False
    settled: bool = True
    refused: Shortage | None = None


def listed_view(objects: Iterable[MemberObject], pods: Iterable[MemberPod]) -> PlacementView:
    """A placement counted from a listing."""
    tally = Tally()
    for pod in pods:
        tally.count(CountedPod(pod), +1)
    return PlacementView(object=foremost(objects), tally=tally)


def foremost(objects: Iterable[MemberObject]) -> MemberObject | None:
    """The object that stands for its placement: one that stays before one that goes, then the newest version."""
    return max(objects, key=_standing, default=None)


def placement_observed(cluster: str, placement: str, view: PlacementView, reading: Reading) -> PlacementObserved:
    """The event that tells *view*."""
    found, tally = view.object, view.tally
    event = PlacementObserved(
        cluster=cluster,
        placement=placement,
        generation=reading.generation,
        done=reading.done,
        gone=reading.gone,
        live=max(0, tally.live),
        bound=max(0, tally.bound),
        ready=max(0, tally.ready),
        unschedulable=_most_common(tally.unschedulable),
        refused=reading.refused or _refused(view),
    )
    return event if found is None else _with_object(event, found, view, reading)


def bump(sums: dict[K, int], key: K, by: int) -> None:
    """Add to one of *sums*; what comes to nothing is dropped."""
    total = sums.get(key, 0) + by
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)


def clipped(text: str) -> str:
    """*text* as long as an event bears it."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _standing(found: MemberObject) -> tuple[bool, int, str]:
    return (not found.terminating, found.version, found.uid)


def _with_object(
    event: PlacementObserved, found: MemberObject, view: PlacementView, reading: Reading
) -> PlacementObserved:
    return PlacementObserved(
        cluster=event.cluster,
        placement=event.placement,
        generation=event.generation,
        done=event.done,
        version=found.version,
        observed=view.in_force and reading.settled,
        revision=found.revision[:63],
        workload=found.workload[:63],
        team=found.team[:63],
        namespace=found.key.namespace,
        name=found.key.name,
        requests=found.requests,
        desired=view.desired,
        live=event.live,
        bound=event.bound,
        ready=event.ready,
        updated=view.tally.bound_of.get(found.revision, 0),
        succeeded=found.succeeded,
        failed=found.failed,
        condition=found.condition[:64],
        autoscaler=_autoscaler(found),
        unschedulable=event.unschedulable,
        refused=event.refused,
    )


def _autoscaler(found: MemberObject) -> Autoscaler | None:
    if found.autoscaler is None:
        return None
    least, most = found.autoscaler
    return Autoscaler(min_replicas=least, max_replicas=most)


def _refused(view: PlacementView) -> Shortage:
    """Desired less created, where the member's controllers say why they create no more."""
    if view.object is None or not view.object.refusal:
        return Shortage()
    missing = max(0, view.desired - view.tally.live)
    return Shortage(count=missing, reason=clipped(view.object.refusal)) if missing else Shortage()


def _most_common(reasons: Mapping[str, int]) -> Shortage:
    if not reasons:
        return Shortage()
    reason = max(reasons, key=lambda text: (reasons[text], text))
    return Shortage(count=sum(reasons.values()), reason=clipped(reason))
