"""A served API over a real database on a loopback socket, and the shortest ways to make the world say something."""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from adapters.memory.log import MemoryLog
from adapters.sql.schema import migrate
from adapters.sql.store import SqlStore, open_store
from adapters.system import SystemClock, Ulids
from federation.api.app import make_app
from federation.api.parts import ApiParts, ApiSettings, Foreseen, Probe
from federation.api.server import Runner
from federation.domain.cluster import Cluster, ClusterPhase, Reception
from federation.domain.placement import Ask, AskKind, Placement, Seen
from federation.domain.records import Cycle, Decision, Explanation, Verdict
from federation.domain.workload import WorkloadSpec, WorkloadStep
from federation.ports import EventLog, Store

WEB = {"name": "web", "replicas": 2, "requests": {"cpu": "500m", "memory": "1Gi"}}


@dataclass(slots=True)
class ShiftedClock:
    """The machine's clock, moved by hand."""

    by_ms: int = 0

    def now_ms(self) -> int:
        return SystemClock().now_ms() + self.by_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.raw)

    @property
    def slug(self) -> str:
        """The problem's slug; fails where the answer is no problem of its own status."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.raw
        assert self.json["status"] == self.status
        return str(self.json["type"]).removeprefix("urn:federation:problem:")


@dataclass(slots=True, kw_only=True)
class Planner:
    """Foresees that everything goes to one cluster, and replays what it is told to."""

    replayed: Mapping[str, int] = field(default_factory=dict)

    async def __call__(self, spec: WorkloadSpec, team: str) -> Foreseen:
        verdict = Verdict(cluster="east", verdict="chosen", wanted=spec.replicas, fits=spec.replicas)
        return Foreseen(outcome="placed", placed={"east": spec.replicas}, summary=team, verdicts=(verdict,))

    async def replay(self, decision: Decision, explanation: Explanation) -> Mapping[str, int]:
        return self.replayed


@dataclass(slots=True, kw_only=True)
class Served:
    """The server, seen from outside by `call`, and from inside by its parts."""

    http: aiohttp.ClientSession
    url: str
    store: SqlStore
    log: MemoryLog
    clock: ShiftedClock
    planner: Planner
    ids: Ulids
    runner: web.AppRunner

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """*body* as JSON, or as it is when it is bytes; *headers* win over what follows from it."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers.update(more.pop("headers", {}))
        data = body if body is None or isinstance(body, bytes | AsyncIterator) else msgspec.json.encode(body)
        async with self.http.request(method, self.url + path, data=data, headers=headers, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def create(self, **changes: Any) -> Any:
        reply = await self.call("POST", "/v1/workloads", {**WEB, **changes})
        assert reply.status == 202, reply.raw
        return reply.json


@asynccontextmanager
async def serving(
    settings: ApiSettings | None = None,
    *,
    health: Mapping[str, Probe] | None = None,
    log: EventLog | None = None,
    store: Store | None = None,
) -> AsyncIterator[Served]:
    """An API on a free port, with a database of its own."""
    clock, ids, planner = ShiftedClock(), Ulids(), Planner()
    memory_log = MemoryLog(clock)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hub.db"
        shutil.copy(await asyncio.to_thread(_template), path)
        opened = await open_store(f"sqlite+aiosqlite:///{path}")
        parts = ApiParts(
            store=store or opened,
            log=log or memory_log,
            clock=clock,
            ids=ids,
            planner=planner,
            replayer=planner.replay,
            settings=settings or ApiSettings(),
            health=health or {},
        )
        runner = Runner(make_app(parts), shutdown_seconds=2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False) as http:
            yield Served(
                http=http,
                url=f"http://127.0.0.1:{port}",
                store=opened,
                log=memory_log,
                clock=clock,
                planner=planner,
                ids=ids,
                runner=runner,
            )
        await runner.cleanup()
        await opened.close()


@cache
def _template() -> Path:
    """A database with the schema, made once for all tests."""
    folder = tempfile.mkdtemp(prefix="federation-api-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "template.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


def make_cluster(name: str = "east", **changes: Any) -> Cluster:
    """A cluster that is ready, sound and heard of a moment ago."""
    known = {"cpu": 10_000, "memory": 16 * 2**30, "pods": 110}
    base = Cluster(
        name=name,
        phase=ClusterPhase.READY,
        revision=1,
        version="v1.36.3",
        source="federation.events/0",
        observed_ms=SystemClock().now_ms(),
        reception=Reception(unsound=""),
        nodes=1,
        known=known,
        used={"cpu": 1_000, "pods": 3},
    )
    return msgspec.structs.replace(base, **changes)


async def put_clusters(store: SqlStore, *clusters: Cluster) -> None:
    async with store.transaction() as tx:
        await tx.save_clusters(clusters)


async def decide(served: Served, workload: str, placed: Mapping[str, int], seen: Seen | None = None) -> Decision:
    """What the scheduler would commit: placements, the decision with its explanation, and the workload decided."""
    ids, now_ms = served.ids, served.clock.now_ms()
    async with served.store.transaction() as tx:
        found = (await tx.lock_workloads([workload]))[workload]
        clusters = await tx.lock_clusters(list(placed))
        cycle = Cycle(id=ids.new(), at_ms=now_ms, seed=1, planner="1", offsets={}, revisions={})
        verdicts = (Verdict(cluster="north", verdict="refused", reason="insufficient cpu"),)
        explanation = Explanation(id=ids.new(), cycle=cycle.id, at_ms=now_ms, verdicts=verdicts)
        decision = Decision(
            id=ids.new(),
            workload=workload,
            cycle=cycle.id,
            explanation=explanation.id,
            at_ms=now_ms,
            version=found.version,
            total=found.spec.replicas,
            spec=msgspec.structs.replace(found.spec, manifest=None),
            outcome="placed" if placed else "waiting",
            placed=dict(placed),
            previous={},
            own=tuple(Verdict(cluster=name, verdict="chosen", wanted=count) for name, count in placed.items()),
            reasons=() if placed else ("nothing is free",),
            summary="summed up",
        )
        await tx.record_cycle(cycle, [decision], [explanation])
        moved = {name: msgspec.structs.replace(c, revision=c.revision + 1) for name, c in clusters.items()}
        await tx.save_clusters(list(moved.values()))
        rows = [
            (make_placement(ids.new(), found.spec, (workload, name, count), seen), moved[name].revision)
            for name, count in placed.items()
        ]
        await tx.save_placements(rows)
        step = WorkloadStep.PLACE if placed else WorkloadStep.FIND_NO_ROOM
        after = found.after(step)
        await tx.save_workloads(
            [
                msgspec.structs.replace(
                    after, decided=found.version, decision=decision.id, reasons=decision.reasons, wake=""
                )
            ]
        )
    return decision


def make_placement(
    placement: str, spec: WorkloadSpec, where: tuple[str, str, int], seen: Seen | None = None
) -> Placement:
    workload, cluster, replicas = where
    return Placement(
        id=placement,
        workload=workload,
        team=spec.team,
        cluster=cluster,
        version=1,
        asks=(Ask(1, replicas, AskKind.WANTED, 1),),
        bound=replicas,
        seen=seen or Seen(ready=replicas),
    )


async def audit_rows(store: SqlStore) -> list[Any]:
    """The audit as it stands, oldest first."""
    from sqlalchemy import text

    async with store.engine.connect() as connection:
        rows = await connection.execute(text("SELECT who, what, target, outcome, before, after FROM audit"))
        return list(rows)
