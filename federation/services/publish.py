"""An agent's events on their way into the log: numbered from 1 in each epoch, and sent until acknowledged.

When an append fails its fate is unknown. The same messages, with the same ids and sequences, are then sent again
before any new ones, so that a sequence never stands for two contents; the hub drops what comes twice.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from federation.domain.cloudevents import encode
from federation.domain.errors import FederationError, Invalid
from federation.domain.events import (
    TYPE_NAMES,
    ActionFinished,
    Envelope,
    Event,
    NodeGone,
    NodeObserved,
    PlacementObserved,
    ResyncFinished,
    ResyncStarted,
    Stamp,
)
from federation.ports import LeaseState, Message
from federation.services.agent import AgentParts, Fence, limited

SLICE: Final = 500
_log = structlog.get_logger(__name__)


class Publisher:
    """The one writer of an epoch. Not for two tasks at once: order is the order of calls."""

    def __init__(self, parts: AgentParts, epoch: LeaseState, fence: Fence) -> None:
        self._parts = parts
        self._epoch = epoch
        self._fence = fence
        self.sequence = 0

    async def send(self, events: Sequence[Event]) -> None:
        """Number *events* and append them in order; returns when the log has acknowledged them."""
        for start in range(0, len(events), SLICE):
            messages = [self._message(event) for event in events[start : start + SLICE]]
            await self._append(messages)

    def _message(self, event: Event) -> Message:
        parts = self._parts
        self.sequence += 1
        envelope = Envelope(
            id=parts.ids.new(),
            type=TYPE_NAMES[type(event)],
            source=f"/clusters/{parts.cluster}/agent",
            subject=subject_of(event),
            time=rfc3339(parts.clock.now_ms()),
            stamp=Stamp(self._epoch.uid, self._epoch.transitions, self.sequence),
        )
        return Message(topic=parts.settings.events_topic, key=parts.cluster, envelope=envelope, value=encode(event))

    async def _append(self, messages: Sequence[Message]) -> None:
        parts, tries = self._parts, 0
        while True:
            await self._fence.wait()
            try:
                await limited(parts.log.append(messages), parts.settings.append_seconds)
            except Invalid as error:
                await self._append_one_by_one(messages, error)
            except (FederationError, OSError) as error:
                tries += 1
                parts.counts.append_failures += 1
                _log.warning("events not acknowledged", cluster=parts.cluster, error=str(error), tries=tries)
                await asyncio.sleep(parts.back_off(tries))
                continue
            else:
                parts.counts.published += len(messages)
            return

    async def _append_one_by_one(self, messages: Sequence[Message], error: Invalid) -> None:
        """The log takes one of them never: it is left out, the hub finds its sequence missing and asks for a resync."""
        if len(messages) > 1:
            for message in messages:
                await self._append([message])
            return
        self._parts.counts.events_dropped += 1
        _log.error("an event the log refuses was left out", subject=messages[0].envelope.subject, error=str(error))


def subject_of(event: Event) -> str:
    """What an event is about, as its CloudEvents subject."""
    match event:
        case NodeObserved() | NodeGone():
            return f"nodes/{event.node}"
        case PlacementObserved():
            return f"placements/{event.placement}"
        case ActionFinished():
            return f"orders/{event.order}"
        case ResyncStarted() | ResyncFinished():
            return f"resyncs/{event.resync}"
    return f"clusters/{event.cluster}"


def rfc3339(at_ms: int) -> str:
    """A time as events carry it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
