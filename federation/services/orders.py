"""Orders from the log to the member: read in number order, carried out, stored as done, then told (protocol 4).

What is neither carried out nor refused for good is tried again. An order that cannot be carried out in time (its
object keeps terminating, the server keeps failing for it alone) ends as `failed` and counts as done: it will never
have an effect later, the hub's claim stands until a newer version is observed, and the hub plans anew. Otherwise
one stuck finalizer would block every order of the cluster.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog

from federation.domain.cloudevents import HUB_SOURCE, decode_action, decode_record
from federation.domain.errors import FederationError, Invalid
from federation.domain.events import (
    ActionFinished,
    PlacementWanted,
    ResyncRequested,
    Serial,
    Shortage,
)
from federation.domain.records import Orders
from federation.ports import Batch, Consumer, Record
from federation.services.act import Hands, Waiting, carry_out, reason_of
from federation.services.agent import AgentParts, AgentState, Fence, Refusal, limited, wait_for
from federation.services.order_book import Ended, Order, OrderBook, Outcome, Unreadable, placement_of

POLL_RECORDS: Final = 200
_POLL_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 1.0
_OPEN_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)


class _Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """What must be readable of an order so that it can be refused by number."""

    order: Serial
    generation: Serial
    placement: str = ""
    version: Serial = 0


class OrderCarrier:
    """Consumes the cluster's orders and carries them out; one for each term."""

    def __init__(self, parts: AgentParts, state: AgentState, fence: Fence) -> None:
        self._parts = parts
        self._state = state
        self._fence = fence
        self._book = OrderBook(state.orders)
        self._positions: dict[str, int] = {}
        self._more = asyncio.Event()
        self._running = 0

    # --- reading -----------------------------------------------------------------------------------------------------

    async def consume(self) -> None:
        """Read orders until cancelled; a consumer that fails is replaced."""
        tries = 0
        while True:
            try:
                consumer = await limited(self._subscribe(), _OPEN_SECONDS)
            except (FederationError, OSError) as error:
                tries += 1
                _log.warning("orders cannot be read", cluster=self._parts.cluster, error=str(error))
                await asyncio.sleep(self._parts.back_off(tries))
                continue
            try:
                await self._read_on(consumer)
            except (FederationError, OSError) as error:
                tries = min(tries + 1, 8)
                _log.warning("orders cannot be read", cluster=self._parts.cluster, error=str(error))
            finally:
                await limited(consumer.close(), _CLOSE_SECONDS)
            await asyncio.sleep(self._parts.back_off(tries))

    async def _subscribe(self) -> Consumer:
        cluster = self._parts.cluster
        return await self._parts.log.consume(
            f"federation-agent-{cluster}", [f"federation.actions.{cluster}"], self._read_positions
        )

    async def _read_positions(self, sources: Sequence[str]) -> Mapping[str, int]:
        """No position outlives the term: orders are read from the beginning, and what is done is skipped."""
        return {source: self._positions[source] for source in sources if source in self._positions}

    async def _read_on(self, consumer: Consumer) -> None:
        while True:
            if not self._book.has_room:
                await asyncio.sleep(_POLL_SECONDS / 10)
                continue
            batch = await consumer.poll(POLL_RECORDS, _POLL_SECONDS)
            self._take(batch)
            if batch.records:
                await consumer.hint(dict(self._positions))

    def _take(self, batch: Batch) -> None:
        for source, position in batch.reset.items():
            self._positions[source] = position
        for record in batch.records:
            self._positions[record.source] = record.offset + 1
            order = self._decoded(record)
            if order is not None and self._book.receive(order, len(record.value)):
                self._more.set()

    def _decoded(self, record: Record) -> Order | None:
        try:
            if record.key != self._parts.cluster:
                raise Invalid("the order is for another cluster")
            envelope = decode_record(record.key, record.headers)
            if envelope.source != HUB_SOURCE:
                raise Invalid("the order is not the hub's")
        except Invalid as error:
            self._unreadable(record, error)
            return None
        try:
            return decode_action(envelope, record.value)
        except Invalid as error:
            self._unreadable(record, error)
            return _numbered(record.value, str(error))

    def _unreadable(self, record: Record, error: Invalid) -> None:
        self._parts.counts.unreadable += 1
        _log.warning("an order cannot be read", source=record.source, offset=record.offset, error=str(error))

    # --- carrying out ------------------------------------------------------------------------------------------------

    async def carry(self) -> None:
        """Carry orders out until cancelled."""
        async with asyncio.TaskGroup() as running:
            while True:
                self._more.clear()
                if self._book.is_superseded:
                    await self._adopt_generation()
                if self._book.done() > self._book.orders.done:
                    await self._store_done()
                for order in self._book.begin(self._parts.settings.orders_at_once):
                    self._state.tracked.update({placement_of(order)} - {""})
                    running.create_task(self._run(order))
                await wait_for(self._more, _WAIT_SECONDS)

    async def _run(self, order: Order) -> None:
        self._running += 1
        try:
            outcome = await self._outcome(order)
            if order.generation < self._book.newest:
                self._read_again(placement_of(order))
        finally:
            self._running -= 1
        if outcome is not None:
            self._book.end(order, outcome)
        self._more.set()

    def _read_again(self, placement: str) -> None:
        """What an order did that a newer generation has made void belongs into the inventory, be the cache behind."""
        if placement:
            self._state.tracked.add(placement)
            self._state.forced.add(placement)

    async def _outcome(self, order: Order) -> Outcome | None:
        """How *order* ended; None where an order of a newer generation has made it void."""
        if isinstance(order, Unreadable):
            return Outcome(word="refused", reason=order.reason)
        tries, started = 0, asyncio.get_running_loop().time()
        while order.generation >= self._book.newest:
            await self._fence.wait()
            try:
                return Outcome(word="applied", reason=await carry_out(Hands(self._parts, self._fence), order))
            except Invalid as error:
                return Outcome(word="refused", reason=reason_of(error))
            except Waiting as error:
                waited = asyncio.get_running_loop().time() - started
                if waited > self._parts.settings.patience_seconds:
                    return Outcome(word="failed", reason=reason_of(error))
                await asyncio.sleep(self._parts.random.uniform(0.5, 1.0) * _WAIT_SECONDS)
            except Exception as error:  # noqa: BLE001  (supervises: one order must not stop the others)
                tries += 1
                self._note_trouble(order, error, tries)
                if tries >= self._parts.settings.tries:
                    return Outcome(word="failed", reason=reason_of(error))
                await asyncio.sleep(self._parts.back_off(tries))
        return None

    def _note_trouble(self, order: Order, error: Exception, tries: int) -> None:
        if isinstance(error, FederationError | OSError):
            _log.info("an order is tried again", order=order.order, tries=tries, error=str(error))
            return
        self._parts.counts.errors += 1
        _log.error("an order failed unexpectedly", order=order.order, tries=tries, exc_info=error)

    # --- what is durable ---------------------------------------------------------------------------------------------

    async def _adopt_generation(self) -> None:
        """Store a newer generation once nothing of the old one runs, then tell the inventory (section 6)."""
        while self._running:
            await wait_for(self._more, _WAIT_SECONDS)
            self._more.clear()
        await self._store(Orders(self._book.newest, 0))
        self._state.resync_wanted = True
        self._state.wake.set()

    async def _store_done(self) -> None:
        """Store how far all is done, then tell it: each order's placement, read afresh, even where nothing changed (3.1)."""
        for ended in await self._store(Orders(self._book.orders.generation, self._book.done())):
            self._tell(ended)
        self._state.wake.set()

    async def _store(self, orders: Orders) -> list[Ended]:
        tries = 0
        while not await self._is_stored(orders):
            tries += 1
            await asyncio.sleep(self._parts.back_off(tries))
        self._state.orders = orders
        return self._book.stored(orders)

    async def _is_stored(self, orders: Orders) -> bool:
        await self._fence.wait()
        self._running += 1
        try:
            await limited(self._parts.gateway.store_orders(orders), self._parts.settings.call_seconds)
        except (FederationError, OSError) as error:
            _log.warning("orders done cannot be stored", cluster=self._parts.cluster, error=str(error))
            return False
        else:
            return True
        finally:
            self._running -= 1

    @property
    def writes(self) -> bool:
        """Whether a write may be under way: it may still land after its task was cancelled."""
        return self._running > 0

    def _tell(self, ended: Ended) -> None:
        order, outcome, state = ended.order, ended.outcome, self._state
        placement, version = placement_of(order), version_of(order)
        self._count(outcome)
        if isinstance(order, ResyncRequested):
            state.resync_wanted = True
        if placement:
            state.refusals.pop(placement, None)
            state.forced.add(placement)
        if placement and outcome.word != "applied":
            replicas = order.replicas if isinstance(order, PlacementWanted) else 0
            shortage = Shortage(count=replicas, reason=outcome.reason)
            state.refuse(placement, Refusal(version=version, shortage=shortage))
        state.finished.append(
            ActionFinished(
                cluster=self._parts.cluster,
                order=order.order,
                placement=placement,
                generation=order.generation,
                version=version,
                outcome=outcome.word,
                reason=outcome.reason,
            )
        )

    def _count(self, outcome: Outcome) -> None:
        counts = self._parts.counts
        counts.applied += outcome.word == "applied"
        counts.refused += outcome.word == "refused"
        counts.failed += outcome.word == "failed"


def version_of(order: Order) -> int:
    """The version of the placement that an order speaks of."""
    return 0 if isinstance(order, ResyncRequested) else order.version


def _numbered(value: bytes, reason: str) -> Unreadable | None:
    try:
        read = msgspec.json.decode(value, type=_Numbered)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Unreadable(
        order=read.order,
        generation=read.generation,
        placement=read.placement[:63],
        version=read.version,
        reason=f"unreadable: {reason}",
    )
