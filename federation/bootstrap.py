"""The one composition root: settings to adapters, services and the loops of a role. Tests compose with it too."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from adapters.embedded.log import EmbeddedLog
from adapters.embedded.members import open_members
from adapters.kafka.log import KafkaLog
from adapters.kafka.settings import KafkaSettings
from adapters.kubernetes.access import InCluster, Kubeconfig
from adapters.kubernetes.gateway import KubernetesGateway
from adapters.sql.schema import migrate, require_current
from adapters.sql.store import SqlStore, open_store
from adapters.system import SystemClock, Threads, Ulids
from federation.api.app import make_app
from federation.api.parts import ApiParts, ApiSettings, AuthSettings, Foreseen, Probe
from federation.api.probes import make_probes_app
from federation.api.server import Runner
from federation.config import Settings
from federation.domain.cloudevents import EVENTS_TOPIC, PARKED_NAME
from federation.domain.errors import Invalid, Unavailable
from federation.domain.records import Decision, Explanation
from federation.domain.workload import WorkloadSpec
from federation.planner.explain import merge, recompute
from federation.ports import ClusterGateway, EventLog
from federation.services.agent import AgentParts, AgentSettings
from federation.services.check import Line, check
from federation.services.foresight import Foreseer
from federation.services.image import Image
from federation.services.rebuild import rebuild
from federation.services.restore import Restored, mark_restored
from federation.services.scheduling import Scheduler, Tools
from federation.workers.agent import run_agent
from federation.workers.clock import ClockLoop
from federation.workers.dispatcher import DispatcherLoop
from federation.workers.ingester import Ingester
from federation.workers.scheduler import SchedulerLoop
from federation.workers.supervisor import Health, Loop, supervise

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Hub:
    """What the hub's roles share in one process."""

    settings: Settings
    store: SqlStore
    log: EventLog
    compute: Threads
    clock: SystemClock = field(default_factory=SystemClock)
    ids: Ulids = field(default_factory=Ulids)
    health: Health = field(default_factory=Health)
    holder: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{Ulids().new()[-6:]}")

    def image(self) -> Image:
        return Image(self.settings.silent_after_seconds)


@asynccontextmanager
async def open_hub(settings: Settings, log: EventLog | None = None) -> AsyncIterator[Hub]:
    """The hub's parts, closed again in reverse; the schema must be there."""
    async with AsyncExitStack() as stack:
        store = await open_store(settings.database)
        stack.push_async_callback(store.close)
        await require_current(store.engine)
        compute = Threads()
        stack.callback(compute.close)
        opened = log or open_log(settings)
        stack.push_async_callback(opened.close)
        yield Hub(settings, store, opened, compute)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[SqlStore]:
    """The store alone, closed again; the schema must be there."""
    store = await open_store(settings.database)
    try:
        await require_current(store.engine)
        yield store
    finally:
        await store.close()


async def restored(settings: Settings) -> Restored:
    """Say that the database was restored from a backup: a new generation begins."""
    async with open_database(settings) as store:
        return await mark_restored(store, SystemClock())


async def checked(settings: Settings, rebuilt: str = "") -> list[Line]:
    """The invariants, line by line; the view of the cluster *rebuilt* (or of `all`) is counted again first."""
    async with open_database(settings) as store:
        async with store.reader() as reader:
            names = [cluster.name for cluster in await reader.clusters()] if rebuilt == "all" else [rebuilt]
        lines = await rebuild(store, names) if rebuilt else []
        return lines + await check(store, SystemClock())


