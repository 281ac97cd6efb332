"""Why nothing of a shape fits in a cluster that would take it: which resource binds, with the two values compared."""

import numpy as np

from federation.domain.resources import format_amount
from federation.planner.estimate import Estimates, Shape
from federation.planner.member import Member
from federation.planner.pool import Pool
from federation.planner.taints import shown, untolerated


def shortage(pool: Pool, estimates: Estimates, shape: Shape, member: Member) -> tuple[str, str]:
    """(a few words to count by, the reason). The first by name of the resources of which no node has enough."""
    if shape.missing:
        return f"insufficient {shape.missing[0]}", f"insufficient {shape.missing[0]}: no node offers it"
    if not any(member.usable):
        return "no nodes", "no nodes that are ready"
    block = slice(member.start, member.end)
    admitted = estimates.admitted(shape, block) & np.array(member.usable, np.bool_)
    if not admitted.any():
        return "no node admits it", f"no node admits it: {_unadmitted(pool, shape, member, np.ones_like(admitted))}"
    return _too_small(pool, shape, member, admitted) or _no_sum(pool, shape, member) or _scattered(shape)


def _too_small(
    pool: Pool, shape: Shape, member: Member, admitted: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[str, str] | None:
    block = slice(member.start, member.end)
    for name, wanted in sorted({**shape.amounts, "pods": max(1, shape.amounts.get("pods", 0))}.items()):
        most = int(pool.table.free[pool.row(name), block][admitted].max())
        if most < wanted:
            text = (
                f"wants {format_amount(name, wanted)} on one node, largest free is {format_amount(name, max(0, most))}"
            )
            hidden = ~admitted & np.array(member.usable, np.bool_) & (pool.table.free[pool.row(name), block] >= wanted)
            beside = f"; more is free, but {_unadmitted(pool, shape, member, hidden)}" if hidden.any() else ""
            return f"insufficient {name}", f"insufficient {name}: {text}{beside}"
    return None


def _no_sum(pool: Pool, shape: Shape, member: Member) -> tuple[str, str] | None:
    """The cluster as a whole has less left than its nodes: it owes what the world took from it."""
    for name, wanted in sorted(shape.amounts.items()):
        left = int(pool.room[pool.row(name), member.id])
        if left < wanted:
            text = (
                f"wants {format_amount(name, wanted)}, the cluster as a whole has {format_amount(name, max(0, left))}"
            )
            return f"insufficient {name}", f"insufficient {name}: {text} left"
    return None


def _scattered(shape: Shape) -> tuple[str, str]:
    names = " and ".join(sorted(shape.amounts)) or "pods"
    return f"insufficient {names}", f"insufficient {names} together on one node"


def _unadmitted(pool: Pool, shape: Shape, member: Member, among: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    """Why the nodes *among* those of the member do not admit the shape."""
    for number in sorted(set(pool.table.kind[member.start : member.end][among].tolist())):
        kind = pool.table.kinds.known[number]
        taint = untolerated(kind.taints, shape.tolerations) if kind is not None else None
        if taint is not None and all(pair in kind.labels for pair in shape.selector.items()):
            return f"taint {shown(taint)} is not tolerated"
    selector = ", ".join(f"{key}={value}" for key, value in sorted(shape.selector.items()))
    return f"labels do not match {selector}"
