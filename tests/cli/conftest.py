"""One server a test: what it answers is the test's to say."""

from collections.abc import Iterator

import pytest

from tests.cli.server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
