"""How many more pods of a shape fit, node by node, for all clusters at once.

An estimate is kept by shape and corrected only for the nodes that changed since it was last used. It counts, on every
node that the shape is admitted to, the least floor(free ÷ request) over the requested resources and the pod slots.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federation.domain.resources import parse_needed
from federation.domain.workload import Component, Toleration
from federation.planner.filling import NONE, WASTEFUL, Keys, fits_of, keys_of
from federation.planner.journal import Slots
from federation.planner.kinds import HOSTNAME, Kind
from federation.planner.member import Member, Request
from federation.planner.nodes import Int64
from federation.planner.pool import Pool
from federation.planner.taints import untolerated

_STRETCH: Final = 16_384
_FEWEST_SHAPES: Final = 64
_MOST_SHAPES: Final = 256
_KEY_BUDGET: Final = 2**27


@dataclass(slots=True, kw_only=True)
class Shape:
    """*keys* by slot (see `filling`), *fits* by number of the member; *missing*: resources that no node offers.

    By kind of node: *admits* is one or zero, *waste* what goes into the key. *choosy*: some kind is refused or wasted.
    """

    key: bytes
    amounts: dict[str, int]
    selector: Mapping[str, str]
    tolerations: Sequence[Toleration]
    request: Request
    missing: tuple[str, ...] = ()
    keys: Keys = field(default_factory=lambda: np.empty(0, np.uint32))
    fits: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    admits: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    waste: Keys = field(default_factory=lambda: np.empty(0, np.uint32))
    choosy: bool = False
    kinds_seen: int = 0
    position: int = -1
    epoch: int = -1


class Estimates:
    """The shapes that were last asked for, each kept up to date when it is asked for again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shapes: OrderedDict[bytes, Shape] = OrderedDict()
        self._scratch: Slots = np.empty(0, np.intp)
        self._order: Slots = np.empty(0, np.intp)

    def shape(self, component: Component) -> Shape:
        """The shape of the component's pods, not yet brought up to date."""
        key = msgspec.msgpack.encode((component.requests, component.node_selector, component.tolerations))
        shape = self._shapes.get(key)
        if shape is None or (shape.missing and any(map(self._pool.table.offers, shape.missing))):
            shape = self._shapes[key] = self._make(component, key)
            self._make_room()
        self._shapes.move_to_end(key)
        return shape

    def refresh(self, shape: Shape) -> None:
        """Bring the shape's columns up to date."""
        table = self._pool.table
        self._extend(shape)
        if shape.position == table.journal.end and shape.epoch == table.epoch:
            return
        self._judge(shape)
        changed = table.journal.since(shape.position) if shape.epoch == table.epoch else None
        if changed is None or len(changed) > table.end // 4 + 64:
            self._compute(shape)
        else:
            self._correct(shape, changed)
        shape.position, shape.epoch = table.journal.end, table.epoch

    def fits(self, shape: Shape, members: Slots) -> Int64:
        """How many more fit in each of *members*: by its nodes, and by what a commit leaves of its sums."""
        fits = shape.fits[members]
        if self._pool.is_tight:
            room = self._pool.room[shape.request.rows[:, None], members] // shape.request.column
            fits = np.minimum(fits, np.maximum(room.min(axis=0), 0))
        return fits

    def admitted(self, shape: Shape, slots: Slots | slice) -> NDArray[np.bool_]:
        """Which of the nodes at *slots* the shape is admitted to, by its selector and its tolerations."""
        kinds = self._pool.table.kind[slots]
        admitted: NDArray[np.bool_] = shape.admits[kinds] > 0
        if HOSTNAME in shape.selector:
            at = np.arange(self._pool.table.end)[slots] if isinstance(slots, slice) else slots
            by_name = np.array([kind is not None and kind.named_by_host for kind in self._pool.table.kinds.known])
            admitted &= ~by_name[kinds] | np.isin(at, self._named(shape.selector[HOSTNAME]))
        return admitted

    def _make(self, component: Component, key: bytes) -> Shape:
        amounts = parse_needed(component.requests)
        missing = tuple(sorted(name for name in amounts if not self._pool.table.offers(name)))
        offered = {name: amount for name, amount in amounts.items() if name not in missing}
        return Shape(
            key=key,
            amounts=amounts,
            selector=component.node_selector,
            tolerations=component.tolerations,
            request=self._pool.request(offered),
            missing=missing,
        )

    def _make_room(self) -> None:
        most = max(_FEWEST_SHAPES, min(_MOST_SHAPES, _KEY_BUDGET // (self._pool.table.end + 1)))
        while len(self._shapes) > most:
            self._shapes.popitem(last=False)

    def _judge(self, shape: Shape) -> None:
        """Whether the shape is admitted to each kind of node that was named since."""
        kinds = self._pool.table.kinds
        given = kinds.journal.since(shape.kinds_seen)
        if given is not None and not len(given):
            return
        more = max(0, len(kinds.known) - len(shape.admits))
        shape.admits = np.concatenate((shape.admits, np.zeros(more, np.int64)))
        shape.waste = np.concatenate((shape.waste, np.zeros(more, np.uint32)))
        for number in range(len(kinds.known)) if given is None else set(given.tolist()):
            kind = kinds.known[number]
            admitted = kind is not None and _admits(shape, kind)
            shape.admits[number] = admitted
            shape.waste[number] = WASTEFUL if kind is not None and kind.devices - shape.amounts.keys() else 0
        shape.choosy = bool((shape.admits == 0).any() or shape.waste.any()) or HOSTNAME in shape.selector
        shape.kinds_seen = kinds.journal.end

    def _compute(self, shape: Shape) -> None:
        """The whole column, a few clusters at a time so that it stays in the processor's cache."""
        table = self._pool.table
        shape.keys.fill(NONE)
        shape.fits.fill(0)
        for members, end in self._stretches():
            first = members[0].start
            stretch = slice(first, end)
            fits = self._entered(shape, stretch, _quotients(table.free, shape.request, stretch))
            starts = np.array([member.start - first for member in members], np.intp)
            shape.fits[[member.id for member in members]] = np.add.reduceat(fits, starts)

    def _stretches(self) -> Iterator[tuple[list[Member], int]]:
        """Clusters whose blocks follow one another, with the slot after the last."""
        placed = [member for member in self._pool.members.values() if member.capacity]
        members: list[Member] = []
        for member in sorted(placed, key=lambda member: member.start):
            if members and member.start - members[0].start >= _STRETCH:
                yield members, member.start
                members = []
            members.append(member)
        if members:
            yield members, self._pool.table.end

    def _correct(self, shape: Shape, changed: Slots) -> None:
        """Only the nodes that changed, each once."""
        table = self._pool.table
        slots = self._once(changed)
        before = fits_of(shape.keys[slots])
        quotients = table.flat[shape.request.starts(table.free.shape[1]) + slots]
        quotients //= shape.request.column
        fits = self._entered(shape, slots, np.minimum.reduce(quotients))
        np.add.at(shape.fits, table.member[slots], fits - before)

    def _extend(self, shape: Shape) -> None:
        table = self._pool.table
        if len(shape.keys) < len(table.member):
            more = np.full(len(table.member) - len(shape.keys), NONE, np.uint32)
            shape.keys = np.concatenate((shape.keys, more))
        if len(shape.fits) < len(self._pool.numbered):
            more_fits = np.zeros(len(self._pool.numbered) - len(shape.fits), np.int64)
            shape.fits = np.concatenate((shape.fits, more_fits))

    def _once(self, changed: Slots) -> Slots:
        """Each slot in *changed* once: the last to write its place in the scratch column is the one that stays."""
        if len(self._scratch) < len(self._pool.table.member):
            self._scratch = np.zeros(len(self._pool.table.member), np.intp)
        if len(self._order) < len(changed):
            self._order = np.arange(2 * len(changed))
        order = self._order[: len(changed)]
        self._scratch[changed] = order
        once: Slots = changed[self._scratch[changed] == order]
        return once

    def _entered(self, shape: Shape, slots: Slots | slice, fits: Int64) -> Int64:
        """What fits at *slots* where the shape is admitted, once it is written into the keys."""
        np.maximum(fits, 0, out=fits)
        if shape.missing:
            fits[:] = 0
        if not shape.choosy:
            shape.keys[slots] = fits - 1
            return fits
        kinds = self._pool.table.kind[slots]
        fits *= self.admitted(shape, slots) if HOSTNAME in shape.selector else shape.admits[kinds]
        shape.keys[slots] = keys_of(fits, shape.waste[kinds])
        return fits

    def _named(self, host: str) -> list[int]:
        slots = (member.slot(host) for member in self._pool.members.values())
        return [slot for slot in slots if slot is not None]


def _quotients(free: Int64, request: Request, stretch: slice) -> Int64:
    """The least floor(free ÷ request) over the rows; one divisor at a time is what processors divide fast by."""
    least: Int64 | None = None
    for row, amount in zip(request.rows.tolist(), request.amounts.tolist(), strict=True):
        fits = free[row, stretch] // amount if amount != 1 else free[row, stretch].copy()
        least = fits if least is None else np.minimum(least, fits, out=least)
    return least if least is not None else np.empty(0, np.int64)


def _admits(shape: Shape, kind: Kind) -> bool:
    for pair in shape.selector.items():
        if pair not in kind.labels and not (pair[0] == HOSTNAME and kind.named_by_host):
            return False
    return untolerated(kind.taints, shape.tolerations) is None


def estimates_of(pool: Pool) -> Estimates:
    """The estimates kept with *pool*."""
    kept = pool.caches.get("estimates")
    if not isinstance(kept, Estimates):
        kept = pool.caches["estimates"] = Estimates(pool)
    return kept
