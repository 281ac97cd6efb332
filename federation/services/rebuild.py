"""Make a damaged view right: what is summed is counted again from the rows, and the member is asked to tell everything.

Sums, bounds and holds follow from the rows. Where rows are damaged themselves only the member knows better; rows that
claim to be newer than anything that came in would never be replaced, and are set back.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from federation.domain.cluster import Cluster, Node
from federation.domain.placement import UNNAMED
from federation.domain.reception import unsound
from federation.ports import Store, Transaction
from federation.services.check import Line, Rows, bound_of, rows_of, summed


async def rebuild(store: Store, names: Sequence[str]) -> list[Line]:
    """Count the sums, bounds and holds of these clusters again, and ask their members to tell everything."""
    lines = []
    for name in names:
        async with store.transaction() as transaction:
            rows = await rows_of(transaction, name)
            mended = await _mend(transaction, rows)
        lines.append(Line("rebuilt", name, f"{mended} placements were counted again; it is asked to tell everything"))
    return lines


async def _mend(transaction: Transaction, rows: Rows) -> int:
    cluster, bound = rows.cluster, bound_of(rows.nodes.values())
    latest = _latest(cluster)
    nodes = {name: _not_ahead(node, latest) for name, node in rows.nodes.items()}
    placements = [
        replace(each, bound=bound[each.id], stamp=min(each.stamp, latest), holds=_sound(each.holds))
        for each in rows.placements
    ]
    placements = [placement.settled(UNNAMED, placement.held_since_ms) for placement in placements]
    known, used, held = summed(nodes.values(), placements)
    after = replace(
        cluster,
        revision=cluster.revision + 1,
        known=known,
        used=used,
        held=held,
        held_replicas=sum(placement.held for placement in placements),
        nodes=sum(not node.gone for node in nodes.values()),
        place=min(cluster.place, latest),
        reception=unsound(cluster.reception, "its view was rebuilt from its rows"),
    )
    changed = [new for new, old in zip(placements, rows.placements, strict=True) if new != old]
    await transaction.save_clusters([after])
    await transaction.save_placements([(placement, after.revision) for placement in changed])
    await _save_nodes(transaction, cluster, [node for name, node in nodes.items() if node != rows.nodes[name]])
    return len(changed)


def _latest(cluster: Cluster) -> tuple[int, int, int]:
    """The place of the newest event that has come in: no row can be newer."""
    reception = cluster.reception
    newest = reception.beyond[-1] if reception.beyond else reception.next - 1
    return (reception.term, reception.epoch, newest)


def _not_ahead(node: Node, latest: tuple[int, int, int]) -> Node:
    return replace(node, place=latest) if node.place > latest else node


def _sound(holds: Mapping[str, int]) -> dict[str, int]:
    return {node: count for node, count in holds.items() if count > 0}


async def _save_nodes(transaction: Transaction, cluster: Cluster, nodes: Sequence[Node]) -> None:
    if nodes:
        partition = await transaction.partition(cluster.source)
        await transaction.save_nodes(cluster.source, partition.position, [(cluster.name, node) for node in nodes])
