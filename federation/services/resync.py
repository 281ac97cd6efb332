"""One resync under way: what is still to be told again, and what was told since it began (protocol 1.4)."""

from collections import deque
from collections.abc import Iterable

from federation.domain.events import ResyncFinished, ResyncStarted


class Resync:
    """What is told in the meantime for other reasons counts as told."""

    def __init__(self, resync_id: str, nodes: Iterable[str], placements: Iterable[str]) -> None:
        self.id = resync_id
        self.told_nodes: set[str] = set()
        self.told_placements: set[str] = set()
        self._nodes = deque(nodes)
        self._placements = deque(placements)

    def some_nodes(self, limit: int) -> list[str]:
        """The next nodes to tell again."""
        return _some(self._nodes, self.told_nodes, limit)

    def some_placements(self, limit: int) -> list[str]:
        """The next placements to tell again."""
        return _some(self._placements, self.told_placements, limit)

    def is_nearly_done(self, limit: int) -> bool:
        """Whether one more batch of *limit* nodes tells the rest."""
        return not self._placements and len(self._nodes) <= limit

    def nodes_left(self, names: Iterable[str]) -> set[str]:
        """Those of *names* that were not told since the start."""
        return set(names) - self.told_nodes

    def placements_left(self, names: Iterable[str]) -> list[str]:
        """Those of *names* that were not told since the start."""
        return sorted(set(names) - self.told_placements)

    def started(self, cluster: str) -> ResyncStarted:
        """The event that opens it."""
        return ResyncStarted(cluster=cluster, resync=self.id)

    def finished(
        self, cluster: str, orders: tuple[int, int], names: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> ResyncFinished:
        """The event that closes it, with the names of all nodes and placements."""
        generation, done = orders
        nodes, placements = names
        return ResyncFinished(
            cluster=cluster, resync=self.id, generation=generation, done=done, nodes=nodes, placements=placements
        )


def _some(names: deque[str], told: set[str], limit: int) -> list[str]:
    taken: list[str] = []
    while names and len(taken) < limit:
        name = names.popleft()
        if name not in told:
            taken.append(name)
    return taken
