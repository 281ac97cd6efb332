"""The probes of the roles that serve no API, asked of the real role."""

import asyncio
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from adapters.sql.schema import migrate
from federation.bootstrap import work
from federation.config import Settings
from federation.domain.errors import Invalid, Unavailable

WAIT_SECONDS = 10


@asynccontextmanager
async def working(folder: Path):
    """The loops of the hub with probes; yields their address."""
    settings = Settings(data_dir=folder, probes_listen=f"127.0.0.1:{free_port()}")
    await migrate(settings.database)
    stop = asyncio.Event()
    role = asyncio.create_task(work(settings, stop))
    try:
        yield f"http://{settings.probes_listen}"
    finally:
        stop.set()
        await asyncio.wait_for(role, WAIT_SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def answer(url: str) -> tuple[int, str]:
    """Status and text, once somebody listens."""
    async with asyncio.timeout(WAIT_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    return response.status, await response.text()
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def test_the_loops_tell_that_they_live_and_can_work(tmp_path: Path):
    async with working(tmp_path) as address:
        live, ready = await answer(f"{address}/livez"), await answer(f"{address}/readyz")

    assert live == (200, '{"status":"ok","checks":{}}')
    assert ready == (200, '{"status":"ok","checks":{"database":"ok","loops":"ok"}}')


async def test_the_loops_tell_what_they_measure_and_nothing_else(tmp_path: Path):
    async with working(tmp_path) as address:
        status, text = await answer(f"{address}/metrics")
        workloads = await answer(f"{address}/v1/workloads")

    assert status == 200
    assert "federation_loop_lag_seconds" in text
    assert workloads[0] == 404


async def test_an_address_for_probes_that_is_taken_ends_the_role(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(data_dir=tmp_path, probes_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        await migrate(settings.database)

        with pytest.raises(Unavailable, match="cannot listen"):
            await asyncio.wait_for(work(settings, asyncio.Event()), WAIT_SECONDS)


def test_an_address_for_probes_that_is_none_is_refused():
    with pytest.raises(Invalid, match="PROBES_LISTEN"):
        _ = Settings(probes_listen="8081").probes_address
