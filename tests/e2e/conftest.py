"""The system that all tests from end to end share, and what each must leave behind: nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.system import CLUSTERS, Parts, System
from tests.testbed.kafka import KafkaBroker
from tests.testbed.member import Members
from tests.testbed.postgres import Postgres


@pytest.fixture(scope="package")
def whole_system(kafka: KafkaBroker, postgres: Postgres, members: Members) -> Iterator[System]:
    """Everything started, every cluster ready in the pool."""
    system = System(Parts(kafka=kafka, postgres=postgres, members=members))
    try:
        asyncio.run(system.start())
        yield system
    finally:
        asyncio.run(system.close())


@pytest.fixture
async def system(whole_system: System) -> AsyncIterator[System]:
    """The system without workloads; whatever a test placed is gone after it, with all that it held."""
    yield whole_system
    hub = whole_system.hub
    left = [item["id"] for item in (await hub.get("/v1/workloads?limit=500"))["items"]]
    for workload in left:
        await hub.delete(workload)
    for workload in left:
        await hub.gone(workload, 60)
    await hub.until("/v1/pool", lambda pool: pool["usable"] == len(CLUSTERS))
    pool = await hub.get("/v1/pool")
    assert {name: amounts["held"] for name, amounts in pool["resources"].items() if amounts["held"] != "0"} == {}