def open_log(settings: Settings) -> EventLog:
    """Kafka where a bootstrap address is set, else the log of this process in the data directory."""
    if not settings.kafka_bootstrap:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return EmbeddedLog(settings.data_dir / "log.db", SystemClock())
    return KafkaLog(
        KafkaSettings(
            bootstrap=settings.kafka_bootstrap,
            security_protocol=settings.kafka_security_protocol,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username or None,
            sasl_password=settings.kafka_sasl_password or None,
            ca_file=_path(settings.kafka_ssl_cafile),
            cert_file=_path(settings.kafka_ssl_certfile),
            key_file=_path(settings.kafka_ssl_keyfile),
            partitions=settings.kafka_partitions,
            replication_factor=settings.kafka_replication,
        )
    )


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def work_loops(hub: Hub) -> dict[str, Loop]:
    """The loops of `federation work`."""
    tools = Tools(hub.store, hub.clock, hub.ids, hub.compute, hub.settings.hold_deadline_seconds)
    scheduler = SchedulerLoop(Scheduler(hub.image()), tools, hub.health, hub.holder)
    return {
        "ingester": Ingester(hub.store, hub.log, hub.clock, hub.health).run,
        "scheduler": scheduler.run,
        "clock": ClockLoop(hub.store, hub.log, hub.clock, hub.health, hub.holder).run,
        "dispatcher": DispatcherLoop(hub.store, hub.log, hub.clock, hub.ids, hub.health, hub.holder).run,
    }


def listen(settings: Settings) -> socket.socket:
    """The socket to serve on; taken before anything else, so that a port in use ends the program at once."""
    host, port = settings.address
    if not settings.auth_issuer and host not in ("127.0.0.1", "localhost", "::1"):
        raise Invalid(f"LISTEN: without FEDERATION_AUTH_... only loopback is served, not {host}", "LISTEN")
    return _bound(host, port)


def _bound(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise Unavailable(f"cannot listen on {host}:{port}: {why}") from error


async def serve_api(hub: Hub, server: socket.socket, stop: asyncio.Event) -> None:
    """Serve the REST API until *stop*; what is being answered is finished."""
    _log.info("serving", address=f"http://{hub.settings.listen}")
    await _served(make_app(api_parts(hub)), server, stop)


async def _served(app: web.Application, server: socket.socket, stop: asyncio.Event) -> None:
    runner = Runner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, server).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def probe_loops(settings: Settings, checks: Mapping[str, Probe]) -> dict[str, Loop]:
    """The loop that answers the probes of a role without an API; none where no address is set."""
    if settings.probes_address is None:
        return {}
    return {"probes": partial(_served, make_probes_app(checks), _bound(*settings.probes_address))}


def api_parts(hub: Hub) -> ApiParts:
    """What the API is made of."""
    settings = hub.settings
    auth = None
    if settings.auth_issuer:
        auth = AuthSettings(issuer=settings.auth_issuer, audience=settings.auth_audience, jwks=settings.auth_jwks)
    foreseer = Foreseer(hub.store, hub.clock, hub.ids, hub.compute, hub.image())
    return ApiParts(
        store=hub.store,
        log=hub.log,
        clock=hub.clock,
        ids=hub.ids,
        planner=_DryRun(foreseer),
        replayer=replay,
        settings=ApiSettings(auth=auth, silent_after_seconds=settings.silent_after_seconds),
        health=hub_checks(hub),
    )


def hub_checks(hub: Hub) -> dict[str, Probe]:
    """What a hub's process is asked for readiness."""
    return {"database": partial(_database_health, hub), "loops": partial(_loops_health, hub.health)}


@dataclass(frozen=True, slots=True)
class _DryRun:
    """`api.parts.DryRun` by a foreseer."""

    foreseer: Foreseer

    async def __call__(self, spec: WorkloadSpec, team: str) -> Foreseen:
        seen = await self.foreseer.foresee(spec)
        decision = seen.decision
        return Foreseen(
            outcome=decision.outcome,
            placed=decision.placed,
            reasons=decision.reasons,
            summary=decision.summary,
            verdicts=seen.verdicts,
        )


async def replay(decision: Decision, explanation: Explanation) -> Mapping[str, int]:
    """A decision computed again from what was stored of it."""
    return recompute(decision.spec, merge(decision, explanation))


async def _database_health(hub: Hub) -> str:
    try:
        async with asyncio.timeout(3):
            await hub.store.ping()
    except (Unavailable, TimeoutError) as error:
        return str(error) or "no answer within 3 s"
    return ""


async def _loops_health(health: Health) -> str:
    return "; ".join(f"{worker}: {why}" for worker, why in sorted(health.troubles.items()))


# Simulated members die with the process, so that nobody else can still be writing: their Lease need not be long.
SIMULATED_LEASE = {"lease_seconds": 3.0, "renew_seconds": 1.0, "call_seconds": 1.5}


