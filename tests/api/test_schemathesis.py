"""The published document against the server: whatever it allows and whatever it does not, never a failure inside."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core import NotSet
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from federation.api import openapi
from federation.api.routes import ROUTES
from tests.api.serving import WEB, decide, make_cluster, put_clusters, serving

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served_url() -> Iterator[str]:
    """A server in a thread of its own, with a cluster and a decided workload."""
    started: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving() as served:
            await put_clusters(served.store, make_cluster("east"))
            made = await served.create(**WEB)
            await decide(served, made["id"], {"east": 2})
            started.extend([served.url, asyncio.get_running_loop(), stop])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield started[0]
    started[1].call_soon_threadsafe(started[2].set)
    thread.join(timeout=30)
    assert not thread.is_alive()


SCHEMA = schemathesis.openapi.from_dict(msgspec.json.decode(openapi.encoded()))
# The stream never ends, and metrics are as they are. What takes nothing has nothing that is not allowed.
ROUTES_TRIED = [route for route in ROUTES if route.path not in ("/v1/stream", "/metrics")]
TRIALS = [
    pytest.param(route.method, route.path, mode, id=f"{route.name} {mode.value}")
    for route in ROUTES_TRIED
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or (route.roles and (route.query or route.body or "{" in route.path))
]


@pytest.mark.parametrize(("method", "path", "mode"), TRIALS)
def test_whatever_is_sent_is_answered_as_the_document_says(
    served_url: str, method: str, path: str, mode: GenerationMode
):
    operation = SCHEMA[path][method]

    @QUICK
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if not isinstance(case.body, NotSet):
            case.body = whole(case.body)
        response = case.call(base_url=served_url, timeout=20)
        case.validate_response(response, checks=CHECKS)

    check()


def whole(value: Any) -> Any:
    """JSON knows one kind of number, and 784.0 is an integer there; our server wants it written as one."""
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
