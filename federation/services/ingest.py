"""Fold a batch of records into the view: the rows, the parked records and the position in one transaction.

Two consumers of one partition cannot both commit: the position moves by compare-and-set (protocol section 2, and
design rule 2). Nothing decides or acts here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from federation.domain.adoption import awaiting
from federation.domain.cloudevents import (
    MAX_SERIAL,
    cluster_of,
    decode_event,
    decode_record,
    is_label,
    readable_stamp,
    topic_allows,
)
from federation.domain.cluster import Cluster, ClusterPhase
from federation.domain.errors import Invalid
from federation.domain.events import (
    ActionFinished,
    Envelope,
    Event,
    NodeGone,
    NodeObserved,
    PlacementObserved,
    ResyncFinished,
    Stamp,
)
from federation.domain.folding import ClusterFold, Told, moved_between
from federation.domain.placement import Ask, AskKind
from federation.domain.projection import fold, lose_history, needs_everything, note_parked, read_event
from federation.domain.records import OutboxRow, Parked
from federation.ports import Record, Store, Transaction

MAX_PARKED_VALUE = 1_048_576
FIRST_GENERATION = 1


@dataclass(slots=True)
class Incoming:
    """One record, read as far as it could be: what it tells, or the reason why it is parked."""

    record: Record
    stamp: Stamp | None = None
    told: Told | None = None
    reason: str = ""

    @property
    def cluster(self) -> str:
        return self.record.key


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a batch, for counters."""

    folded: int = 0
    ignored: int = 0
    parked: tuple[str, ...] = ()
    clusters: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Tally:
    folded: int = 0
    ignored: int = 0
    parked: list[Parked] = field(default_factory=list)


def read(record: Record, now_ms: int) -> Incoming:
    """Decode *record*; what is wrong with it becomes a reason, never an exception."""
    try:
        envelope = decode_record(record.key, record.headers)
        event, stamp = _event(record, envelope), _stamp(envelope)
        return Incoming(record, stamp, read_event(event, stamp, min(record.appended_ms, now_ms)))
    except Invalid as error:
        return Incoming(record, _own_stamp(record), reason=_reason(error))


def _own_stamp(record: Record) -> Stamp | None:
    """The stamp of a record that is parked, if it may speak for its cluster: another's sequence is none of its own."""
    source = dict(record.headers).get("ce_source", b"").decode(errors="replace")
    speaks = is_label(record.key) and topic_allows(record.source, record.key)
    return readable_stamp(record.headers) if speaks and cluster_of(source) in ("", record.key) else None


def _reason(error: Invalid) -> str:
    return printable(str(error), 500)


def _stamp(envelope: Envelope) -> Stamp:
    if envelope.stamp is None:
        raise Invalid("the event has no epoch and sequence")
    return envelope.stamp


def _event(record: Record, envelope: Envelope) -> Event:
    if not topic_allows(record.source, record.key):
        raise Invalid(f"the topic of {record.source} is not for cluster {record.key!r}")
    return decode_event(envelope, record.value)


async def ingest(store: Store, source: str, expected: int, records: Sequence[Record], now_ms: int) -> Report:
    """Fold *records* of one *source* and move its position from *expected* to behind the last of them.

    Raises StaleOffset, changing nothing, when another consumer has moved the position.
    """
    incoming = [read(record, now_ms) for record in records]
    async with store.transaction() as transaction:
        await transaction.move_position(source, expected, records[-1].offset + 1)
        folds = await load(transaction, incoming)
        tally = apply(folds, incoming, now_ms)
        await transaction.park(tally.parked)
        await save(transaction, source, folds, (records[-1].offset, now_ms))
    reasons = tuple(parked.reason for parked in tally.parked)
    return Report(tally.folded, tally.ignored, reasons, frozenset(folds))


async def forget_history(store: Store, source: str, position: int, expected: int) -> None:
    """The log no longer holds what was not read: go on at *position*, and ask every cluster of the source to tell all."""
    async with store.transaction() as transaction:
        await transaction.move_position(source, expected, position)
        locked = await transaction.lock_clusters(await transaction.clusters_of(source))
        lost = [lose_history(cluster, f"the log lost events of {source}") for cluster in locked.values()]
        await transaction.save_clusters([replace(cluster, revision=cluster.revision + 1) for cluster in lost])


async def load(transaction: Transaction, incoming: Sequence[Incoming]) -> dict[str, ClusterFold]:
    """Lock the clusters that *incoming* names and load the rows that folding it looks at."""
    names = sorted({item.cluster for item in incoming if item.stamp is not None and item.cluster})
    await transaction.add_clusters([item.cluster for item in incoming if item.told is not None])
    clusters = await transaction.lock_clusters(names)
    generation = await transaction.generation()
    folds = {name: ClusterFold(_met(cluster, generation), generation=generation) for name, cluster in clusters.items()}
    told = [(item.cluster, item.told) for item in incoming if item.told is not None and item.cluster in folds]
    whole = {cluster for cluster, each in told if needs_everything(each.event)}
    for name in sorted(whole):
        folds[name].nodes = await transaction.node_places(name)
        living = await transaction.placements_in(name)
        folds[name].placements = {placement.id: placement for placement in living}
    keys = {(cluster, each.event.node) for cluster, each in told if isinstance(each.event, NodeObserved | NodeGone)}
    nodes = await transaction.nodes(sorted(key for key in keys if key[0] not in whole))
    for (cluster, name), node in nodes.items():
        folds[cluster].nodes[name] = node
    await _load_placements(transaction, folds, told)
    return folds


