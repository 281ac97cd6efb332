"""What must hold: at each commit by the rows that it changed, at each order and write, and after each step as a whole.

The numbers are those of the list of invariants: 1 no excess by a raise, 2 loans, 3 the view is the fold, 4 orders,
5 holds. `truth` is the promise behind them: no member may come to have more of a placement than is claimed for it.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import JOB, SimObject
from federation.domain.cluster import Cluster, ClusterPhase
from federation.domain.member import MemberObject
from federation.domain.placement import AskKind, Placement
from federation.domain.records import Decision
from federation.domain.resources import add
from federation.domain.workload import Workload
from federation.ports import Message
from federation.services.carrying import UNWANTED, WANTED
from federation.simulator.world import World

Say = Callable[[str], None]


class Rows:
    """The documents of one table as of the last look, by key."""

    def __init__(self, table: str, key: str, kind: Any) -> None:
        self._query = f"SELECT {key}, doc FROM {table}"  # noqa: S608  names of ours
        self._decode = msgspec.json.Decoder(kind).decode
        self._texts: dict[str, str] = {}
        self.now: dict[str, Any] = {}

    def changes(self, raw: sqlite3.Connection) -> list[tuple[Any, Any]]:
        """(before, after) of what differs from the last look; None where there is no row."""
        found = dict(raw.execute(self._query).fetchall())
        changed: list[tuple[Any, Any]] = []
        for key, text in found.items():
            if self._texts.get(key) != text:
                after = self._decode(text)
                changed.append((self.now.get(key), after))
                self.now[key] = after
        for key in self._texts.keys() - found.keys():
            changed.append((self.now.pop(key), None))
        self._texts = found
        return changed


class Invariants:
    """Watches one world from its start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._raw = world.database.raw
        self._say = world.violated
        self.clusters = Rows("clusters", "name", Cluster)
        self.placements = Rows("placements", "id", Placement)
        self.workloads = Rows("workloads", "id", Workload)
        self._positions: dict[str, int] = {}
        self.begun_anew: set[str] = set()
        self.late: set[str] = set()
        self._decisions: set[str] = {""}
        self._numbered: dict[tuple[str, int, int], tuple[str, int, str]] = {}
        self._unwanted: dict[str, tuple[int, int]] = {}
        self._applied: dict[tuple[str, str], int] = {}
        self._last_row = 0
        self._last_decision = 0
        world.database.watch = self.committed
        world.log.told = self.told
        world.applied = self.applied

    # --- at each commit --------------------------------------------------------------------------------------------

    def committed(self, owner: str) -> None:
        """Look at what the commit of *owner* changed."""
        self._look_at_positions()
        clusters, placements = self.clusters.changes(self._raw), self.placements.changes(self._raw)
        workloads = self.workloads.changes(self._raw)
        self._look_at_decisions()
        rows = self._new_rows()
        if not (clusters or placements or workloads or rows):
            return
        names = sorted(after.id for _, after in placements if after)
        self._world.note(f"{owner} commits {[after.name for _, after in clusters if after]} {names} {rows}")
        for before, after in clusters:
            self._look_at_cluster(before, after)
        for before, after in placements:
            self._look_at_placement(before, after)
        for before, after in workloads:
            if before is not None and after is not None and (after.version, after.decided) < (before.version, 0):
                self._say(f"4: the version of workload {after.id} went back")
        for name in {after.cluster for _, after in placements if after is not None}:
            self._look_at_sums(name)

    def _look_at_positions(self) -> None:
        for source, position in self._raw.execute("SELECT source, position FROM partitions").fetchall():
            before = self._positions.get(source, -1)
            if position < before and source not in self.begun_anew:
                self._say(f"3: the position of {source} went back from {before} to {position}")
            if position != before:
                self.begun_anew.discard(source)
            self._positions[source] = position

    def _look_at_cluster(self, before: Cluster | None, after: Cluster | None) -> None:
        if after is None:
            self._say(f"3: a cluster's row is gone: {before.name if before else ''}")
            return
        if before is None:
            return
        if after.revision <= before.revision:
            self._say(f"2.4: {after.name} changed and its revision did not move from {before.revision}")
        for name in ("decisions", "definition", "next_order"):
            if getattr(after, name) < getattr(before, name):
                self._say(f"4: {name} of {after.name} went back")
        if (after.generation, after.done) < (before.generation, before.done):
            self._say(f"4: orders done of {after.name} went back from {before.done} to {after.done}")
        if after.done >= after.next_order:
            self._say(f"4: {after.name} has done order {after.done} of {after.next_order - 1} given")

    def _look_at_placement(self, before: Placement | None, after: Placement | None) -> None:
        if after is None:
            self._say(f"3: a placement's row is gone: {before.id if before else ''}")
            return
        if before is not None and after.version < before.version:
            self._say(f"4: the version of placement {after.id} went back")
        if before is not None and before.released and not after.released:
            self._say(f"5: placement {after.id} was released and claims again")
        if not after.released and ((after.holds and sum(after.holds.values())) or 0) != after.held:
            self._say(f"5: placement {after.id} names {after.holds} and holds {after.held}")
        decided = after.version > (before.version if before else 0) and after.asks
        if decided and after.asks[-1].kind is AskKind.WANTED and after.raises(before):
            self._look_at_raise(after)
        self._look_at_truth(after)

    def _look_at_raise(self, placement: Placement) -> None:
        """Invariant 1, and what may be chosen at all (3.10)."""
        cluster: Cluster = self.clusters.now[placement.cluster]
        excess = sorted(cluster.excess().keys() & placement.request.keys())
        if excess:
            self._say(f"1: a commit raised {placement.id} and left an excess of {excess} in {cluster.name}")
        if cluster.cordoned or cluster.stale or cluster.phase is not ClusterPhase.READY:
            why = "cordoned" if cluster.cordoned else cluster.stale or cluster.phase
            self._say(f"1: a commit raised {placement.id} in {cluster.name}, which is {why}")

    def _look_at_sums(self, name: str) -> None:
        held: dict[str, int] = {}
        for placement in self.placements.now.values():
            if placement.cluster == name:
                held = add(held, placement.held_amounts())
        held = {resource: amount for resource, amount in held.items() if amount}
        if held != self.clusters.now[name].held:
            self._say(f"5: {name} counts {self.clusters.now[name].held} as held, its placements hold {held}")

    def _look_at_decisions(self) -> None:
        query = "SELECT rowid, id, doc FROM decisions WHERE rowid > ?"
        for row, name, doc in self._raw.execute(query, (self._last_decision,)).fetchall():
            self._last_decision = row
            self._decisions.add(name)
            decision = msgspec.json.decode(doc, type=Decision)
            workload: Workload | None = self.workloads.now.get(decision.workload)
            if workload is not None and workload.version != decision.version:
                self._say(f"2.2: decided on version {decision.version} of a workload at {workload.version}")

    def _new_rows(self) -> list[Any]:
        query = "SELECT id, cluster, placement, version, type, decision FROM outbox WHERE id > ?"
        rows = self._raw.execute(query, (self._last_row,)).fetchall()
        for row, cluster, placement, version, kind, decision in rows:
            self._last_row = row
            if kind == WANTED and not decision:
                self._say(f"4: no decision stands behind version {version} of {placement} in {cluster}")
            if decision not in self._decisions:
                self._say(f"4: the decision {decision} behind {placement} is not on record")
        return rows

    # --- orders on the wire and in the members -----------------------------------------------------------------------

    def told(self, message: Message) -> None:
        """Each order on the wire has one number and one content (4.1)."""
        self._world.note(f"log {message.topic} {message.envelope.type} {message.envelope.subject}")
        if not message.topic.startswith("federation.actions."):
            return
        body = msgspec.json.decode(message.value)
        key = (message.key, body["generation"], body["order"])
        content = (body.get("placement", ""), body.get("version", 0), message.envelope.type)
        if self._numbered.setdefault(key, content) != content:
            self._say(f"4: order {key} stands for {content} and for {self._numbered[key]}")
        if message.envelope.type == UNWANTED:
            number, version = self._unwanted.get(body["placement"], (0, 0))
            self._unwanted[body["placement"]] = max((number, version), (body["order"], body["version"]))

    def applied(self, cluster: str, found: MemberObject, late: bool) -> None:
        """A write had its effect: no order undoes a newer one, and none raises the dead (4).

        *late* is a creating write that was on its way when its agent was frozen, and landed in the term of another.
        Nothing that a member offers refuses it where all was deleted meanwhile; the hub answers it by `unwanted`.
        """
        key = (cluster, found.placement)
        self._world.note(f"{cluster} has {found.key.name} of {found.placement} at {found.version}")
        if late and found.version < self._applied.get(key, 0):
            self.late.add(found.placement)
            return
        if found.version < self._applied.get(key, 0):
            self._say(f"4: {found.placement} went back from version {self._applied[key]} to {found.version}")
        number, version = self._unwanted.get(found.placement, (0, 0))
        if 0 < number <= self._world.members[cluster].orders.done and found.version < version:
            if late:
                self.late.add(found.placement)
            else:
                self._say(f"4: version {found.version} of {found.placement} came after its deletion, {version}")
        self._applied[key] = max(found.version, self._applied.get(key, 0))

    # --- after each step ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        """What the members may come to have is claimed."""
        rows = self._raw.execute("SELECT DISTINCT placement FROM outbox").fetchall()
        busy = {name for (name,) in rows}
        for member in self._world.members.values():
            busy.update(pod.placement for pod in member.pods.values())
            busy.update(found.placement for found in member.objects.values())
        for name in sorted(busy & self.placements.now.keys()):
            self._look_at_truth(self.placements.now[name])

    def _look_at_truth(self, placement: Placement) -> None:
        member = self._world.members[placement.cluster]
        if placement.id in self.late:
            return
        most = self.potential(member, placement)
        if most > placement.claim:
            state = "released" if placement.released else f"claims {placement.claim}"
            self._say(f"truth: {placement.cluster} may have {most} of {placement.id}, which {state}")

    def potential(self, member: SimulatedCluster, placement: Placement) -> int:
        """The most replicas of *placement* that *member* has, or will have by what stands there or is on its way."""
        pods = Counter(pod.owner for pod in member.pods.values() if pod.placement == placement.id and pod.live)
        standing = (each for each in member.objects.values() if each.placement == placement.id and not each.deleting)
        return max((_live(member, pods), *(_wants(each) for each in standing), *self._on_their_way(member, placement)))

    def _on_their_way(self, member: SimulatedCluster, placement: Placement) -> Iterable[int]:
        query = "SELECT number, doc FROM outbox WHERE placement = ? AND type = ?"
        for number, doc in self._raw.execute(query, (placement.id, WANTED)).fetchall():
            body = msgspec.json.decode(doc)
            if (number == 0 or number > member.orders.done) and not body["floorAtBound"]:
                yield _bounded(placement, body["replicas"])


def _live(member: SimulatedCluster, pods: Counter[str]) -> int:
    """Live pods by owner, together. While a rollout runs, a Deployment's controller counts those that a ReplicaSet has
    still to delete as gone, and has the other make theirs: that surplus is the member's own, and no order's.
    """
    if len(pods) < 2:
        return pods.total()
    sets = member.replica_sets
    return sum(min(count, sets[owner].replicas) if owner in sets else count for owner, count in pods.items())


def _bounded(placement: Placement, replicas: int) -> int:
    """How many of *replicas* an order may bring: of a Job that stands already only what it has left to do."""
    if placement.completions is None or placement.begins_anew:
        return replicas
    return 0 if placement.finished else min(replicas, max(0, placement.completions - placement.seen.succeeded))


def _wants(found: SimObject) -> int:
    if found.api != JOB:
        return found.replicas
    if found.condition in ("Complete", "Failed"):
        return 0
    return min(found.replicas, max(0, int(found.spec.get("completions", found.replicas)) - found.succeeded))