def agent_loop(settings: Settings, cluster: str, gateway: ClusterGateway, log: EventLog, **lease: float) -> Loop:
    """The loop of one member's agent; *lease* replaces the times of its Lease."""
    if cluster == PARKED_NAME:
        raise Invalid(f"a cluster cannot be named {cluster!r}: its topic is that of parked events", "CLUSTER")
    labels = dict(pair.partition("=")[::2] for pair in settings.cluster_labels.split(",") if pair)
    parts = AgentParts(
        cluster=cluster,
        gateway=gateway,
        log=log,
        clock=SystemClock(),
        ids=Ulids(),
        settings=AgentSettings(
            heartbeat_seconds=settings.heartbeat_seconds,
            labels=labels,
            events_topic=settings.events_topic or EVENTS_TOPIC,
            kinds=frozenset(settings.allowed_kinds.split(",")),
            **lease,  # type: ignore[arg-type]
        ),
    )
    return partial(run_agent, parts)


async def up(settings: Settings, stop: asyncio.Event) -> None:
    """Everything in one process: SQLite, the embedded log and simulated members."""
    server = listen(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    await migrate(settings.database)
    async with open_hub(settings) as hub:
        loops: dict[str, Loop] = {**work_loops(hub), "api": partial(serve_api, hub, server)}
        async with AsyncExitStack() as stack:
            joined = _real_members if settings.context else _simulated_members
            await joined(hub, loops, stack)
            await supervise(loops, stop, hub.health)


async def _simulated_members(hub: Hub, loops: dict[str, Loop], stack: AsyncExitStack) -> None:
    settings = hub.settings
    path = settings.data_dir / "members.db"
    for member in await open_members(path, hub.clock, count=settings.members, seed=settings.seed):
        stack.push_async_callback(member.close)
        loops[f"member {member.name}"] = member.run
        loops[f"agent {member.name}"] = agent_loop(settings, member.name, member.gateway, hub.log, **SIMULATED_LEASE)


async def _real_members(hub: Hub, loops: dict[str, Loop], stack: AsyncExitStack) -> None:
    """Real clusters by the contexts of a kubeconfig, `name=context` or a context that is a cluster's name too."""
    for entry in hub.settings.context.split(","):
        name, _, context = entry.rpartition("=")
        gateway = kubernetes_gateway(hub.settings, context)
        stack.push_async_callback(gateway.close)
        loops[f"agent {name or context}"] = agent_loop(hub.settings, name or context, gateway, hub.log)


async def agent(settings: Settings, stop: asyncio.Event) -> None:
    """The agent of one member cluster: in it, or beside it by a kubeconfig."""
    if not settings.cluster:
        raise Invalid("say which cluster this agent is for: --cluster, or FEDERATION_CLUSTER", "CLUSTER")
    if not settings.kafka_bootstrap:
        raise Invalid("an agent needs the hub's Kafka: FEDERATION_KAFKA_BOOTSTRAP", "KAFKA_BOOTSTRAP")
    health = Health()
    probes = probe_loops(settings, {"loops": partial(_loops_health, health)})
    log = open_log(settings)
    gateway = kubernetes_gateway(settings, settings.context)
    try:
        loops = {"agent": agent_loop(settings, settings.cluster, gateway, log), **probes}
        await supervise(loops, stop, health)
    finally:
        await gateway.close()
        await log.close()


def kubernetes_gateway(settings: Settings, context: str) -> KubernetesGateway:
    """A real member: by the kubeconfig that the operator names, else from inside the cluster."""
    outside = bool(settings.kubeconfig or context)
    access = Kubeconfig(settings.kubeconfig, context) if outside else InCluster()
    return KubernetesGateway(access)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """The REST API alone."""
    server = listen(settings)
    async with open_hub(settings) as hub:
        await supervise({"api": partial(serve_api, hub, server)}, stop, hub.health)


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """The hub's loops alone."""
    async with open_hub(settings) as hub:
        await supervise({**work_loops(hub), **probe_loops(settings, hub_checks(hub))}, stop, hub.health)
