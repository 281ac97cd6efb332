"""`federation migrate --restored` and `federation check` as processes, and what they do on both databases."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from adapters.memory.log import MemoryLog
from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from federation.bootstrap import agent_loop
from federation.config import Settings
from federation.domain.errors import Invalid
from federation.services.check import check
from federation.services.rebuild import rebuild
from federation.services.restore import mark_restored
from federation.services.upkeep import prune
from tests.cli.test_process import ROOT, environment
from tests.services.hub import Clock, Hub, hub
from tests.testbed.postgres import Postgres


def federation(data: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = environment(FEDERATION_DATABASE_URL=f"sqlite+aiosqlite:///{data}/federation.db")
    command = [sys.executable, "-m", "federation", *words]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


async def a_cluster_that_runs(tmp_path: Path) -> None:
    async with hub(tmp_path) as site:
        east = site.agent()
        east.join(east.node(cores=8))
        await site.fold()
        await site.create(replicas=3)
        await site.decide()


async def test_a_check_tells_a_line_each_and_fails_where_anything_is_wrong(tmp_path: Path):
    await a_cluster_that_runs(tmp_path)

    sound = federation(tmp_path, "check")
    with sqlite3.connect(tmp_path / "federation.db") as database:
        database.execute("UPDATE clusters SET doc = json_set(doc, '$.held.cpu', 9000)")
    damaged = federation(tmp_path, "check")
    rebuilt = federation(tmp_path, "check", "--rebuild", "all")

    assert (sound.returncode, {line.split()[0] for line in sound.stdout.splitlines()}) == (0, {"ok"})
    assert damaged.returncode == 1
    assert "wrong sums of east: held cpu is 9, its rows say 3" in damaged.stdout
    assert (rebuilt.returncode, rebuilt.stdout.splitlines()[0].split(":")[0]) == (0, "rebuilt east")


async def test_a_database_is_said_to_be_restored_once_its_schema_is_current(tmp_path: Path):
    await a_cluster_that_runs(tmp_path)

    said = federation(tmp_path, "migrate", "--restored")

    assert said.returncode == 0
    assert "awaiting the inventory of: east" in said.stdout
    assert "1 orders of older ones are dropped" in said.stdout


def test_what_cannot_be_checked_is_one_line_and_status_1(tmp_path: Path):
    said = federation(tmp_path, "check")

    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "run `federation migrate`" in said.stderr


def test_no_agent_serves_a_cluster_whose_topic_would_be_that_of_parked_events():
    with pytest.raises(Invalid, match="parked"):
        agent_loop(Settings(), "parked", gateway=None, log=MemoryLog(Clock()))  # type: ignore[arg-type]


async def test_checks_restores_and_rebuilds_work_on_postgresql(postgres: Postgres):
    name = f"check_{uuid4().hex[:8]}"
    url = postgres.create_database(name)
    await migrate(url)
    store = await open_store(url)
    try:
        clock = Clock()
        site = Hub(store=store, clock=clock, log=MemoryLog(clock, partitions=1))
        east = site.agent()
        east.join(east.node(cores=8))
        await site.fold()
        await site.create(replicas=3)
        await site.decide()
        sound = {line.verdict for line in await check(store, clock)}
        async with store.transaction() as tx:
            cluster = (await tx.lock_clusters(["east"]))["east"]
            await tx.save_clusters([replace(cluster, held={"cpu": 1})])
        damaged = {line.verdict for line in await check(store, clock)}
        await rebuild(store, ["east"])
        restored = await mark_restored(store, clock)
        mended = {line.verdict for line in await check(store, clock)}
        await prune(store, clock)
        await site.twin("other").cycle()

        assert (sound, damaged, mended) == ({"ok"}, {"ok", "wrong"}, {"ok"})
        assert (restored.clusters, restored.dropped) == (("east",), 1)
    finally:
        await store.close()
        postgres.drop_database(name)
