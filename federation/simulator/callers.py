"""What callers and members' own people do in a simulation: one small act at a time, drawn by weight."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from adapters.memory.cluster_state import PodShape
from federation.api.specs import WorkloadBody, read_spec
from federation.domain.errors import Conflict, NotFound, Unavailable
from federation.domain.manifest import deployment_for
from federation.domain.workload import PlacementRules, Strategy, WorkloadSpec
from federation.services.clusters import set_cordoned
from federation.services.workloads import Target, change, create, delete
from federation.simulator.world import World

TEAM: Final = "shop"


class Callers:
    """Those who ask for workloads. *accepted* are the ids that were answered with success; *ended* those let go."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._count = 0
        self.accepted: dict[str, WorkloadBody] = {}
        self.ended: set[str] = set()

    async def act(self) -> str:
        """One act; what was done."""
        verbs: Mapping[str, Callable[[], Awaitable[str]]] = {
            "create": self._create,
            "burst": self._burst,
            "scale": self._scale,
            "resize": self._resize,
            "delete": self._delete,
            "cordon": self._cordon,
            "foreign": self._foreign,
            "nothing": self._nothing,
        }
        weights = self._world.scenario.callers
        verb = self._rng.choices(list(weights), list(weights.values()))[0]
        try:
            return f"{verb} {await verbs[verb]()}"
        except (Unavailable, Conflict, NotFound) as error:
            return f"{verb} refused: {error}"

    async def _nothing(self) -> str:
        return ""

    async def _create(self) -> str:
        if len(self._living()) >= self._world.scenario.workloads:
            return "enough"
        self._count += 1
        body = self._body(f"w{self._count}")
        made = await create(self._world.api, self._world.caller, _spec(body))
        self.accepted[made.workload] = body
        return f"{made.workload} {body.replicas}"

    async def _burst(self) -> str:
        return " ".join([await self._create() for _ in range(self._rng.randint(2, 6))])

    async def _scale(self) -> str:
        body = self._one()
        return "nobody" if body is None else await self._change(body[0], replicas=self._replicas())

    async def _resize(self) -> str:
        found = self._one()
        if found is None or found[1].manifest is None or found[1].manifest["kind"] != "Deployment":
            return "nobody"
        return await self._change(
            found[0], manifest=self._manifest(found[1].manifest["metadata"]["name"], "Deployment")
        )

    async def _change(self, key: str, **fields: Any) -> str:
        body = _replaced(self.accepted[key], fields)
        await change(self._world.api, self._world.caller, Target(id=key), lambda _before: _spec(body))
        self.accepted[key] = body
        return f"{key} {body.replicas}"

    async def _delete(self) -> str:
        found = self._one()
        if found is None:
            return "nobody"
        self.ended.add(found[0])
        await delete(self._world.api, self._world.caller, Target(id=found[0]))
        return found[0]

    async def _cordon(self) -> str:
        name = self._rng.choice(list(self._world.members))
        cordoned = self._rng.random() < 0.4
        await set_cordoned(self._world.api, self._world.caller, name, cordoned)
        return f"{name} {cordoned}"

    async def _foreign(self) -> str:
        """Somebody else's pod comes into a member, or goes."""
        member = self._world.members[self._rng.choice(list(self._world.members))]
        foreign = [pod for pod in member.pods.values() if not pod.owner]
        if foreign and (len(foreign) > 2 or self._rng.random() < 0.5):
            member.delete_pod(self._rng.choice(foreign))
            return f"leaves {member.name}"
        member.add_foreign_pod(PodShape(requests={"cpu": self._rng.choice((500, 1000)), "memory": 2**29}))
        return f"comes to {member.name}"

    # --- what they ask for -------------------------------------------------------------------------------------------

    def _living(self) -> list[str]:
        return [key for key in self.accepted if key not in self.ended]

    def _one(self) -> tuple[str, WorkloadBody] | None:
        living = self._living()
        key = self._rng.choice(living) if living else ""
        return (key, self.accepted[key]) if key else None

    def _replicas(self) -> int:
        return self._world.span(self._world.scenario.replicas)

    def _body(self, name: str) -> WorkloadBody:
        kinds = self._world.scenario.kinds
        kind = self._rng.choices(list(kinds), list(kinds.values()))[0]
        strategy = self._rng.choice((Strategy.DYNAMIC, Strategy.DYNAMIC, Strategy.AGGREGATED, Strategy.STATIC))
        rules = PlacementRules(strategy=strategy, partial=self._rng.choice(("never", "allow", "allow")))
        priority = self._rng.choice((0, 0, 10))
        manifest, replicas = self._manifest(name, kind), self._replicas()
        return WorkloadBody(replicas=replicas, priority=priority, manifest=manifest, placement=rules)

    def _manifest(self, name: str, kind: str) -> dict[str, Any]:
        cpu = self._world.span(self._world.scenario.cpu_milli) // 50 * 50
        manifest = deployment_for(name, "example/web:1", 1, {"cpu": f"{cpu}m", "memory": "256Mi"})
        spec = manifest["spec"]
        if kind == "Deployment":
            spec["strategy"] = {"rollingUpdate": {"maxSurge": self._rng.choice((0, 1, "25%"))}}
        if kind == "Job":
            manifest["apiVersion"] = "batch/v1"
            spec["template"]["spec"]["restartPolicy"] = "Never"
            manifest["spec"] = {"parallelism": 1, "completions": self._rng.randint(2, 8), "template": spec["template"]}
        return {**manifest, "kind": kind}


def _spec(body: WorkloadBody) -> WorkloadSpec:
    return read_spec(body, team=TEAM).spec


def _replaced(body: WorkloadBody, fields: Mapping[str, Any]) -> WorkloadBody:
    return replace(body, **fields)
