"""How long an order took from its decision to the wire, as it is measured."""

from pathlib import Path

from prometheus_client import REGISTRY

from adapters.memory.log import MemoryLog
from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from federation.domain.records import OutboxRow
from federation.services.dispatch import dispatch
from tests.services.hub import Clock, Ids


def measured() -> tuple[float, float]:
    """(orders, seconds together) so far in this process."""
    count, total = (REGISTRY.get_sample_value(f"federation_action_seconds_{part}") for part in ("count", "sum"))
    return count or 0.0, total or 0.0


async def test_an_order_is_measured_from_its_decision_to_the_wire(tmp_path: Path):
    url, clock = f"sqlite+aiosqlite:///{tmp_path / 'hub.db'}", Clock()
    await migrate(url)
    store, log, before = await open_store(url), MemoryLog(clock), measured()
    row = OutboxRow(cluster="east", type="federation.resync.requested.v1", doc={"reason": "x"}, created_ms=clock.ms)
    async with store.transaction() as transaction:
        await transaction.add_clusters(["east"])
        await transaction.enqueue([row])
    clock.advance(3)

    sent = await dispatch(store, log, clock, Ids())

    after = measured()
    await store.close()
    assert sent == 1
    assert (after[0] - before[0], after[1] - before[1]) == (1.0, 3.0)
