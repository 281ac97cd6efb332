"""The whole system as its operators run it: the real program, one process a role, on real parts.

A hub (`migrate`, `serve`, `work`) on PostgreSQL and Kafka, and an agent beside each member cluster that reaches it as
the ServiceAccount of the agent's own manifests. Times are short, so that what waits for them is seen soon.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.hub import Hub
from tests.integration.kubernetes_world import agent_token, write_kubeconfig
from tests.testbed.kafka import KafkaBroker
from tests.testbed.member import MemberCluster, Members
from tests.testbed.postgres import Postgres
from tests.testbed.processes import Process, free_port, listens, remove_folder, temporary_folder

ROOT: Final = Path(__file__).parents[2]
# The clusters, each with its region.
CLUSTERS: Final = {"east": "eu-1", "west": "eu-2", "north": "us-1"}
# This cluster's agent writes to a topic of its own, as where each cluster has its own principal.
APART: Final = "north"
NODES: Final = 3
NODE_CORES: Final = 8
DATABASE: Final = "federation_e2e"
NODES_PATH: Final = "/api/v1/nodes"
LEASES_PATH: Final = "/apis/coordination.k8s.io/v1/namespaces/federation-system/leases"
ORDERS_PATH: Final = "/api/v1/namespaces/federation-system/configmaps"
TOPICS: Final = "federation."
HEARTBEAT_SECONDS: Final = 1
SILENT_AFTER_SECONDS: Final = 6
HOLD_DEADLINE_SECONDS: Final = 12
# Of an agent in its cluster: after so long without a renewal another takes over.
LEASE_SECONDS: Final = 15
START_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the system stands on."""

    kafka: KafkaBroker
    postgres: Postgres
    members: Members


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the system, which may end and be started again as it was."""

    process: Process
    env: Mapping[str, str]

    def start(self) -> None:
        self.process.start(self.env)
        address = self.env.get("FEDERATION_LISTEN")
        if address is not None:
            port = int(address.rpartition(":")[2])
            self.process.wait_until(lambda: listens(port), START_SECONDS)

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()

    def log(self) -> str:
        """All that it has logged, over its starts."""
        return self.process.log.read_text(errors="replace")

    async def logs(self, words: str, times: int = 1) -> None:
        """Wait until it has logged *words* so many times."""
        ends = time.monotonic() + START_SECONDS
        while self.log().count(words) < times:
            assert time.monotonic() < ends, f"{self.process.name} never logged {words!r}:\n{self.process.tail()}"
            await asyncio.sleep(0.1)


class System:
    """The processes by name: `serve`, `work`, `agent-east` and so on; what tests add is gone after each."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.folder = temporary_folder("e2e")
        self.programs: dict[str, Program] = {}
        self._numbers = count(1)
        self.database = ""
        self.hub = Hub("", self.logs)

    def member(self, cluster: str) -> MemberCluster:
        """The cluster itself, for its administrator."""
        return self.parts.members[cluster]

    def logs(self) -> str:
        """The last lines of every process."""
        return "\n".join(f"--- {name}\n{program.process.tail()}" for name, program in self.programs.items())

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and wait until every cluster is ready in the pool."""
        self.parts.postgres.drop_database(DATABASE)
        self.database = self.parts.postgres.create_database(DATABASE)
        await self._delete_topics()
        await asyncio.gather(*(self._prepare(cluster) for cluster in CLUSTERS))
        await asyncio.to_thread(self._once, "migrate")
        self.hub.url = self.serve("serve").url
        self.run("work", "work")
        for cluster in CLUSTERS:
            self.run(f"agent-{cluster}", "agent", self.agent_settings(cluster))
        await self.hub.until("/v1/pool", lambda pool: pool["usable"] == len(CLUSTERS), START_SECONDS)

    async def close(self) -> None:
        """Stop everything, and leave the parts as they were found."""
        for program in self.programs.values():
            program.kill()
        await asyncio.gather(*(self._leave(self.member(cluster)) for cluster in CLUSTERS))
        await self._delete_topics()
        self.parts.postgres.drop_database(DATABASE)
        remove_folder(self.folder)

    def run(self, name: str, role: str, settings: Mapping[str, str] | None = None) -> Program:
        """Start a process of that role under that name."""
        log = self.folder / f"{name}-{next(self._numbers)}.log"
        process = Process(name, [sys.executable, "-m", "federation", role], log)
        program = self.programs[name] = Program(process, self.environment(settings or {}))
        program.start()
        return program

    def serve(self, name: str, **settings: str) -> Hub:
        """Start an API under that name, on a port of its own."""
        address = f"127.0.0.1:{free_port()}"
        self.run(name, "serve", {"LISTEN": address, **settings})
        return Hub(f"http://{address}", self.logs)

    def end(self, name: str) -> None:
        """End a process that is needed no more."""
        self.programs.pop(name).process.stop()

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process with *settings* of its own; an empty one is left out."""
        common = {
            "DATABASE_URL": self.database,
            "KAFKA_BOOTSTRAP": self.parts.kafka.bootstrap,
            "HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "SILENT_AFTER_SECONDS": str(SILENT_AFTER_SECONDS),
            "HOLD_DEADLINE_SECONDS": str(HOLD_DEADLINE_SECONDS),
            **settings,
        }
        named = {f"FEDERATION_{name}": value for name, value in common.items() if value}
        return {"PYTHONPATH": str(ROOT), **named}

    def agent_settings(self, cluster: str) -> dict[str, str]:
        """What an agent of *cluster* is told: the cluster and Kafka, and of the hub's database nothing."""
        return {
            "DATABASE_URL": "",
            "CLUSTER": cluster,
            "KUBECONFIG": str(self._kubeconfig(cluster)),
            "CLUSTER_LABELS": f"topology.kubernetes.io/region={CLUSTERS[cluster]}",
            "EVENTS_TOPIC": f"federation.events.{cluster}" if cluster == APART else "",
        }

    # --- the parts ---------------------------------------------------------------------------------------------------

    async def _prepare(self, cluster: str) -> None:
        """An empty cluster with nodes, and the agent's manifests as they are shipped."""
        member = self.member(cluster)
        await member.clear()
        write_kubeconfig(member, self._kubeconfig(cluster), await agent_token(member))
        await member.add_nodes(NODES, cpu=str(NODE_CORES), memory="32Gi")

    async def _leave(self, member: MemberCluster) -> None:
        """Take away what another test could stumble over; each test has taken away its workloads."""
        for path in (NODES_PATH, LEASES_PATH, ORDERS_PATH):
            await member.delete(path)

    def _kubeconfig(self, cluster: str) -> Path:
        return self.folder / f"{cluster}.kubeconfig"

    async def check(self) -> None:
        """The program's own proof of the invariants, on the live database."""
        await asyncio.to_thread(self._once, "check")

    def _once(self, command: str) -> None:
        words = [sys.executable, "-m", "federation", command]
        env = {**os.environ, **self.environment({})}
        run = subprocess.run(words, env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        assert run.returncode == 0, f"federation {command}:\n{run.stdout}{run.stderr}"

    async def _delete_topics(self) -> None:
        """The broker is shared: topics have fixed names, and those of another test must not speak to this hub."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.parts.kafka.bootstrap)
        await admin.start()
        try:
            while found := [name for name in await admin.list_topics() if name.startswith(TOPICS)]:
                await admin.delete_topics(found)
                await asyncio.sleep(0.1)
        finally:
            await admin.close()
