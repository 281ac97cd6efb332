"""The scheduler's image of the pool: clusters, their nodes in columns, and what placements hold on them.

Kept current by what changed, whole rows at a time. Two images of the same rows plan alike, whatever the order in which
the rows came. *room* is what a commit leaves of each cluster's sums (protocol 2.3), beside the nodes' own columns.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from federation.domain.cluster import Cluster, ClusterPhase, Node
from federation.domain.placement import Placement
from federation.planner.held import Held
from federation.planner.journal import Slots
from federation.planner.laying import lay
from federation.planner.member import Bound, Member, Request
from federation.planner.nodes import MOST, PODS, Int64, NodeTable

_UNLIMITED: Final = 2**62
_JOURNAL: Final = 65_536
_MOST_TAKEN: Final = 2**56


class Pool:
    """What the planner plans on. `put_…` and `drop_cluster` change it, `settle` makes it ready to be read."""

    def __init__(self) -> None:
        self.table = NodeTable()
        self.members: dict[str, Member] = {}
        self.numbered: list[Member | None] = []
        self.definition = 0
        self.room: Int64 = np.zeros((len(self.table.rows), 0), np.int64)
        self.tight = np.zeros(0, np.bool_)
        self.is_tight = False
        self.caches: dict[str, object] = {}
        self._held = Held(self)
        self._touched: set[str] = set()
        self._wasted = 0

    def decisions_of(self, cluster: str) -> int:
        """The number of decisions that the row of *cluster* had seen."""
        member = self.members.get(cluster)
        return member.cluster.decisions if member else 0

    def row(self, name: str) -> int:
        """The row of a resource in the columns."""
        row = self.table.row(name)
        if row == len(self.room):
            self.room = np.concatenate((self.room, np.zeros((1, self.room.shape[1]), np.int64)))
            for member in self.members.values():
                self._weigh(member)
        return row

    def request(self, amounts: dict[str, int]) -> Request:
        """*amounts* of one pod, with its pod slot."""
        return self.vector({**amounts, PODS: max(1, amounts.get(PODS, 0))})

    def vector(self, amounts: Mapping[str, int]) -> Request:
        """*amounts* by row."""
        some = {name: min(amount, MOST) for name, amount in amounts.items() if amount}
        rows = np.array([self.row(name) for name in some], np.intp)
        return Request(rows, np.array(list(some.values()), np.int64))

    def put_cluster(self, cluster: Cluster, *, silent: bool) -> None:
        """The row of a cluster; of one that has left no more than the row stays."""
        member = self._member(cluster.name)
        if cluster.phase is ClusterPhase.LEFT:
            self._clear(member)
        if _definition(member.cluster, member.silent) != _definition(cluster, silent):
            self.definition += 1
        member.cluster, member.silent = cluster, silent
        self._touched.add(cluster.name)

    def drop_cluster(self, name: str) -> None:
        """The cluster is no more."""
        member = self.members.pop(name, None)
        if member is None:
            return
        self._clear(member)
        self.numbered[member.id] = None
        self.room[:, member.id] = 0
        self.tight[member.id] = False
        self._held.drop(member)
        self._touched.discard(name)
        self.definition += 1

    def put_nodes(self, cluster: str, nodes: Sequence[Node]) -> None:
        """Whole rows of nodes, tombstones included; the last row of a name counts."""
        member = self._member(cluster)
        if member.cluster.phase is ClusterPhase.LEFT:
            return
        latest = {node.name: node for node in nodes}
        kept = [node for node in latest.values() if not node.gone]
        for node in latest.values():
            if node.gone and node.name in member.offsets:
                self._remove(member, node.name)
        self._admit(member, [node.name for node in kept if node.name not in member.offsets])
        slots = np.array([member.start + member.offsets[node.name] for node in kept], np.intp)
        self.table.write(slots, kept)
        for node in kept:
            self._note(member, node)
        self._touched.add(cluster)

    def put_placements(self, rows: Sequence[Placement]) -> None:
        """Whole rows of placements: what they hold, and by how much their bound pods may grow; the last row counts."""
        growing: dict[str, list[str]] = {}
        for placement in {row.id: row for row in rows}.values():
            before = self._held.forget(placement.id)
            if before is not None:
                self._touched.add(before.name)
            if placement.released:
                continue
            if placement.held or placement.growth:
                self._held.put(placement, self._member(placement.cluster))
                self._touched.add(placement.cluster)
            if placement.growth:
                growing.setdefault(placement.cluster, []).append(placement.id)
        for cluster, placements in growing.items():
            self._held.grow(self.members[cluster], placements)

    def settle(self) -> None:
        """Bring blocks into the order of names, lay what stands on no node, weigh the sums of what changed."""
        for name in sorted(self._touched):
            member = self.members[name]
            if member.disordered:
                self._order(member)
            if member.renewed:
                self._held.renew(member)
            lay(self, member)
            self._weigh(member)
        self._touched.clear()
        if self._wasted > self.table.end // 2 and self._wasted > 4096:
            self._compact()
        self.table.journal.trim(max(_JOURNAL, self.table.end))
        self.table.kinds.journal.trim(_JOURNAL)
        self.loosen([])

    def loosen(self, members: list[int]) -> None:
        """The sums of these members leave no less than their nodes do."""
        self.tight[members] = False
        self.is_tight = bool(self.tight.any())

    def take(self, slots: Slots | int, request: Request, counts: Int64 | int) -> None:
        """Lessen what is free at *slots* by *counts* pods each (more than there is: it goes below zero)."""
        if isinstance(slots, int):
            self.table.free[request.rows, slots] -= _times(request.amounts, counts)
            self.table.journal.note(slots)
        else:
            self.table.free[request.rows[:, None], slots] -= _times(request.amounts[:, None], counts)
            self.table.journal.note(slots, len(slots))

    # --- clusters and nodes ------------------------------------------------------------------------------------------

    def _member(self, name: str) -> Member:
        member = self.members.get(name)
        return member if member is not None else self._join(Cluster(name=name))

    def _clear(self, member: Member) -> None:
        """The cluster has no nodes any more."""
        self.table.empty(np.arange(member.start, member.end))
        self._wasted += member.capacity
        member.capacity, member.renewed = 0, True
        member.names, member.usable, member.bound, member.offsets = [], [], [], {}

    def _join(self, cluster: Cluster) -> Member:
        """A number for the cluster, the lowest that is free."""
        try:
            number = self.numbered.index(None)
        except ValueError:
            number = len(self.numbered)
            self.numbered.append(None)
            self.room = np.concatenate((self.room, np.zeros((len(self.room), 1), np.int64)), axis=1)
            self.tight = np.concatenate((self.tight, np.zeros(1, np.bool_)))
        member = self.members[cluster.name] = Member(id=number, cluster=cluster)
        self.numbered[number] = member
        self.definition += 1
        self._touched.add(cluster.name)
        return member

    def _remove(self, member: Member, node: str) -> None:
        offset = member.offsets.pop(node)
        self.table.empty(np.array([member.start + offset], np.intp))
        member.usable[offset], member.bound[offset] = False, ()
        member.disordered = member.renewed = True

    def _admit(self, member: Member, names: Sequence[str]) -> None:
        """Slots for new nodes, at the end of the block until it is brought into order."""
        if not names:
            return
        if len(member.names) + len(names) > member.capacity:
            self._move(member, len(member.names) + max(len(names), len(member.names) // 2, 4))
        for name in names:
            member.offsets[name] = len(member.names)
            member.names.append(name)
            member.usable.append(False)
            member.bound.append(())
        member.disordered = member.renewed = True

    def _move(self, member: Member, capacity: int) -> None:
        old = np.arange(member.start, member.end)
        self._wasted += member.capacity
        member.start, member.capacity = self.table.reserve(capacity, member.id), capacity
        self.table.permute(np.arange(member.start, member.end), old)

    def _note(self, member: Member, node: Node) -> None:
        offset = member.offsets[node.name]
        if member.usable[offset] != node.usable:
            member.usable[offset] = node.usable
            member.renewed = True
        bound = _bound(node)
        self._held.rebind(member, node.name, member.bound[offset], bound)
        member.bound[offset] = bound

    def _order(self, member: Member) -> None:
        """The block in order of name, without holes."""
        kept = sorted(member.offsets.items())
        sources = np.array([offset for _, offset in kept], np.intp)
        everything = np.concatenate((sources, np.setdiff1d(np.arange(len(member.names)), sources)))
        self.table.permute(member.start + np.arange(len(everything)), member.start + everything)
        member.names = [name for name, _ in kept]
        member.usable = [member.usable[offset] for _, offset in kept]
        member.bound = [member.bound[offset] for _, offset in kept]
        member.offsets = {name: offset for offset, name in enumerate(member.names)}
        member.disordered = False

    def _compact(self) -> None:
        """All blocks one after the other, with no hole between them."""
        end = 0
        for member in sorted(self.members.values(), key=lambda member: member.start):
            old = np.arange(member.start, member.end)
            member.start, member.capacity = end, len(member.names)
            end += member.capacity
            self.table.permute(np.arange(member.start, member.end), old)
            self.table.member[member.start : member.end] = member.id
        self.table.end, self._wasted = end, 0
        self.table.epoch += 1

    def _weigh(self, member: Member) -> None:
        """What the sums leave, and whether they leave less than the nodes do."""
        cluster, free = member.cluster, self.table.free[:, member.start : member.end]
        known, used, held = cluster.known, cluster.used, cluster.held
        room = [known.get(name, 0) - used.get(name, 0) - held.get(name, 0) for name in self.table.rows]
        room[self.table.rows[PODS]] = _slots_left(cluster)
        self.room[:, member.id] = [max(-_UNLIMITED, min(left, _UNLIMITED)) for left in room]
        self.tight[member.id] = bool((np.maximum(free, 0).sum(axis=1) > self.room[:, member.id]).any())


def _slots_left(cluster: Cluster) -> int:
    """Pod slots that a commit leaves; where nodes do not tell theirs there is no bound on the sum."""
    if PODS not in cluster.known:
        return _UNLIMITED
    return cluster.known[PODS] - cluster.used.get(PODS, 0) - max(cluster.held_replicas, cluster.held.get(PODS, 0))


def _times(amounts: Int64, counts: Int64 | int) -> Int64:
    """*amounts* by *counts*, at most so much that sums of it stay within 64 bits; the same for less as for more."""
    most = _MOST_TAKEN // amounts
    times: Int64 = amounts * np.clip(counts, -most, most)
    return times


def _bound(node: Node) -> Bound:
    return tuple([part for name, revisions in node.bound.items() for part in (name, sum(revisions.values()))])


def _definition(cluster: Cluster, silent: bool) -> tuple[object, ...]:
    """All that the filters compare."""
    return (
        cluster.phase,
        cluster.cordoned,
        silent,
        cluster.stale,
        cluster.awaits,
        cluster.acts,
        cluster.labels,
        cluster.taints,
        cluster.apis,
    )