def _met(cluster: Cluster, generation: int) -> Cluster:
    """A cluster of which a restored database hears for the first time may run what was decided since the backup."""
    is_new = not cluster.revision and not cluster.awaits
    return awaiting(cluster, generation) if is_new and generation > FIRST_GENERATION else cluster


async def _load_placements(
    transaction: Transaction, folds: Mapping[str, ClusterFold], told: Iterable[tuple[str, Told]]
) -> None:
    wanted = {placement for cluster, each in told for placement in _looked_at(folds[cluster], each)}
    known = {placement for view in folds.values() for placement in view.placements}
    for placement in (await transaction.placements(sorted(wanted - known))).values():
        if placement.cluster in folds:
            folds[placement.cluster].placements[placement.id] = placement


def _looked_at(view: ClusterFold, told: Told) -> Iterable[str]:
    """Placements that folding looks at. Of a node's those that it bears otherwise than its row says: others stay."""
    event = told.event
    if isinstance(event, PlacementObserved | ActionFinished):
        return (event.placement,)
    if isinstance(event, NodeObserved | NodeGone):
        before = view.nodes[event.node].bound if event.node in view.nodes else {}
        after = told.content.bound if isinstance(event, NodeObserved) else {}
        return moved_between(before, after)
    named = event.placements if isinstance(event, ResyncFinished) and view.cluster.awaits else ()
    borne = (placement for node in view.nodes.values() for placement in node.bound) if needs_everything(event) else ()
    return (*named, *borne)


def apply(folds: Mapping[str, ClusterFold], incoming: Sequence[Incoming], now_ms: int) -> _Tally:
    """Fold what could be read, in the order of the log; a record that cannot be folded is parked beside it."""
    tally = _Tally()
    for item in incoming:
        view = folds.get(item.cluster)
        if item.told is not None and view is not None:
            counted = fold(view, item.told, now_ms)
            tally.folded += counted
            tally.ignored += not counted
            if view.cluster.source != item.record.source:
                view.cluster = replace(view.cluster, source=item.record.source)
        if item.reason:
            _park(view, item, tally, now_ms)
    return tally


def _park(view: ClusterFold | None, item: Incoming, tally: _Tally, now_ms: int) -> None:
    record = item.record
    if view is not None and item.stamp is not None:
        note_parked(view, item.stamp, min(record.appended_ms, now_ms))
    tally.parked.append(
        Parked(
            source=record.source,
            offset=record.offset,
            at_ms=now_ms,
            reason=item.reason,
            key=printable(record.key),
            headers=record.headers,
            value=record.value[:MAX_PARKED_VALUE],
        )
    )


def printable(text: str, most: int = 253) -> str:
    """*text* without what a database or a log line would choke on."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:most])


async def save(transaction: Transaction, source: str, folds: Mapping[str, ClusterFold], at: tuple[int, int]) -> None:
    """Write what folding changed; every cluster touched moves its revision (2.4)."""
    position, now_ms = at
    views = list(folds.values())
    for view in views:
        view.cluster = replace(view.cluster, revision=view.cluster.revision + 1)
    answers = [row for view in views for row in _unwanted(view, now_ms)]
    await transaction.save_clusters([view.cluster for view in views])
    nodes = [(view.cluster.name, view.nodes[name]) for view in views for name in sorted(view.changed_nodes)]
    await transaction.save_nodes(source, position, nodes)
    placements = [
        (view.placements[placement], view.cluster.revision)
        for view in views
        for placement in sorted(view.changed_placements)
    ]
    await transaction.save_placements(placements)
    for view in views:
        if view.cluster.phase is ClusterPhase.LEFT:
            await _forget_orders(transaction, view)
    await transaction.enqueue(answers)


async def _forget_orders(transaction: Transaction, view: ClusterFold) -> None:
    """Nobody carries out the orders of a cluster that has left; were it to come back, they would raise the dead."""
    await transaction.forget_rows(view.cluster.name, MAX_SERIAL)
    for placement in sorted(view.changed_placements):
        await transaction.cancel_waiting(placement)


def _unwanted(view: ClusterFold, now_ms: int) -> Iterable[OutboxRow]:
    """What is seen of an ended placement is answered by `unwanted` at a higher version (4.3)."""
    for stray in sorted(view.strays):
        placement = view.placements[stray]
        version = max(placement.version, placement.seen.version) + 1
        view.placements[stray] = replace(placement, version=version, asks=(Ask(version, 0, AskKind.GONE),))
        view.changed_placements.add(stray)
        yield OutboxRow(
            cluster=placement.cluster,
            placement=stray,
            version=version,
            type="federation.placement.unwanted.v1",
            doc={"placement": stray, "version": version},
            created_ms=now_ms,
        )
