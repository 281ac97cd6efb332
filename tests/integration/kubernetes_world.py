"""A real member cluster as a world of the gateway contract: the agent's own ServiceAccount, with the role it ships with."""

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from adapters.kubernetes.access import Kubeconfig
from adapters.kubernetes.gateway import KubernetesGateway, Options
from federation.domain.events import Taint
from federation.ports import ClusterGateway
from tests.contract.gateway_world import Condition
from tests.testbed.member import MemberCluster

RBAC = Path(__file__).parents[2] / "deploy" / "agent" / "rbac.yaml"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/federation-system/leases/federation-agent"
ORDERS = "/api/v1/namespaces/federation-system/configmaps/federation-orders"
NUMBERS = count(1)


async def agent_token(member: MemberCluster) -> str:
    """A token of the ServiceAccount that the agent's manifests make."""
    await member.apply_manifest(RBAC)
    path = "/api/v1/namespaces/federation-system/serviceaccounts/federation-agent/token"
    answer = await member.create(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    return str(answer["status"]["token"])


def write_kubeconfig(member: MemberCluster, path: Path, token: str) -> Path:
    """A kubeconfig whose only user has *token*."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "east", "cluster": {"server": member.url, "certificate-authority": str(member.ca)}}],
        "users": [{"name": "agent", "user": {"token": token}}],
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": "agent"}}],
        "current-context": "east",
    }
    path.write_text(json.dumps(content))
    return path


class RealWorld:
    """A namespace and nodes of this test's own in the shared member."""

    def __init__(self, member: MemberCluster, kubeconfig: Path) -> None:
        number = next(NUMBERS)
        self.member, self.kubeconfig = member, kubeconfig
        self.namespace, self.pool = f"team-{number}", f"pool-{number}"
        self.real = self.another_gateway()
        self.gateway: ClusterGateway = self.real

    def another_gateway(self, options: Options | None = None) -> KubernetesGateway:
        """As another process would have it."""
        return KubernetesGateway(Kubeconfig(str(self.kubeconfig)), options)

    async def add_node(self, name: str, allocatable: Mapping[str, str], taints: tuple[Taint, ...] = ()) -> None:
        """A node for the pods of this world alone; ready once kwok has seen it."""
        full, resources = f"{self.pool}-{name}", {"pods": "110", **allocatable}
        marks = [{"key": each.key, "value": each.value, "effect": each.effect} for each in taints]
        node = {
            "metadata": {"name": full, "labels": {"pool": self.pool, "kubernetes.io/hostname": full}},
            "spec": {"taints": marks},
            "status": {"allocatable": resources, "capacity": resources},
        }
        await self.member.create("/api/v1/nodes", node)
        await self.member.wait_for(f"/api/v1/nodes/{full}", _takes_pods)

    async def wait_until(self, condition: Condition, seconds: float = 60) -> None:
        """Real time passes by itself."""
        until = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < until, f"not within {seconds} s"
            await asyncio.sleep(0.05)

    async def make(self, path: str, body: Any) -> Any:
        """Create something in the world's namespace as admin."""
        group, _, plural = path.rpartition("/")
        return await self.member.create(f"{group}/namespaces/{self.namespace}/{plural}", body)


def _takes_pods(node: Any) -> bool:
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", ()))
    return ready and not any("not-ready" in each["key"] for each in node["spec"].get("taints", ()))
