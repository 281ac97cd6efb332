"""A whole Kubernetes member cluster: etcd, API server, controller manager, scheduler, and kwok for the kubelets.

Starting and stopping block (a few seconds); what talks to the API is async. RBAC is on: `admin` may do everything,
`agent` what the manifests that a test applies allow.
"""

import asyncio
import http.client
import json
import secrets
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from tests.testbed.build import ensure_kubernetes
from tests.testbed.certificates import make_certificates
from tests.testbed.control_plane import ControlPlane, Layout
from tests.testbed.processes import free_port, remove_folder, temporary_folder

REQUEST_TIMEOUT_SECONDS: Final = 20
POLL_SECONDS: Final = 0.1
ADMIN: Final = "admin"
AGENT: Final = "agent"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
# What `clear` takes away, beside the pods; those that own others first.
CLEARED: Final = (
    ("apis/apps/v1", "deployments"),
    ("apis/apps/v1", "statefulsets"),
    ("apis/apps/v1", "replicasets"),
    ("apis/batch/v1", "jobs"),
    ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    ("apis/policy/v1", "poddisruptionbudgets"),
    ("apis/coordination.k8s.io/v1", "leases"),
    ("api/v1", "services"),
    ("api/v1", "configmaps"),
    ("api/v1", "secrets"),
    ("api/v1", "resourcequotas"),
    ("api/v1", "limitranges"),
)

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API server said."""

    status: int
    body: Json

    def checked(self) -> Json:
        """The body of a success; a refusal fails the test with the server's words."""
        assert self.status < 300, f"{self.status}: {self.body}"
        return self.body


