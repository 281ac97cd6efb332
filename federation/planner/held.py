"""What placements hold on the nodes of a cluster, and what the growth of their bound pods may still take there.

Holds on nodes that are not there, or not in use, are *loose*: they are laid on others when the pool is settled. While a
cluster is *renewed* (its nodes came, went or changed in use) nothing is touched, since all will be held again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from federation.domain.placement import Placement
from federation.planner.member import Bound, Holding, Member, count_of

if TYPE_CHECKING:
    from federation.planner.pool import Pool


class Held:
    """The holdings of all members of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._where: dict[str, Member] = {}

    def put(self, placement: Placement, member: Member) -> None:
        """Hold what the row says; the growth of bound pods is `grow`'s."""
        holding = Holding(
            placement=placement.id,
            request=self._pool.request(placement.request),
            holds={node: count for node, count in placement.holds.items() if node},
            held=placement.held,
            growth=self._pool.vector(placement.growth) if placement.growth else None,
        )
        member.holdings[placement.id] = holding
        self._where[placement.id] = member
        self._hold(member, holding)

    def grow(self, member: Member, placements: Iterable[str]) -> None:
        """Keep free by how much the bound pods of *placements* may grow, on the nodes where they are."""
        for placement in placements:
            if not member.renewed and placement in member.holdings:
                member.grown[placement] = {}
                for node, count in member.bound_on(placement).items():
                    self._regrow(member, member.holdings[placement], node, count)

    def rebind(self, member: Member, node: str, before: Bound, after: Bound) -> None:
        """The pods bound on *node* are others now."""
        concerned = {*before[::2], *after[::2]} if member.grown else ()
        for placement in member.grown.keys() & concerned:
            self._regrow(member, member.holdings[placement], node, count_of(after, placement))

    def renew(self, member: Member) -> None:
        """Hold everything again, now that other nodes are there to hold it."""
        table, block = self._pool.table, slice(member.start, member.end)
        table.free[:, block] = table.base[:, block]
        table.journal.note(np.arange(member.start, member.end), len(member.names))
        member.loose, member.grown, member.laid, member.renewed = {}, {}, [], False
        for placement in sorted(member.holdings):
            self._hold(member, member.holdings[placement])
        self.grow(member, [placement for placement, held in member.holdings.items() if held.growth is not None])

    def drop(self, member: Member) -> None:
        """The member is no more."""
        for placement in member.holdings:
            del self._where[placement]

    def forget(self, placement: str) -> Member | None:
        """Hold nothing for *placement* any more; where that was."""
        member = self._where.pop(placement, None)
        if member is None:
            return None
        holding = member.holdings.pop(placement)
        member.loose.pop(placement, None)
        for node in member.grown.get(placement, {}):
            self._regrow(member, holding, node, 0)
        member.grown.pop(placement, None)
        for node, count in holding.holds.items():
            slot = member.slot(node)
            if slot is not None and not member.renewed:
                self._pool.take(slot, holding.request, -count)
        return member

    def _hold(self, member: Member, holding: Holding) -> None:
        """Take what the holding names on usable nodes; the rest is loose."""
        if member.renewed:
            return
        loose = holding.held - sum(holding.holds.values())
        for node, count in holding.holds.items():
            slot = member.slot(node)
            if slot is None:
                loose += count
            else:
                self._pool.take(slot, holding.request, count)
        if loose > 0:
            member.loose[holding.placement] = loose

    def _regrow(self, member: Member, holding: Holding, node: str, count: int) -> None:
        """Keep free the growth of *count* bound pods on *node*, instead of as many as before."""
        slot, grown = member.slot(node), member.grown[holding.placement]
        if holding.growth is not None and slot is not None and not member.renewed:
            self._pool.take(slot, holding.growth, count - grown.get(node, 0))
            grown[node] = count
