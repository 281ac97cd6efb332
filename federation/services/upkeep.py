"""What time alone brings about: leases of callers run out, parked events are told, old rows go."""

from typing import Final

from federation.domain.cloudevents import PARKED_TOPIC
from federation.domain.records import Parked
from federation.domain.workload import WorkloadStep
from federation.ports import Clock, EventLog, RawMessage, Store

RETENTION_MS: Final = 7 * 24 * 60 * 60 * 1000
BATCH: Final = 500


async def expire_leases(store: Store, clock: Clock) -> list[str]:
    """Delete workloads without a manifest whose callers no longer renew them (3.8); their names."""
    now_ms = clock.now_ms()
    async with store.transaction() as transaction:
        due = await transaction.expired(now_ms, BATCH)
        workloads = await transaction.lock_workloads(due)
        expired = [each for each in workloads.values() if each.lease_until_ms and each.lease_until_ms <= now_ms]
        ended = []
        for workload in expired:
            after = workload.after(WorkloadStep.DELETE)
            ended.append(after.with_version(workload.version + 1, now_ms, "its lease was not renewed"))
        await transaction.save_workloads(ended)
    return [workload.spec.name for workload in ended]


async def tell_parked(store: Store, log: EventLog, clock: Clock) -> int:
    """Publish parked records as they came, with where they stood and why they were parked; how many."""
    async with store.transaction() as transaction:
        parked = await transaction.parked_untold(BATCH)
    if not parked:
        return 0
    await log.append([_message(event) for event in parked])
    async with store.transaction() as transaction:
        await transaction.mark_told(parked, clock.now_ms())
    return len(parked)


def _message(event: Parked) -> RawMessage:
    partition = event.source.rpartition("/")[2]
    added = (
        ("reason", event.reason.encode()),
        ("partition", partition.encode()),
        ("offset", str(event.offset).encode()),
    )
    return RawMessage(topic=PARKED_TOPIC, key=event.key, value=event.value, headers=(*event.headers, *added))


async def prune(store: Store, clock: Clock) -> int:
    """Delete what is older than the retention, a batch at a time; how many rows went."""
    async with store.transaction() as transaction:
        return await transaction.prune(clock.now_ms() - RETENTION_MS, BATCH)
