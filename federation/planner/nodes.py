"""The nodes of all clusters in columns: what is free on each, in blocks of one cluster, each block in order of name.

*base* is allocatable less requested; *free* is *base* less what is held or laid there; *flat* is the same, one row after
the other, since one index is faster than two. Nodes that are not usable, and slots that no node fills, offer nothing. Who
keeps something computed from the columns reads in *journal* which slots changed since, and starts again where *epoch*
moved.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.domain.cluster import Node
from federation.planner.filling import MOST_FITS
from federation.planner.journal import Journal, Slots
from federation.planner.kinds import Kinds

Int64 = NDArray[np.int64]

PODS: Final = "pods"
DEFAULT_PODS: Final = 110
MOST: Final = 2**52
_FIRST_COLUMNS: Final = (PODS, "cpu", "memory", "ephemeral-storage", "nvidia.com/gpu")


class NodeTable:
    """Columns by slot; a row of *base* and *free* for each resource that is common or that someone asks for."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {name: row for row, name in enumerate(_FIRST_COLUMNS)}
        self.base: Int64 = np.zeros((len(self.rows), 0), np.int64)
        self.free: Int64 = np.zeros((len(self.rows), 0), np.int64)
        self.flat: Int64 = self.free.reshape(-1)
        self.kind: NDArray[np.int32] = np.zeros(0, np.int32)
        self.member: NDArray[np.int32] = np.zeros(0, np.int32)
        self.filled: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.end = 0
        self.epoch = 0
        self.kinds = Kinds()
        self.journal = Journal()
        self._offers: Counter[str] = Counter()
        self._rare: dict[int, dict[str, int]] = {}

    def offers(self, name: str) -> bool:
        """Whether some node says something of the resource."""
        return name in self.rows or self._offers[name] > 0

    def row(self, name: str) -> int:
        """The row of a resource; made, from what the nodes said of it, when it is first asked for."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = len(self.rows)
            column = np.zeros((1, self.base.shape[1]), np.int64)
            for slot, amounts in self._rare.items():
                column[0, slot] = amounts.pop(name, 0)
            del self._offers[name]
            self.base = np.concatenate((self.base, column))
            self.free = np.concatenate((self.free, column))
            self.flat = self.free.reshape(-1)
        return row

    def reserve(self, count: int, member: int) -> int:
        """The first of *count* new slots, all empty, that belong to *member*."""
        start, self.end = self.end, self.end + count
        if self.end > len(self.member):
            self._grow(max(self.end, len(self.member) * 3 // 2, 1024))
        self.member[start : self.end] = member
        return start

    def write(self, slots: Slots, nodes: Sequence[Node]) -> None:
        """What *nodes* offer now, at their slots; what is taken there stays taken."""
        offering = np.array([node.usable and not node.gone for node in nodes], np.int64)
        for name, row in self.rows.items():
            amounts = offering * _column(name, nodes)
            self.free[row, slots] += amounts - self.base[row, slots]
            self.base[row, slots] = amounts
        for slot, node in zip(slots.tolist(), nodes, strict=True):
            self._write_rare(slot, node)
            self._write_kind(slot, node)
        self.journal.note(slots, len(slots))

    def permute(self, slots: Slots, sources: Slots) -> None:
        """Slot by slot, what stood at *sources* now stands at *slots*; slots that are no source any more are empty."""
        emptied = np.setdiff1d(sources, slots)
        for matrix in (self.base, self.free):
            matrix[:, slots] = matrix[:, sources]
            matrix[:, emptied] = 0
        for column in (self.kind, self.filled):
            column[slots] = column[sources]
            column[emptied] = 0
        rare = [self._rare.pop(source, None) for source in sources.tolist()]
        self._rare.update({slot: found for slot, found in zip(slots.tolist(), rare, strict=True) if found})
        self.journal.note(slots, len(slots))
        self.journal.note(emptied, len(emptied))

    def empty(self, slots: Slots) -> None:
        """No node stands at *slots* any more."""
        self.base[:, slots] = 0
        self.free[:, slots] = 0
        for slot in slots.tolist():
            self._forget_rare(slot)
            if self.filled[slot]:
                self.kinds.release(int(self.kind[slot]))
        self.filled[slots] = False
        self.journal.note(slots, len(slots))

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.member)
        self.base = np.concatenate((self.base, np.zeros((len(self.base), more), np.int64)), axis=1)
        self.free = np.concatenate((self.free, np.zeros((len(self.free), more), np.int64)), axis=1)
        self.flat = self.free.reshape(-1)
        self.kind = np.concatenate((self.kind, np.zeros(more, np.int32)))
        self.member = np.concatenate((self.member, np.zeros(more, np.int32)))
        self.filled = np.concatenate((self.filled, np.zeros(more, np.bool_)))

    def _write_rare(self, slot: int, node: Node) -> None:
        """Keep what the node says of resources that have no row."""
        rare = {name for names in (node.allocatable, node.requested) for name in names if name not in self.rows}
        if self._rare:
            self._forget_rare(slot)
        if rare and node.usable:
            self._rare[slot] = {name: node.allocatable.get(name, 0) - node.requested.get(name, 0) for name in rare}
            self._offers.update(rare)

    def _forget_rare(self, slot: int) -> None:
        for name in self._rare.pop(slot, {}):
            self._offers[name] -= 1
            if not self._offers[name]:
                del self._offers[name]

    def _write_kind(self, slot: int, node: Node) -> None:
        number = self.kinds.number(node)
        if self.filled[slot]:
            self.kinds.release(int(self.kind[slot]))
        self.kind[slot] = number
        self.filled[slot] = True


def _column(name: str, nodes: Sequence[Node]) -> Int64:
    """Allocatable less requested of one resource; where a node says nothing of pod slots it has as many as kubelets do."""
    absent = DEFAULT_PODS if name == PODS else 0
    offered = np.array([node.allocatable.get(name, absent) for node in nodes], np.int64)
    left: Int64 = offered - np.array([node.requested.get(name, 0) for node in nodes], np.int64)
    return np.minimum(left, MOST_FITS) if name == PODS else left
