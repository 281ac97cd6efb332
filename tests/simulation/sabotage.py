"""One part of the net taken out, each by a function of its own: it runs in a process before that plays a seed."""

from typing import Any

from msgspec.structs import replace

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_manifests import object_key
from adapters.sql.tables import partitions
from adapters.sql.transaction import SqlTransaction
from federation.services import committing


def offsets_without_compare_and_set() -> None:
    """The position moves from wherever it is."""
    moves = SqlTransaction.move_position

    async def move(self: SqlTransaction, source: str, expected: int, to: int) -> None:
        found = await self.connection.execute(partitions.select().where(partitions.c.source == source))
        row = found.first()
        await moves(self, source, row.position if row else expected, to)

    SqlTransaction.move_position = move  # type: ignore[method-assign]


def commits_without_guards() -> None:
    """Whether a cluster is as it was planned on is not looked at."""
    refused = committing._refused

    def unguarded(locked: Any, change: Any, basis: Any) -> str:
        as_it_is = {
            name: (cluster.definition, cluster.decisions - (name in locked.raised))
            for name, cluster in locked.clusters.items()
        }
        return refused(locked, change, committing.Basis(basis.cycle, as_it_is))

    committing._refused = unguarded


def commits_without_versions() -> None:
    """Whether a workload is at the version that was planned is not looked at."""
    out_of_date = committing._out_of_date

    def whatever(locked: Any, outcome: Any) -> str:
        reason = out_of_date(locked, outcome)
        return "" if "planned was" in reason else reason

    committing._out_of_date = whatever


def commits_without_inequalities() -> None:
    """Whether there is room is not looked at."""
    refused = committing._refused

    def roomy(locked: Any, change: Any, basis: Any) -> str:
        clusters = {name: replace(cluster, known=_plenty(cluster)) for name, cluster in change.clusters.items()}
        return refused(locked, committing.Change(change.placements, change.orders, clusters, change.raised), basis)

    committing._refused = roomy


def _plenty(cluster: Any) -> dict[str, int]:
    return dict.fromkeys({*cluster.known, *cluster.held, *cluster.used}, 2**60)


def orders_without_preconditions() -> None:
    """A write goes onto whatever stands there by now."""
    apply = SimulatedCluster.apply

    def onto_anything(self: SimulatedCluster, manifest: Any, _uid: str, _version: str) -> Any:
        found = self.find(object_key(manifest))
        return apply(self, manifest, *((found.uid, str(found.rv)) if found is not None else ("", "")))

    SimulatedCluster.apply = onto_anything  # type: ignore[method-assign]
