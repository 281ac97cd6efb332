"""What the decisions of one plan have claimed so far: each lessens what the next one sees, and all is undone at the end."""

from collections.abc import Mapping, Sequence

import numpy as np

from federation.planner.estimate import Shape
from federation.planner.filling import fill, fits_in, fits_of
from federation.planner.journal import Slots
from federation.planner.member import Member, Request
from federation.planner.nodes import Int64
from federation.planner.pool import Pool


class Claims:
    """A journal of old values over the pool's columns."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._slots: list[Slots | list[int]] = []
        self._free: list[Int64] = []
        self._room: list[tuple[Slots, list[int], Int64]] = []
        self._charges: list[tuple[list[int], Request, Int64 | int]] = []
        self._tightened: list[int] = []
        self.raised: set[str] = set()

    def take(self, shape: Shape, wanted: Sequence[tuple[Member, int]]) -> list[dict[str, int]]:
        """Claim pods of a shape that is up to date, so many in each member; by node, what each took."""
        if len(wanted) == 1:
            ((member, count),) = wanted
            self.charge([member], shape.request, count)
            return [self._take_one(shape, member, count)]
        counts, keys = np.array([count for _, count in wanted], np.int64), shape.keys
        self.charge([member for member, _ in wanted], shape.request, counts)
        firsts = [int(keys[member.start : member.start + len(member.names)].argmin()) for member, _ in wanted]
        slots = np.array([member.start for member, _ in wanted], np.intp) + firsts
        enough = fits_of(keys[slots]) >= counts
        self.put(slots[enough], shape.request, counts[enough])
        holds = [{member.names[first]: count} for (member, count), first in zip(wanted, firsts, strict=True)]
        for index in (~enough).nonzero()[0].tolist():
            holds[index] = self._take_several(shape, *wanted[index])
        return holds

    def _take_one(self, shape: Shape, member: Member, count: int) -> dict[str, int]:
        """The same for one member, without vectors where one node suffices."""
        table, request = self._pool.table, shape.request
        block = shape.keys[member.start : member.end]
        first = int(block.argmin())
        if fits_in(int(block[first])) < count:
            return self._take_several(shape, member, count)
        slot = member.start + first
        self._slots.append([slot])
        self._free.append(table.free[:, slot : slot + 1].copy())
        table.free[request.rows, slot] -= request.amounts * count
        table.journal.note(slot)
        return {member.names[first]: count}

    def _take_several(self, shape: Shape, member: Member, count: int) -> dict[str, int]:
        """Where no single node takes them all, one after the other."""
        offsets, counts = fill(shape.keys[member.start : member.end], count)
        self.put(member.start + offsets, shape.request, counts)
        return dict(zip([member.names[offset] for offset in offsets.tolist()], counts.tolist(), strict=True))

    def put(self, slots: Slots, request: Request, counts: Int64) -> None:
        """Take *counts* pods of *request* from what is free at *slots*, each of which is named once."""
        table, rows = self._pool.table, request.rows[:, None]
        self._slots.append(slots)
        self._free.append(table.free[:, slots])
        table.free[rows, slots] -= request.column * counts
        table.journal.note(slots, len(slots))

    def lessen(self, member: Member, counts: Mapping[int, int], amounts: Mapping[str, int]) -> None:
        """Take *amounts* for each of the pods that are counted by offset; negative amounts are given back."""
        if counts and amounts:
            slots = member.start + np.array(list(counts), np.intp)
            self.put(slots, self._pool.vector(amounts), np.array(list(counts.values()), np.int64))

    def charge(self, members: Sequence[Member], request: Request, counts: Int64 | int) -> None:
        """Take *counts* pods of *request* from what the sums of the clusters leave; done when someone looks."""
        self._charges.append(([member.id for member in members], request, counts))
        self.raised.update([member.name for member in members])

    def book(self) -> None:
        """Enter the charges, before *room* is read."""
        room = self._pool.room
        for ids, request, counts in self._charges:
            rows = request.rows[:, None]
            old = room[rows, ids]
            self._room.append((rows, ids, old))
            room[rows, ids] = old - request.column * counts
        self._charges.clear()

    def charge_amounts(self, member: Member, amounts: Mapping[str, int]) -> None:
        """Take *amounts* from what the sums of the cluster leave, which may now be less than what its nodes do."""
        self.charge([member], self._pool.vector(amounts), 1)
        if not self._pool.tight[member.id]:
            self._tightened.append(member.id)
            self._pool.tight[member.id] = self._pool.is_tight = True

    def mark(self) -> tuple[int, int]:
        """Where to return to by `undo`; everything charged so far is entered first."""
        self.book()
        return len(self._slots), len(self._room)

    def undo(self, mark: tuple[int, int] = (0, 0)) -> None:
        """The pool as it was. Of several old values of one column the first is the one to return to."""
        table, (slots_kept, rooms_kept) = self._pool.table, mark
        if len(self._slots) > slots_kept:
            slots = np.concatenate(self._slots[slots_kept:][::-1])
            table.free[:, slots] = np.concatenate(self._free[slots_kept:][::-1], axis=1)
            touched = np.zeros(table.end, np.bool_)
            touched[slots] = True
            once = touched.nonzero()[0]
            table.journal.note(once, len(once))
        for rows, ids, old in reversed(self._room[rooms_kept:]):
            self._pool.room[rows, ids] = old
        if mark == (0, 0):
            self._pool.loosen(self._tightened)
        self._charges.clear()
        del self._slots[slots_kept:], self._free[slots_kept:], self._room[rooms_kept:]
