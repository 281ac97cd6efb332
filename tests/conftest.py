"""Fixtures of the whole suite: the real parts of the test bed, started on first use and shared by all tests.

A part that this machine cannot have skips the tests that need it, and fails them where `CI=true`. Tests that use a
part are marked with its name, so that `-m "not (kafka or postgres or kubernetes)"` is the quick set.
"""

import os
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.testbed.build import Unavailable, ensure_kafka, ensure_kubernetes, ensure_postgresql
from tests.testbed.kafka import KafkaBroker, KafkaSecurity
from tests.testbed.member import MemberCluster, Members
from tests.testbed.postgres import Postgres

MEMBERS: Final = ("east", "west", "north")
USERS: Final = ("agent-east", "agent-west", "hub")
# The mark of each part, the fixtures that need it, and what makes it available.
PARTS: Final[dict[str, tuple[set[str], Callable[..., object]]]] = {
    "kafka": ({"kafka", "secure_kafka"}, ensure_kafka),
    "postgres": ({"postgres"}, ensure_postgresql),
    "kubernetes": ({"member", "members"}, ensure_kubernetes),
}
MISSING: Final = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks, so that strict markers know them."""
    config.stash[MISSING] = {}
    for part in PARTS:
        config.addinivalue_line("markers", f"{part}: needs a real {part}, started by the test bed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the parts that its fixtures need, before -m selects."""
    for item in items:
        for part in needed_parts(item):
            item.add_marker(part)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch or build what the selected tests need, where no test's time limit runs."""
    if session.config.option.collectonly:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    needed = {part for item in session.items for part in needed_parts(item)}
    for part in sorted(needed):
        try:
            PARTS[part][1](reporter.write_line)
        except Unavailable as unavailable:
            session.config.stash[MISSING][part] = unavailable.why


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which parts were missing, and why, so that a skipped test is seen."""
    missing = config.stash[MISSING]
    if missing:
        terminalreporter.section("test bed")
        for part, why in missing.items():
            terminalreporter.write_line(f"{part}: missing, its tests did not run: {why}")


def needed_parts(item: pytest.Item) -> list[str]:
    """The parts of the test bed that the test's fixtures need."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return [part for part, (names, _) in PARTS.items() if fixtures & names]


def require(config: pytest.Config, part: str) -> None:
    """Skip when the part is missing; fail in CI, where nothing may be missing."""
    why = config.stash[MISSING].get(part)
    if why is not None and os.environ.get("CI") == "true":
        pytest.fail(f"{part} is missing: {why}", pytrace=False)
    if why is not None:
        pytest.skip(f"{part} is missing: {why}")


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[KafkaBroker]:
    """A broker that all tests share: take topics and groups with names of your own."""
    require(pytestconfig, "kafka")
    broker = KafkaBroker()
    broker.start()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def secure_kafka(pytestconfig: pytest.Config) -> Iterator[KafkaBroker]:
    """A broker with TLS, passwords and ACLs, for the users admin, hub, agent-east and agent-west."""
    require(pytestconfig, "kafka")
    broker = KafkaBroker(security=KafkaSecurity(users=USERS))
    broker.start()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    """A server that all tests share: create a database of your own."""
    require(pytestconfig, "postgres")
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def members_on_demand(pytestconfig: pytest.Config) -> Iterator[Members]:
    """What `member` and `members` take their clusters from."""
    require(pytestconfig, "kubernetes")
    members = Members()
    yield members
    members.close()


@pytest.fixture(scope="session")
def member(members_on_demand: Members) -> MemberCluster:
    """One member cluster, east, that all tests share: take namespaces of your own, or `clear` it."""
    return members_on_demand["east"]


@pytest.fixture(scope="session")
def members(members_on_demand: Members) -> Members:
    """Three member clusters, east, west and north, that all tests share."""
    members_on_demand.start(*MEMBERS)
    return members_on_demand
