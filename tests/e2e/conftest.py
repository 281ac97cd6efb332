"""The system that all tests from end to end share, and what each must leave behind: nothing."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.system import Parts, System
from tests.testbed.kafka import KafkaBroker
from tests.testbed.member import Members
from tests.testbed.postgres import Postgres


@pytest.fixture(scope="package")
def system(kafka: KafkaBroker, postgres: Postgres, members: Members) -> Iterator[System]:
    """Everything started, every cluster ready in the pool."""
    system = System(Parts(kafka=kafka, postgres=postgres, members=members))
    try:
        asyncio.run(system.start())
        yield system
    finally:
        asyncio.run(system.close())