class MemberCluster:
    """A member that keeps its state and its port until `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = temporary_folder(f"member-{name}")
        self.tokens = {ADMIN: secrets.token_urlsafe(16), AGENT: secrets.token_urlsafe(16)}
        self._programs = ensure_kubernetes()
        certificates = make_certificates(self.folder)
        self.ca = certificates.ca
        self._port = free_port()
        self._tls = ssl.create_default_context(cafile=str(self.ca))
        layout = Layout(
            folder=self.folder,
            port=self._port,
            server_pem=certificates.server,
            token_file=self._write_tokens(),
            admin_kubeconfig=self.kubeconfig(ADMIN),
        )
        self._plane = ControlPlane(self._programs, layout, self._ready)

    @property
    def url(self) -> str:
        """Where the API server is."""
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start everything on the state that is there, and wait until the cluster works."""
        self._plane.start()

    def stop(self) -> None:
        """Stop everything; the state stays."""
        self._plane.stop()

    def close(self) -> None:
        """Stop everything and forget the state."""
        self._plane.kill()
        remove_folder(self.folder)

    def stop_api(self) -> None:
        """Stop only the API server; it would wait long for the watches that are open."""
        self._plane.apiserver.stop(grace_seconds=1)

    def start_api(self) -> None:
        """Bring the API server back on the same port."""
        self._plane.start_api()

    def pause_api(self) -> None:
        """Freeze the API server: connections stay open and nothing is answered."""
        self._plane.apiserver.pause()

    def resume_api(self) -> None:
        """Let the API server go on after a pause."""
        self._plane.apiserver.resume()

    def logs(self) -> str:
        """The last lines that every process of the cluster has logged."""
        return self._plane.logs()

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig file for `admin` or `agent`."""
        path = self.folder / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": user}}],
            "current-context": self.name,
        }
        path.write_text(json.dumps(content, indent=1))
        path.chmod(0o600)
        return path

    async def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        user: str = ADMIN,
        token: str | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request with JSON in and out, as *user* or with another token; a refusal is an answer too."""
        async with self._session(token or self.tokens[user]) as session:
            return await _send(session, method, self.url + path, body, content_type)

    async def get(self, path: str, **query: str) -> Json:
        """What is at *path*, read as admin; it must be there."""
        return (await self.request("GET", f"{path}?{urlencode(query)}" if query else path)).checked()

    async def create(self, path: str, body: Json) -> Json:
        """Create an object as admin."""
        return (await self.request("POST", path, body)).checked()

    async def patch(self, path: str, body: Json, content_type: str = MERGE) -> Json:
        """Change an object as admin."""
        return (await self.request("PATCH", path, body, content_type=content_type)).checked()

    async def delete(self, path: str, **query: str) -> Json:
        """Delete an object, or a collection, as admin."""
        return (await self.request("DELETE", f"{path}?{urlencode(query)}" if query else path)).checked()

    async def wait_for(self, path: str, predicate: Callable[[Json], bool], timeout_seconds: float = 20) -> Json:
        """Read *path* again and again until its body satisfies *predicate*, and answer that body."""
        last: Answer | None = None
        try:
            async with asyncio.timeout(timeout_seconds), self._session(self.tokens[ADMIN]) as session:
                while True:
                    last = await _send(session, "GET", self.url + path, None, "application/json")
                    if last.status < 300 and predicate(last.body):
                        return last.body
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            seen = json.dumps(last.body if last else None)[:3000]
            raise AssertionError(f"{self.name}: {path} was not as wanted in {timeout_seconds} s: {seen}") from None

    async def create_namespace(self, name: str) -> None:
        """Create a namespace, if it is not there."""
        answer = await self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert answer.status in (201, 409), answer.body

    async def add_nodes(
        self,
        count: int,
        cpu: str = "8",
        memory: str = "32Gi",
        *,
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        prefix: str = "n",
    ) -> list[str]:
        """Create nodes `n-0`, `n-1`, … after those of that prefix that are there; answers their names once ready."""
        there = _names(await self.get("/api/v1/nodes"))
        first = next(i for i in range(len(there) + 1) if f"{prefix}-{i}" not in there)
        names = [f"{prefix}-{i}" for i in range(first, first + count)]
        resources = {"cpu": cpu, "memory": memory, "pods": "110"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
        nodes = [_node(name, resources, labels or {}, taints) for name in names]
        async with self._session(self.tokens[ADMIN]) as session:
            path = f"{self.url}/api/v1/nodes"
            answers = await asyncio.gather(*(_send(session, "POST", path, n, "application/json") for n in nodes))
        for answer in answers:
            answer.checked()
        await self.wait_for("/api/v1/nodes", lambda body: set(names) <= _schedulable(body), 30)
        return names

    async def set_node_ready(self, name: str, ready: bool) -> None:
        """Let the node fail, or recover."""
        path = f"/api/v1/nodes/{name}"
        await self.patch(path, {"metadata": {"annotations": {"testbed/down": None if ready else "true"}}})
        status = {"type": "Ready", "status": "True" if ready else "False", "reason": "TestBed", "message": "set"}
        await self.patch(f"{path}/status", {"status": {"conditions": [status]}}, STRATEGIC)

    async def apply_manifest(self, path: Path) -> None:
        """Apply all documents of a YAML file as admin."""
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))

    async def apply_text(self, text: str) -> None:
        """Apply all documents of a YAML text as admin."""
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    async def kubectl(self, *arguments: str, stdin: str = "", user: str = ADMIN) -> str:
        """Run kubectl as *user*; answers what it prints, and fails the test when it fails."""
        options = [f"--kubeconfig={self.kubeconfig(user)}", f"--cache-dir={self.folder / 'kubectl'}"]
        command = [str(self._programs.kubectl), *options, *arguments]
        result = await asyncio.to_thread(
            subprocess.run, command, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    async def clear(self) -> None:
        """Empty every namespace but Kubernetes' own, and delete all nodes; the namespaces and their roles stay.

        (To delete a namespace takes Kubernetes five seconds, and emptying it some milliseconds.)
        """
        names = _names(await self.get("/api/v1/namespaces")) - {"kube-system", "kube-public", "kube-node-lease"}
        await asyncio.gather(*(self._clear_namespace(name) for name in names))
        await self.wait_for("/api/v1/pods", lambda body: not body["items"], 30)
        await self.delete("/api/v1/nodes")
        await self.wait_for("/api/v1/nodes", lambda body: not body["items"], 30)

    async def _clear_namespace(self, name: str) -> None:
        """Owners go before what they would make again."""
        for group, kind in CLEARED:
            await self.delete(f"/{group}/namespaces/{name}/{kind}", propagationPolicy="Background")
        await self.delete(f"/api/v1/namespaces/{name}/pods", gracePeriodSeconds="0")

    def _session(self, token: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=20),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        )

    def _write_tokens(self) -> Path:
        path = self.folder / "tokens.csv"
        path.write_text(
            f'{self.tokens[ADMIN]},{ADMIN},{ADMIN},"system:masters"\n{self.tokens[AGENT]},{AGENT},{AGENT}\n'
        )
        return path

    def _ready(self, path: str) -> bool:
        """Whether the API server answers *path* with 200, asked without an event loop."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=2, context=self._tls)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.tokens[ADMIN]}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Members:
    """The member clusters by name; each starts when it is first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, MemberCluster] = {}

    def __getitem__(self, name: str) -> MemberCluster:
        if name not in self._running:
            self.start(name)
        return self._running[name]

    def start(self, *names: str) -> None:
        """Start those of the clusters that do not run yet, side by side."""
        fresh = {name: MemberCluster(name) for name in names if name not in self._running}
        with ThreadPoolExecutor() as pool:
            list(pool.map(MemberCluster.start, fresh.values()))
        self._running |= fresh

    def close(self) -> None:
        """Stop all and forget their state."""
        for member in self._running.values():
            member.close()


async def _send(session: aiohttp.ClientSession, method: str, url: str, body: Json, content_type: str) -> Answer:
    data = None if body is None else json.dumps(body)
    headers = {"Content-Type": content_type} if data else {}
    async with session.request(method, url, data=data, headers=headers) as response:
        text = await response.text()
        is_json = response.content_type == "application/json"
        return Answer(status=response.status, body=json.loads(text) if is_json else text)


def _node(
    name: str, resources: Mapping[str, str], labels: Mapping[str, str], taints: Sequence[Mapping[str, str]]
) -> dict[str, Json]:
    standard = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**standard, **labels}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": dict(resources), "capacity": dict(resources)},
    }


def _names(body: Json) -> set[str]:
    return {item["metadata"]["name"] for item in body["items"]}


def _schedulable(body: Json) -> set[str]:
    """The nodes that are ready, and from which the taint of new nodes has gone."""
    return {
        node["metadata"]["name"]
        for node in body["items"]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
        and not any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints", []))
    }
