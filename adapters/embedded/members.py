"""The simulated members of the embedded default: six clusters in three regions, durable in a file of their own."""

import asyncio
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from adapters.embedded.members_file import MembersFile
from adapters.embedded.members_load import CALM as CALM
from adapters.embedded.members_load import GPU, Background, Weather
from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_documents import Journal, restore
from adapters.memory.gateway import SimulatedGateway
from federation.domain.events import Taint
from federation.ports import Clock

REGION: Final = "topology.kubernetes.io/region"
ZONE: Final = "topology.kubernetes.io/zone"
PROVIDER: Final = "federation.io/provider"
STEP_SECONDS: Final = 0.2
_TICK_MS: Final = 2_000


class Profile(Struct, frozen=True):
    """How a member is built: *nodes* of *cores*, and *gpu_nodes* with eight GPUs each, tainted or not."""

    name: str
    region: str
    provider: str
    nodes: int
    cores: int
    gpu_nodes: int = 0
    tainted: bool = False


PROFILES: Final = (
    Profile("eu-west", "eu-1", "aws", 24, 16),
    Profile("eu-north", "eu-1", "gcp", 10, 64, 3, True),
    Profile("us-east", "us-1", "aws", 40, 8),
    Profile("us-west", "us-1", "azure", 16, 32, 2, False),
    Profile("ap-south", "ap-1", "gcp", 12, 16),
    Profile("ap-east", "ap-1", "azure", 8, 8),
)


class Member:
    """One simulated member: its gateway for the agent, and `run` to keep it alive."""

    def __init__(self, cluster: SimulatedCluster, file: MembersFile, clock: Clock, background: Background) -> None:
        self.name = cluster.name
        self.cluster = cluster
        self.gateway = SimulatedGateway(cluster, clock, self.keep)
        self._journal = Journal(cluster)
        self.file = file
        self._clock = clock
        self._background = background
        self._ticked_ms = 0
        file.enter()

    def keep(self) -> None:
        """Write what changed, if anything did; what could not be written is written the next time."""
        if self._journal:
            self.file.save(self.name, self._journal.pending())
            self._journal.kept()

    def found(self) -> None:
        """A new member: full to its usual load, and kept."""
        self._background.fill(self._clock.now_ms())
        self._journal.note_all()
        self.keep()

    def step(self) -> None:
        """Do what is due, others' doings included, and keep it before anyone can look."""
        now_ms = self._clock.now_ms()
        self.cluster.step(now_ms)
        if abs(now_ms - self._ticked_ms) >= _TICK_MS:
            self._ticked_ms = now_ms
            self._background.tick(now_ms)
        self.keep()

    async def run(self, stop: asyncio.Event) -> None:
        """Live until *stop*."""
        while not stop.is_set():
            self.step()
            await self._clock.sleep(STEP_SECONDS)

    async def close(self) -> None:
        """Keep what is left, and let go of the file."""
        await self.gateway.close()
        self.keep()
        self.file.leave()


async def open_members(
    path: Path, clock: Clock, *, count: int = 6, seed: int = 1, weather: Weather | None = None
) -> list[Member]:
    """The members kept in *path*, as they were left; those that are not there yet are founded."""
    file = await asyncio.to_thread(MembersFile, path)
    members = []
    for number, profile in enumerate(islice(cycle(PROFILES), count)):
        name = profile.name if number < len(PROFILES) else f"{profile.name}-{number // len(PROFILES) + 1}"
        members.append(_open_member(_cluster(name, profile, seed), file, clock, (weather or Weather(), seed, profile)))
        await asyncio.sleep(0)
    return members


def _cluster(name: str, profile: Profile, seed: int) -> SimulatedCluster:
    return SimulatedCluster(name, seed=seed, labels={REGION: profile.region, PROVIDER: profile.provider})


def _open_member(
    cluster: SimulatedCluster, file: MembersFile, clock: Clock, options: tuple[Weather, int, Profile]
) -> Member:
    weather, seed, profile = options
    kept = file.load(cluster.name)
    if kept:
        restore(cluster, kept)
    else:
        cluster.step(clock.now_ms())
        _build(cluster, profile)
    member = Member(cluster, file, clock, Background(cluster, weather, seed))
    if not kept:
        member.found()
    return member


def _build(cluster: SimulatedCluster, profile: Profile) -> None:
    for number in range(profile.nodes):
        has_gpus = number >= profile.nodes - profile.gpu_nodes
        quantities = {"cpu": str(profile.cores), "memory": f"{profile.cores * 4}Gi", "ephemeral-storage": "200Gi"}
        zone = f"{profile.region}{'abc'[number % 3]}"
        cluster.add_node(
            f"{cluster.name}-{number:02}",
            {**quantities, **({GPU: "8"} if has_gpus else {})},
            labels={REGION: profile.region, ZONE: zone, **({"accelerator": "nvidia"} if has_gpus else {})},
            taints=(Taint(key="gpu", effect="NoSchedule"),) if has_gpus and profile.tainted else (),
        )
