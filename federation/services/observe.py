"""Observing: from what changed in the inventory to events, in the order that the protocol asks for.

One task assembles a batch from the newest state and sends it. While the log is down nothing queues up but the names
of what is dirty. Each batch is: nodes, then the placements and the heartbeat that must not overtake them.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from msgspec.structs import replace

from federation.domain.events import ClusterObserved, Event, NodeGone, NodeObserved, Orders, PlacementObserved
from federation.domain.tally import PlacementView, Reading, placement_observed
from federation.services.agent import AgentParts, AgentState, wait_for
from federation.services.publish import Publisher
from federation.services.readings import PlacementReader, ServerReading, refusal_of
from federation.services.resync import Resync

NODES_AT_ONCE: Final = 400
PLACEMENTS_AT_ONCE: Final = 200
_LONG_AGO: Final = float("-inf")
_SOON_SECONDS: Final = 1.0
_BLIND_HEARTBEATS: Final = 2
_LONGEST_RECHECK_SECONDS: Final = 30.0
_log = structlog.get_logger(__name__)


class Observer:
    """What has been told in this epoch, and what must be told next."""

    def __init__(self, parts: AgentParts, state: AgentState, publisher: Publisher, reader: PlacementReader) -> None:
        self._parts = parts
        self._state = state
        self._publisher = publisher
        self._reader = reader
        self._nodes: dict[str, None] = {}
        self._gained: set[str] = set()
        self._placements: dict[str, None] = {}
        self._node_told: dict[str, float] = {}
        self._placement_told: dict[str, PlacementObserved] = {}
        self._settled: dict[str, tuple[str, int]] = {}
        self._read_at: dict[str, float] = {}
        self._rechecks: dict[str, tuple[float, float]] = {}
        self._waiting = False
        self._heartbeat: ClusterObserved | None = None
        self._heartbeat_at = _LONG_AGO
        self._resync: Resync | None = None

    async def run(self) -> None:
        """Publish until cancelled. The first event of an epoch is ResyncStarted, so nothing goes before the first listing."""
        while not self._state.inventory.synced:
            self._state.wake.clear()
            await wait_for(self._state.wake, _SOON_SECONDS)
        self._state.inventory.take_dirty()
        self._state.tracked.update(self._state.inventory.placements())
        self._state.resync_wanted = True
        while True:
            self._state.wake.clear()
            batch = self.assemble(asyncio.get_running_loop().time())
            if batch:
                await self._publisher.send(batch)
            await asyncio.sleep(self._parts.settings.coalesce_seconds)
            await wait_for(self._state.wake, self._rest_seconds(asyncio.get_running_loop().time()))

    # --- one batch ---------------------------------------------------------------------------------------------------

    def assemble(self, now: float) -> list[Event]:
        """What is to be told now, whole and in order; told is what this returns."""
        self._take_dirty()
        opening = self._open_resync()
        placements = [*self._from_server(now), *self._from_cache(now)]
        if self._resync is not None:
            placements += self._retell_placements(self._resync.some_placements(PLACEMENTS_AT_ONCE), now)
        closing = self._last_of_resync(placements, now)
        names = self._nodes_due(now) | self._nodes_under(placements)
        if self._resync is not None:
            names |= set(self._resync.some_nodes(NODES_AT_ONCE))
            names |= self._resync.nodes_left(self._state.inventory.nodes()) if closing else set()
        heartbeat = self._heartbeat_due(now)
        names |= self._gained if heartbeat else set()
        nodes = [event for name in sorted(names) if (event := self._tell_node(name, now)) is not None]
        finished = [self._state.finished.popleft() for _ in range(len(self._state.finished))]
        beat = [self._tell_heartbeat(now)] if heartbeat else []
        return [*opening, *nodes, *placements, *finished, *beat, *(self._finish_resync() if closing else [])]

    def _take_dirty(self) -> None:
        dirty = self._state.inventory.take_dirty()
        self._nodes.update(dict.fromkeys(sorted(dirty.nodes)))
        self._gained |= dirty.gained
        self._waiting |= dirty.waiting
        self._placements.update(dict.fromkeys(sorted(dirty.placements)))

    def _rest_seconds(self, now: float) -> float:
        """Until when nothing can come due by itself."""
        settings = self._parts.settings
        if self._resync is not None or self._state.resync_wanted:
            return 0.0
        due = [self._heartbeat_at + (_SOON_SECONDS if self._heartbeat_changed() else settings.heartbeat_seconds)]
        due += [self._node_told.get(name, _LONG_AGO) + settings.node_seconds for name in self._nodes]
        due += [at for at, _ in self._rechecks.values()]
        if any(not self._reader.is_busy(name) for name in self._placements) or self._state.forced:
            return 0.0
        return max(0.0, min(due) - now)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _nodes_due(self, now: float) -> set[str]:
        """At most one event a node a second, at once when it was idle."""
        latest = now - self._parts.settings.node_seconds
        due: set[str] = set()
        for name in self._nodes:
            if self._node_told.get(name, _LONG_AGO) <= latest:
                due.add(name)
                if len(due) == NODES_AT_ONCE:
                    break
        return due

    def _nodes_under(self, placements: Iterable[PlacementObserved]) -> set[str]:
        """Nodes on which pods of these placements sit or sat, and changed: they go out first (protocol 3.2)."""
        touched: set[str] = set()
        for event in placements:
            touched |= self._state.inventory.take_touched(event.placement)
        return {name for name in touched if name in self._nodes}

    def _tell_node(self, name: str, now: float) -> NodeObserved | NodeGone | None:
        self._nodes.pop(name, None)
        self._gained.discard(name)
        event = self._state.inventory.node_observed(name)
        if event is None:
            known = self._node_told.pop(name, None) is not None
            return NodeGone(cluster=self._parts.cluster, node=name) if known else None
        self._node_told[name] = now
        if self._resync is not None:
            self._resync.told_nodes.add(name)
        return event

    # --- placements --------------------------------------------------------------------------------------------------

    def _from_server(self, now: float) -> list[PlacementObserved]:
        """What the readers brought, and new wishes: placements that must be told, whatever the cache says of them."""
        events = [self._tell_reading(reading, now) for reading in self._reader.take()]
        for placement in sorted(self._state.forced):
            self._reader.want(placement, now)
            self._placements.pop(placement, None)
        self._state.forced.clear()
        return events

    def _tell_reading(self, reading: ServerReading, now: float) -> PlacementObserved:
        event, found = reading.event, reading.view.object
        placement = event.placement
        self._read_at[placement] = now
        if found is not None and event.observed and event.live <= event.desired:
            self._settled[placement] = (found.uid, found.version)
        absent_here = self._state.inventory.view(placement).absent
        _, waited = self._rechecks.pop(placement, (0.0, 0.0))
        if absent_here and not event.gone:
            wait = min(_LONGEST_RECHECK_SECONDS, max(_SOON_SECONDS, 2 * waited))
            self._rechecks[placement] = (now + wait, wait)
        self._tell_placement(event)
        if absent_here and event.gone and placement not in self._state.refusals:
            self._forget(placement)
        return event

    def _from_cache(self, now: float) -> list[PlacementObserved]:
        for placement in [name for name, (at, _) in self._rechecks.items() if at <= now]:
            self._placements[placement] = None
        events: list[PlacementObserved] = []
        for placement in [name for name in self._placements if not self._reader.is_busy(name)][:PLACEMENTS_AT_ONCE]:
            del self._placements[placement]
            view = self._state.inventory.view(placement)
            if view.absent and placement not in self._state.tracked:
                continue
            self._state.tracked.add(placement)
            if self._must_be_read(placement, view):
                spaced = self._read_at.get(placement, _LONG_AGO) + self._parts.settings.reading_seconds
                self._reader.want(placement, max(now, spaced))
            elif (event := self._cached(placement, view)) is not None:
                events.append(event)
        return events

    def _must_be_read(self, placement: str, view: PlacementView) -> bool:
        """The two moments of protocol 3.1: it seems gone, or its controllers have just come to observe a version."""
        if view.absent:
            return True
        if not view.in_force:
            self._settled.pop(placement, None)
            return False
        return not self._is_settled(placement, view)

    def _is_settled(self, placement: str, view: PlacementView) -> bool:
        """Whether the server's list has shown this version in force, with no more pods than it asks for."""
        found = view.object
        return found is not None and self._settled.get(placement) == (found.uid, found.version)

    def _cached(self, placement: str, view: PlacementView) -> PlacementObserved | None:
        event = self._event(placement, view)
        if _content(event) == self._placement_told.get(placement):
            return None
        self._tell_placement(event)
        return event

    def _event(self, placement: str, view: PlacementView) -> PlacementObserved:
        orders = self._state.orders
        reading = Reading(
            generation=orders.generation,
            done=orders.done,
            settled=self._is_settled(placement, view),
            refused=refusal_of(self._state, placement, view),
        )
        return placement_observed(self._parts.cluster, placement, view, reading)

    def _tell_placement(self, event: PlacementObserved) -> None:
        self._placement_told[event.placement] = _content(event)
        if self._resync is not None:
            self._resync.told_placements.add(event.placement)

    def _forget(self, placement: str) -> None:
        """The server has shown it gone, and that was told."""
        self._state.tracked.discard(placement)
        for known in (self._placement_told, self._settled, self._read_at, self._rechecks):
            known.pop(placement, None)

    # --- the heartbeat -----------------------------------------------------------------------------------------------

    def _heartbeat_changed(self) -> bool:
        told, orders = self._heartbeat, self._state.orders
        if told is None or told.orders is None or self._waiting:
            return True
        return (told.orders.generation, told.orders.done) != (orders.generation, orders.done)

    def _heartbeat_due(self, now: float) -> bool:
        waited, blind = now - self._heartbeat_at, self._state.blind_since
        if blind is not None and now - blind > _BLIND_HEARTBEATS * self._parts.settings.heartbeat_seconds:
            # An agent that sees nothing has nothing to vouch for: the cluster falls silent.
            return False
        return waited >= self._parts.settings.heartbeat_seconds or (
            waited >= _SOON_SECONDS and self._heartbeat_changed()
        )

    def _tell_heartbeat(self, now: float) -> ClusterObserved:
        """Nodes that gained another's pod stand before it in the batch (protocol 3.9)."""
        settings, state = self._parts.settings, self._state
        self._heartbeat_at, self._waiting = now, False
        self._heartbeat = ClusterObserved(
            cluster=self._parts.cluster,
            kind=settings.kind,
            kubernetes_version=state.facts.kubernetes_version,
            nodes=state.inventory.node_count(),
            orders=Orders(generation=state.orders.generation, done=state.orders.done),
            labels={**state.facts.labels, **settings.labels},
            taints=settings.taints,
            apis=state.facts.apis,
            unbound=state.inventory.unbound(),
        )
        return self._heartbeat

    # --- resyncs -----------------------------------------------------------------------------------------------------

    def _open_resync(self) -> list[Event]:
        """At most one runs; one that is asked for meanwhile begins after it, since only that mends what came between."""
        if self._resync is not None or not self._state.resync_wanted:
            return []
        self._state.resync_wanted = False
        nodes = {*self._state.inventory.nodes(), *self._nodes}
        self._resync = Resync(self._parts.ids.new(), sorted(nodes), sorted(self._state.tracked))
        return [self._resync.started(self._parts.cluster)]

    def _retell_placements(self, placements: Iterable[str], now: float) -> list[PlacementObserved]:
        """From the cache, so that a resync is quick; what only the server may say follows as its own observation.

        What the cache does not show is not told from it at all: the resync waits for the server's word.
        """
        events = []
        for placement in placements:
            view = self._state.inventory.view(placement)
            if view.absent:
                if not self._reader.is_busy(placement):
                    self._reader.want(placement, now)
                continue
            event = self._event(placement, view)
            if self._must_be_read(placement, view) or self._reader.is_busy(placement):
                self._placements[placement] = None
            self._tell_placement(event)
            events.append(event)
        return events

    def _last_of_resync(self, placements: list[PlacementObserved], now: float) -> bool:
        """Whether this batch can end the resync; *placements* then gains those that came up since it began."""
        if self._resync is None or not self._resync.is_nearly_done(NODES_AT_ONCE):
            return False
        placements += self._retell_placements(self._resync.placements_left(self._state.tracked), now)
        return not self._resync.placements_left(self._state.tracked)

    def _finish_resync(self) -> list[Event]:
        resync, self._resync = self._resync, None
        assert resync is not None
        orders = self._state.orders
        names = (tuple(sorted(self._state.inventory.nodes())), tuple(sorted(self._state.tracked)))
        return [resync.finished(self._parts.cluster, (orders.generation, orders.done), names)]


def _content(event: PlacementObserved) -> PlacementObserved:
    """An event without what says only when it was read."""
    return replace(event, generation=0, done=0)
