"""The pool as a process keeps it in memory: columns made from SQL, kept current by reading what changed.

Two cursors: rows of a source at or above the next offset last read, rows of a cluster above its revision last read
(design rule 10). The cursors are read before the rows, so that a row may come twice but is never skipped. SQL stays
the truth: an image can be dropped at any time.
"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.domain.cluster import Cluster, Node
from federation.domain.placement import Placement
from federation.domain.records import Partition
from federation.planner.pool import Pool
from federation.ports import Reader


@dataclass(slots=True)
class Image:
    """The pool, the cursors up to which it is read, and what the last refresh touched."""

    silent_after_seconds: float
    pool: Pool = field(default_factory=Pool)
    positions: dict[str, int] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    partitions: dict[str, Partition] = field(default_factory=dict)
    held: dict[str, Placement] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    unsure_ms: dict[str, int] = field(default_factory=dict)
    _silent: dict[str, bool] = field(default_factory=dict)

    async def refresh(self, reader: Reader) -> bool:
        """Read what changed; whether anything did. *touched* gathers workloads whose placements changed."""
        before, self.partitions = self.partitions, await reader.partitions()
        positions = {source: partition.position for source, partition in self.partitions.items()}
        revisions = await reader.cluster_revisions()
        moved = {name: revision for name, revision in revisions.items() if self.revisions.get(name) != revision}
        first = not self.revisions
        for cluster in await reader.clusters_named(sorted(moved)) if moved else []:
            self.clusters[cluster.name] = cluster
        await self._read_nodes(reader, _cursors(before, self.partitions))
        if moved:
            since = {} if first else {name: self.revisions.get(name, -1) for name in moved}
            self._put_placements([placement for placement, _ in await reader.placements_changed(since)])
        became = self._put_clusters(moved)
        self.revisions, self.positions = revisions, positions
        if first and moved:
            gc.freeze()  # the columns stay as long as the process does: to look through them again finds no garbage
        return bool(moved) or became

    async def _read_nodes(self, reader: Reader, after: dict[str, int]) -> None:
        if all(after.get(source) == partition.position for source, partition in self.partitions.items()):
            return
        async for chunk in reader.nodes_changed(after):
            by_cluster: dict[str, list[Node]] = {}
            for cluster, node in chunk:
                by_cluster.setdefault(cluster, []).append(node)
            for cluster, nodes in by_cluster.items():
                self.pool.put_nodes(cluster, nodes)

    def _put_placements(self, placements: list[Placement]) -> None:
        self.pool.put_placements(placements)
        for placement in placements:
            self.touched.add(placement.workload)
            if placement.held:
                self.held[placement.id] = placement
            else:
                self.held.pop(placement.id, None)

    def _put_clusters(self, moved: dict[str, int]) -> bool:
        """Clusters that changed, or whose silence began or ended; whether any silence did."""
        became = False
        for name, cluster in self.clusters.items():
            silent = self.is_silent(cluster)
            if name not in moved and self._silent.get(name) == silent:
                continue
            became = became or self._silent.get(name) != silent
            self._silent[name] = silent
            self.pool.put_cluster(cluster, silent=silent)
        return became

    def is_silent(self, cluster: Cluster) -> bool:
        """Whether nothing was heard of *cluster* for too long, as of when its consumer last stood at the log's end."""
        partition = self.partitions.get(cluster.source)
        return partition is not None and cluster.silent(partition.caught_up_ms, self.silent_after_seconds)

    def is_unsure(self, cluster: Cluster) -> bool:
        """Whether what is known of *cluster* may be old or not whole."""
        return bool(cluster.stale) or self.is_silent(cluster)

    def note_unsure(self, now_ms: int) -> None:
        """Remember when each cluster was last silent or stale, or the log unread for as long as silence takes."""
        since_ms = now_ms - self.silent_after_seconds * 1000
        behind = {source for source, partition in self.partitions.items() if partition.caught_up_ms < since_ms}
        for name, cluster in self.clusters.items():
            if cluster.source in behind or self.is_unsure(cluster):
                self.unsure_ms[name] = now_ms

    def take_touched(self) -> list[str]:
        """Workloads whose placements changed since this was last asked."""
        touched, self.touched = sorted(self.touched), set()
        return touched


def _cursors(before: Mapping[str, Partition], now: Mapping[str, Partition]) -> dict[str, int]:
    """Up to where each source is read. One that was made anew counts from its start again: all of it is read."""
    return {
        source: seen.position
        for source, seen in before.items()
        if source in now and now[source].resets == seen.resets and now[source].position >= seen.position
    }
