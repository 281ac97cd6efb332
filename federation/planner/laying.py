"""Pods that stand on no node yet are laid on nodes, so that estimates count them: the biggest first, then by request.

They are held replicas whose node is unnamed, gone or out of use, and the unbound pods of others. Which nodes admit them
is not known here: nodes without a repelling taint come first. What fits on no node blocks none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from federation.planner.filling import MOST_FITS, WASTEFUL, Keys, fill, keys_of
from federation.planner.member import Member, Request

if TYPE_CHECKING:
    from federation.planner.pool import Pool


def lay(pool: Pool, member: Member) -> None:
    """Take back what was laid in the cluster, and lay it anew."""
    for slots, request, counts in member.laid:
        pool.take(slots, request, -counts)
    member.laid = []
    if not (member.loose or member.cluster.unbound):
        return
    tainted = _tainted(pool, member)
    for request, count in _waiting(pool, member):
        free = pool.table.free[request.rows, member.start : member.end]
        fits = np.maximum((free // request.amounts[:, None]).min(axis=0, initial=MOST_FITS), 0)
        offsets, counts = fill(keys_of(fits, tainted), count)
        if len(offsets):
            pool.take(member.start + offsets, request, counts)
            member.laid.append((member.start + offsets, request, counts))


def _tainted(pool: Pool, member: Member) -> Keys:
    """What makes a node with a repelling taint come after all others."""
    kinds = pool.table.kinds.known
    numbers = pool.table.kind[member.start : member.end]
    found = {number: bool(kind and kind.tainted) for number in np.unique(numbers).tolist() if (kind := kinds[number])}
    return np.array([WASTEFUL if found.get(number, False) else 0 for number in numbers.tolist()], np.uint32)


def _waiting(pool: Pool, member: Member) -> list[tuple[Request, int]]:
    """(request, count) of everything that waits, the largest share of the cluster first."""
    loose = [(member.holdings[placement].request, count) for placement, count in member.loose.items()]
    others = [(pool.request(unbound.requests), unbound.count) for unbound in member.cluster.unbound]
    names = list(pool.table.rows)
    known = np.array([max(1, member.cluster.known.get(name, 1)) for name in names], np.float64)

    def rank(entry: tuple[Request, int]) -> tuple[float, list[tuple[str, int]], int]:
        request, count = entry
        named = sorted(zip((names[row] for row in request.rows), request.amounts.tolist(), strict=True))
        return -float((request.amounts / known[request.rows]).max()), named, count

    return sorted((*loose, *others), key=rank)
