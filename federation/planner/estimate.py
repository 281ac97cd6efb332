"""How many more pods of a shape fit, node by node, for all clusters at once.

An estimate is kept by shape and corrected only for the nodes that changed since it was last used. It counts, on every
node that the shape is admitted to, the least floor(free ÷ request) over the requested resources and the pod slots.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federation.domain.resources import parse_needed
from federation.domain.workload import Component, Toleration
from federation.planner.filling import MOST_FITS, NONE, Keys, fits_of, keys_of
from federation.planner.kinds import HOSTNAME, Kind
from federation.planner.member import Request
from federation.planner.nodes import Int64, Slots
from federation.planner.pool import Pool
from federation.planner.taints import untolerated

_REFUSED, _ADMITTED, _WASTED, _BY_NAME = 0, 1, 2, 4
_CHUNK: Final = 32_768
_MOST_SHAPES: Final = 256
_KEY_BUDGET: Final = 100_000_000


@dataclass(slots=True, kw_only=True)
class Shape:
    """*keys* by slot (see `filling`), *fits* by number of the member; *missing*: resources that no node offers."""

    id: str
    amounts: dict[str, int]
    selector: Mapping[str, str]
    tolerations: Sequence[Toleration]
    request: Request
    missing: tuple[str, ...] = ()
    keys: Keys = field(default_factory=lambda: np.empty(0, np.uint32))
    fits: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    admits: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    kinds_seen: int = 0
    position: int = -1
    epoch: int = -1


class Estimates:
    """The shapes that were last asked for, each kept up to date when it is asked for again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shapes: OrderedDict[bytes, Shape] = OrderedDict()
        self._scratch: NDArray[np.int64] = np.empty(0, np.int64)

    def shape(self, component: Component) -> Shape:
        """The shape of the component's pods, not yet brought up to date."""
        key = msgspec.msgpack.encode((component.requests, component.node_selector, component.tolerations))
        shape = self._shapes.get(key)
        if shape is None or any(name in self._pool.table.offered for name in shape.missing):
            shape = self._shapes[key] = self._make(component)
            self._make_room()
        self._shapes.move_to_end(key)
        return shape

    def refresh(self, shape: Shape) -> None:
        """Bring the shape's columns up to date."""
        table = self._pool.table
        self._judge(shape)
        self._extend(shape)
        changed = table.journal.since(shape.position) if shape.epoch == table.epoch else None
        if changed is None or len(changed) > table.end // 4 + 64:
            self._compute(shape)
        elif len(changed):
            self._correct(shape, changed)
        shape.position, shape.epoch = table.journal.end, table.epoch

    def fits(self, shape: Shape, members: Slots) -> Int64:
        """How many more fit in each of *members*: by its nodes, and by what a commit leaves of its sums."""
        fits = shape.fits[members]
        tight = self._pool.tight[members]
        if tight.any():
            room = self._pool.room[shape.request.rows[:, None], members] // shape.request.amounts[:, None]
            fits = np.minimum(fits, np.maximum(room.min(axis=0), 0))
        return fits

    def admitted(self, shape: Shape, slots: Slots | slice) -> NDArray[np.bool_]:
        """Which of the nodes at *slots* the shape is admitted to, by its selector and its tolerations."""
        admits = shape.admits[self._pool.table.kind[slots]]
        admitted: NDArray[np.bool_] = admits != _REFUSED
        if HOSTNAME in shape.selector:
            at = np.arange(self._pool.table.end)[slots] if isinstance(slots, slice) else slots
            admitted &= (admits & _BY_NAME == 0) | np.isin(at, self._named(shape.selector[HOSTNAME]))
        return admitted

    def _make(self, component: Component) -> Shape:
        amounts = parse_needed(component.requests)
        missing = tuple(sorted(name for name in amounts if name not in self._pool.table.offered))
        offered = {name: amount for name, amount in amounts.items() if name not in missing}
        return Shape(
            id=msgspec.json.encode((amounts, component.node_selector, component.tolerations)).decode(),
            amounts=amounts,
            selector=component.node_selector,
            tolerations=component.tolerations,
            request=self._pool.request(offered),
            missing=missing,
        )

    def _make_room(self) -> None:
        most = max(8, min(_MOST_SHAPES, _KEY_BUDGET // (self._pool.table.end + 1)))
        while len(self._shapes) > most:
            self._shapes.popitem(last=False)

    def _judge(self, shape: Shape) -> None:
        """Whether the shape is admitted to each kind of node that was named since."""
        kinds = self._pool.table.kinds
        if shape.kinds_seen == len(kinds.log):
            return
        if len(shape.admits) < len(kinds.known):
            more = np.zeros(len(kinds.known) * 3 // 2 + 8 - len(shape.admits), np.int8)
            shape.admits = np.concatenate((shape.admits, more))
        for number in set(kinds.log[shape.kinds_seen :]):
            kind = kinds.known[number]
            shape.admits[number] = _REFUSED if kind is None else _verdict(shape, kind)
        shape.kinds_seen = len(kinds.log)

    def _compute(self, shape: Shape) -> None:
        """The whole column, a stretch at a time so that it stays in the processor's cache."""
        table = self._pool.table
        shape.keys[table.end :] = NONE
        shape.fits[:] = 0
        for start in range(0, table.end, _CHUNK):
            stretch = slice(start, min(start + _CHUNK, table.end))
            fits = self._count(shape, stretch)
            shape.fits += np.bincount(table.member[stretch], fits, len(shape.fits)).astype(np.int64)

    def _correct(self, shape: Shape, changed: Slots) -> None:
        """Only the nodes that changed, each once."""
        table = self._pool.table
        slots = self._once(changed)
        before = fits_of(shape.keys[slots])
        np.add.at(shape.fits, table.member[slots], self._count(shape, slots) - before)

    def _extend(self, shape: Shape) -> None:
        table = self._pool.table
        if len(shape.keys) < len(table.member):
            more = np.full(len(table.member) - len(shape.keys), NONE, np.uint32)
            shape.keys = np.concatenate((shape.keys, more))
        if len(shape.fits) < len(self._pool.numbered):
            more_fits = np.zeros(len(self._pool.numbered) - len(shape.fits), np.int64)
            shape.fits = np.concatenate((shape.fits, more_fits))

    def _once(self, changed: Slots) -> Slots:
        if len(self._scratch) < len(self._pool.table.member):
            self._scratch = np.zeros(len(self._pool.table.member), np.int64)
        order = np.arange(len(changed))
        self._scratch[changed] = order
        once: Slots = changed[self._scratch[changed] == order]
        return once

    def _count(self, shape: Shape, slots: Slots | slice) -> Int64:
        """How many fit at *slots*; their keys are written."""
        table = self._pool.table
        if isinstance(slots, slice):
            fits = _quotients(table.free, shape.request, slots)
        else:
            fits = (table.free[shape.request.rows[:, None], slots] // shape.request.amounts[:, None]).min(axis=0)
        fits = np.clip(fits, 0, MOST_FITS)
        if shape.missing:
            fits[:] = 0
        fits[~self.admitted(shape, slots)] = 0
        shape.keys[slots] = keys_of(fits, shape.admits[table.kind[slots]] & _WASTED > 0)
        return fits

    def _named(self, host: str) -> list[int]:
        slots = (member.slot(host) for member in self._pool.members.values())
        return [slot for slot in slots if slot is not None]


def _quotients(free: Int64, request: Request, stretch: slice) -> Int64:
    """The least floor(free ÷ request) over the rows; one divisor at a time is what processors divide fast by."""
    least: Int64 | None = None
    for row, amount in zip(request.rows.tolist(), request.amounts.tolist(), strict=True):
        fits = free[row, stretch] // amount if amount != 1 else free[row, stretch]
        least = fits if least is None else np.minimum(least, fits)
    return least if least is not None else np.empty(0, np.int64)


def _verdict(shape: Shape, kind: Kind) -> int:
    by_name = kind.named_by_host and HOSTNAME in shape.selector
    for pair in shape.selector.items():
        if pair not in kind.labels and not (by_name and pair[0] == HOSTNAME):
            return _REFUSED
    if untolerated(kind.taints, shape.tolerations) is not None:
        return _REFUSED
    wasted = _WASTED if kind.devices - shape.amounts.keys() else 0
    return _ADMITTED | wasted | (_BY_NAME if by_name else 0)


def estimates_of(pool: Pool) -> Estimates:
    """The estimates kept with *pool*."""
    kept = pool.caches.get("estimates")
    if not isinstance(kept, Estimates):
        kept = pool.caches["estimates"] = Estimates(pool)
    return kept
