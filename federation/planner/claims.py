"""What the decisions of one plan have claimed so far: each lessens what the next one sees, and all is undone at the end."""

from collections.abc import Mapping

import numpy as np

from federation.planner.estimate import Shape
from federation.planner.filling import fill
from federation.planner.member import Member, Request
from federation.planner.nodes import Int64, Slots
from federation.planner.pool import Pool


class Claims:
    """A journal of old values over the pool's columns."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._slots: list[Slots] = []
        self._free: list[Int64] = []
        self._room: list[tuple[Slots, int, Int64]] = []
        self.raised: set[str] = set()

    def take(self, shape: Shape, member: Member, count: int) -> dict[str, int]:
        """Claim *count* pods of a shape that is up to date, on the nodes that take them; by name, what each took."""
        offsets, counts = fill(shape.keys[member.start : member.end], count)
        self.put(member, offsets, shape.request, counts)
        self.charge(member, shape.request, count)
        return {member.names[offset]: taken for offset, taken in zip(offsets.tolist(), counts.tolist(), strict=True)}

    def put(self, member: Member, offsets: Slots, request: Request, counts: Int64) -> None:
        """Take *counts* pods of *request* from what is free on nodes."""
        table, slots = self._pool.table, member.start + offsets
        self._slots.append(slots)
        self._free.append(table.free[:, slots])
        table.free[request.rows[:, None], slots] -= request.amounts[:, None] * counts
        table.journal.note(slots, len(slots))

    def lessen(self, member: Member, counts: Mapping[int, int], amounts: Mapping[str, int]) -> None:
        """Take *amounts* for each of the pods that are counted by offset; negative amounts are given back."""
        if counts and amounts:
            rows = np.array([self._pool.row(name) for name in amounts], np.intp)
            request = Request(rows, np.array(list(amounts.values()), np.int64))
            offsets = np.array(list(counts), np.intp)
            self.put(member, offsets, request, np.array(list(counts.values()), np.int64))

    def charge(self, member: Member, request: Request, count: int) -> None:
        """Take *count* pods of *request* from what the sums of the cluster leave."""
        room, rows = self._pool.room, request.rows
        old = room[rows, member.id]
        self._room.append((rows, member.id, old))
        room[rows, member.id] = old - request.amounts * count
        self.raised.add(member.name)

    def charge_amounts(self, member: Member, amounts: Mapping[str, int]) -> None:
        """Take *amounts* from what the sums of the cluster leave."""
        rows = np.array([self._pool.row(name) for name in amounts], np.intp)
        self.charge(member, Request(rows, np.array(list(amounts.values()), np.int64)), 1)

    def undo(self) -> None:
        """The pool as it was. Of several old values of one column the first is the one to return to."""
        table = self._pool.table
        if self._slots:
            slots = np.concatenate(self._slots[::-1])
            table.free[:, slots] = np.concatenate(self._free[::-1], axis=1)
            table.journal.note(slots, len(slots))
        for rows, member, old in reversed(self._room):
            self._pool.room[rows, member] = old
        self._slots, self._free, self._room = [], [], []
