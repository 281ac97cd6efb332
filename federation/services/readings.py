"""Placements read from the server's storage: what may free capacity is never taken from a cache (protocol 3.1)."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from federation.domain.errors import FederationError
from federation.domain.events import PlacementObserved, Shortage
from federation.domain.tally import PlacementView, Reading, listed_view, placement_observed
from federation.services.agent import AgentParts, AgentState, limited, wait_for

_log = structlog.get_logger(__name__)
_IDLE_SECONDS: Final = 5.0
_AFTER_BUG_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReading:
    """One placement as the server listed it, with the event that tells it."""

    event: PlacementObserved
    view: PlacementView


class PlacementReader:
    """Reads wanted placements, few at a time; readings wait here until they are taken. Bounded by the placements known."""

    def __init__(self, parts: AgentParts, state: AgentState) -> None:
        self._parts = parts
        self._state = state
        self._wanted: dict[str, float] = {}
        self._reading: set[str] = set()
        self._readings: dict[str, ServerReading] = {}
        self._more = asyncio.Event()

    def want(self, placement: str, at: float) -> None:
        """Read *placement* at that time of the loop or soon after, and after every reading of it that has begun."""
        self._wanted[placement] = min(at, self._wanted.get(placement, at))
        self._more.set()

    def is_busy(self, placement: str) -> bool:
        """Whether a reading is under way or waits: what a cache says is not told in between."""
        return placement in self._wanted or placement in self._reading or placement in self._readings

    def take(self) -> list[ServerReading]:
        """What was read since this was last called."""
        taken, self._readings = list(self._readings.values()), {}
        return taken

    async def work(self) -> None:
        """One of the readers, until cancelled."""
        while True:
            placement = await self._next()
            self._reading.add(placement)
            try:
                self._readings[placement] = await self._read(placement)
                self._state.wake.set()
            except FederationError as error:
                self._retry(placement, str(error), self._parts.settings.reading_seconds)
            except Exception as error:  # noqa: BLE001  (supervises: one placement must not stop the others)
                _log.exception("a placement could not be read", placement=placement)
                self._retry(placement, str(error), _AFTER_BUG_SECONDS)
            finally:
                self._reading.discard(placement)
                self._more.set()

    def _retry(self, placement: str, error: str, seconds: float) -> None:
        self._parts.counts.reading_failures += 1
        _log.warning("a placement could not be read", placement=placement, error=error)
        self.want(placement, asyncio.get_running_loop().time() + seconds)

    async def _next(self) -> str:
        loop = asyncio.get_running_loop()
        while True:
            self._more.clear()
            now, soonest = loop.time(), _IDLE_SECONDS
            for placement, at in self._wanted.items():
                if placement in self._reading:
                    continue
                if at <= now:
                    del self._wanted[placement]
                    return placement
                soonest = min(soonest, at - now)
            await wait_for(self._more, soonest)

    async def _read(self, placement: str) -> ServerReading:
        # What is told as done was stored before the listing began.
        orders = self._state.orders
        listing = await limited(self._parts.gateway.list_placement(placement), self._parts.settings.call_seconds)
        view = listed_view(listing.objects, listing.pods)
        reading = Reading(
            generation=orders.generation,
            done=orders.done,
            gone=view.absent and not listing.replica_sets,
            refused=refusal_of(self._state, placement, view),
        )
        return ServerReading(event=placement_observed(self._parts.cluster, placement, view, reading), view=view)


def refusal_of(state: AgentState, placement: str, view: PlacementView) -> Shortage | None:
    """What to tell of an order that was refused, unless what stands there is as new."""
    refusal = state.refusals.get(placement)
    if refusal is None or (view.object is not None and view.object.version >= refusal.version):
        return None
    return refusal.shortage
