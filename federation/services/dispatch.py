"""Send orders: number them at dispatch, publish in order, repeat what an agent has not confirmed (protocol 4.1).

A row that still waits has no number. Numbers are given under the cluster's lock and stored before the order is
published, so that an order sent twice is the same order.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from federation.domain.cluster import Cluster, ClusterPhase
from federation.domain.events import Envelope
from federation.domain.placement import Placement
from federation.domain.records import OutboxRow
from federation.ports import Clock, EventLog, Ids, Message, Store, Transaction
from federation.services.metrics import ACTION

BATCH: Final = 500
REPEAT_AFTER_MS: Final = 15_000
REPEAT_LIMIT: Final = 200
RESYNC_TYPE: Final = "federation.resync.requested.v1"
RESYNC_RUNS_MS: Final = 60_000
LONGEST_BACK_OFF_MS: Final = 60_000
SOUND_FOR_MS: Final = 300_000
PENDING_RESYNCS: Final = 10


async def dispatch(store: Store, log: EventLog, clock: Clock, ids: Ids) -> int:
    """Number what is ready and send what is numbered; how many orders were sent."""
    await _number(store, clock.now_ms())
    async with store.transaction() as transaction:
        rows = await transaction.rows_to_send(BATCH)
    await _send(store, log, rows, (clock.now_ms(), ids))
    for row in rows:
        ACTION.observe(max(0, clock.now_ms() - row.created_ms) / 1000)
    return len(rows)


async def _number(store: Store, now_ms: int) -> None:
    async with store.transaction() as transaction:
        candidates = await transaction.waiting_rows(BATCH)
        if not candidates:
            return
        clusters = await transaction.lock_clusters(sorted({row.cluster for row in candidates}))
        generation = await transaction.generation()
        still = {row.id for row in await transaction.waiting_rows(BATCH)}
        rows = [row for row in candidates if row.id in still and row.cluster in clusters]
        numbered = [_numbered(clusters, row, generation) for row in rows]
        await transaction.number_rows(numbered)
        placements = await transaction.placements(sorted({row.placement for row in numbered if row.placement}))
        touched = _with_numbers(placements, numbered, now_ms)
        for name in {row.cluster for row in numbered}:
            clusters[name] = replace(clusters[name], revision=clusters[name].revision + 1)
        await transaction.save_clusters([clusters[name] for name in sorted({row.cluster for row in numbered})])
        await transaction.save_placements([(each, clusters[each.cluster].revision) for each in touched])


def _numbered(clusters: dict[str, Cluster], row: OutboxRow, generation: int) -> OutboxRow:
    cluster = clusters[row.cluster]
    clusters[row.cluster] = replace(cluster, next_order=cluster.next_order + 1)
    return replace(row, number=cluster.next_order, generation=generation)


def _with_numbers(placements: dict[str, Placement], rows: Sequence[OutboxRow], now_ms: int) -> Iterable[Placement]:
    for row in rows:
        if row.placement in placements:
            placements[row.placement] = placements[row.placement].numbered(row.version, row.number, now_ms)
    return placements.values()


async def repeat(store: Store, log: EventLog, clock: Clock, ids: Ids) -> int:
    """Send again what agents have not confirmed for a while, and drop what they have; how many were repeated."""
    async with store.reader() as reader:
        clusters = [
            each for each in await reader.clusters() if each.next_order > 1 and each.phase is not ClusterPhase.LEFT
        ]
    now_ms, repeated = clock.now_ms(), 0
    for cluster in clusters:
        async with store.transaction() as transaction:
            generation = await transaction.generation()
            done = cluster.done if cluster.generation == generation else 0
            await transaction.forget_rows(cluster.name, done)
            rows = await transaction.rows_after(cluster.name, done, REPEAT_LIMIT)
        late = [row for row in rows if row.sent_ms and abs(now_ms - row.sent_ms) > REPEAT_AFTER_MS]
        await _send(store, log, late, (now_ms, ids))
        repeated += len(late)
    return repeated


async def _send(store: Store, log: EventLog, rows: Sequence[OutboxRow], at: tuple[int, Ids]) -> None:
    if not rows:
        return
    now_ms, ids = at
    await log.append([message(row, ids) for row in rows])
    async with store.transaction() as transaction:
        await transaction.mark_sent([row.id for row in rows], now_ms)


def message(row: OutboxRow, ids: Ids) -> Message:
    """The order on the wire, on the topic of its cluster."""
    envelope = Envelope(id=ids.new(), type=row.type, source="/hub", subject=f"placements/{row.placement}")
    body = {**row.doc, "order": row.number, "generation": row.generation}
    topic = f"federation.actions.{row.cluster}"
    return Message(topic=topic, key=row.cluster, envelope=envelope, value=msgspec.json.encode(body))


async def ask_for_resyncs(store: Store, clock: Clock) -> int:
    """Ask stale clusters to tell everything again, with back-off from 1 s to 60 s (1.3); how many were asked."""
    now_ms, asked = clock.now_ms(), 0
    async with store.reader() as reader:
        names = [cluster.name for cluster in await reader.clusters() if _is_due(cluster, now_ms)]
    for name in names:
        async with store.transaction() as transaction:
            asked += await _ask(transaction, name, now_ms)
    return asked


def _is_due(cluster: Cluster, now_ms: int) -> bool:
    if not (cluster.stale or cluster.awaits) or cluster.phase is ClusterPhase.LEFT:
        return False
    reception = cluster.reception
    wait_ms = min(1_000 * 2 ** max(0, _tries(cluster, now_ms) - 1), LONGEST_BACK_OFF_MS)
    if reception.resync and reception.mending and now_ms - cluster.observed_ms < RESYNC_RUNS_MS:
        wait_ms = LONGEST_BACK_OFF_MS
    # A clock may have jumped back since: what was asked for in a far future counts for nothing.
    return bool(abs(now_ms - reception.resync_asked_ms) >= wait_ms)


def _tries(cluster: Cluster, now_ms: int) -> int:
    """How often it was asked of late: where the trouble comes back with every resync, they must not follow at once."""
    reception = cluster.reception
    return 0 if now_ms - reception.resync_asked_ms > SOUND_FOR_MS else min(reception.resync_tries, 10)


async def _ask(transaction: Transaction, name: str, now_ms: int) -> int:
    cluster = (await transaction.lock_clusters([name])).get(name)
    if cluster is None or not _is_due(cluster, now_ms):
        return 0
    done = cluster.done if cluster.generation == await transaction.generation() else 0
    pending = [row for row in await transaction.rows_after(name, done, REPEAT_LIMIT) if row.type == RESYNC_TYPE]
    if len(pending) >= PENDING_RESYNCS:
        return 0
    reception = replace(cluster.reception, resync_asked_ms=now_ms, resync_tries=_tries(cluster, now_ms) + 1)
    await transaction.save_clusters([replace(cluster, reception=reception, revision=cluster.revision + 1)])
    doc = {"reason": cluster.unadopted or cluster.stale}
    await transaction.enqueue([OutboxRow(cluster=name, type=RESYNC_TYPE, doc=doc, created_ms=now_ms)])
    return 1
